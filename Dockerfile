# The images of everlearn: docker build --target api . and the same for worker and dashboard.
# docs/deploy.md says how they are built and run.

ARG PYTHON=3.11.13-slim-bookworm

# -- build: compiles and installs; nothing of this stage runs in production ---------------------------
FROM python:${PYTHON} AS build-api
SHELL ["/bin/sh", "-eu", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# LightGBM is compiled against OpenMP and loads it when the learners are compiled.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
# Without pip inside: what runs cannot install.
RUN python -m venv --without-pip /opt/everlearn \
    && pip --python /opt/everlearn install --constraint constraints.txt '.[arrow,lightgbm,postgres,s3]'
# The learners, compiled once for any processor of this architecture, as the images' variables say too.
ENV NUMBA_CPU_NAME=generic
RUN NUMBA_CACHE_DIR=/opt/everlearn/numba /opt/everlearn/bin/python -m everlearn.learners.ahead
COPY deploy/docker/entrypoint.sh deploy/docker/schema.py /opt/everlearn/
RUN pip --python /opt/everlearn inspect > /opt/everlearn/sbom.json

FROM build-api AS build-worker
RUN pip --python /opt/everlearn install --constraint constraints.txt '.[arrow,celery,lightgbm,mlflow,postgres,s3]' \
    && pip --python /opt/everlearn inspect > /opt/everlearn/sbom.json

FROM build-api AS build-dashboard
RUN pip --python /opt/everlearn install --constraint constraints.txt '.[dashboard]' \
    && pip --python /opt/everlearn inspect > /opt/everlearn/sbom.json

# -- base: Python without a way to install or compile, and a user that owns nothing but its data ------
FROM python:${PYTHON} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="everlearn" \
    org.opencontainers.image.description="Keeps a deployed model current" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    everlearn.sbom="/opt/everlearn/sbom.json"
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && pip uninstall --yes pip setuptools wheel \
    && groupadd --gid 10001 everlearn \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin everlearn \
    && install --directory --owner 10001 --group 10001 --mode 0770 /artifacts
# The root may be read-only: /artifacts is a volume, /tmp a tmpfs, and all else goes to the database.
ENV PATH=/opt/everlearn/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_DIR=/tmp/numba \
    EVERLEARN_DATA=/tmp/everlearn \
    EVERLEARN_ARTIFACTS=/artifacts \
    EVERLEARN_LOG_JSON=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["/opt/everlearn/entrypoint.sh"]

# -- worker: also the scheduler, the mirror and the migration, by its command -------------------------
FROM base AS worker
COPY --from=build-worker /opt/everlearn /opt/everlearn
# A worker has no port. That it runs is seen by its container; this says whether its database is in order.
HEALTHCHECK --interval=60s --timeout=15s --start-period=60s \
    CMD ["/opt/everlearn/entrypoint.sh", "python", "/opt/everlearn/schema.py", "check"]
CMD ["everlearn", "worker"]

# -- dashboard: asks the API alone; it needs no database, no secret and no volume ---------------------
FROM base AS dashboard
COPY --from=build-dashboard /opt/everlearn /opt/everlearn
EXPOSE 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health')"]
CMD ["everlearn", "dashboard", "--host", "0.0.0.0", "--url", "http://api:8000"]

# -- api ----------------------------------------------------------------------------------------------
FROM base AS api
COPY --from=build-api /opt/everlearn /opt/everlearn
ENV EVERLEARN_HOST=0.0.0.0 EVERLEARN_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import sys, everlearn.running as r; sys.exit(not r.is_ready('http://127.0.0.1:8000'))"]
CMD ["python", "-m", "everlearn.api.serve"]
