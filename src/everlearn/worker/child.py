"""The process that does a worker's jobs: ``python -m everlearn.worker.child``, started by the worker alone.

It reads jobs from a socket that it inherits and answers what they made, one after the other. It writes
nothing to the database: a job counts only by the transaction of the worker that holds its lease, so this
process may be killed at any time. It stays for many jobs, so that a small one need not wait for imports.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

import msgspec
from loguru import logger

from everlearn import logs
from everlearn.errors import EverlearnError
from everlearn.predictor import Predictor
from everlearn.processes import die_with_parent
from everlearn.types import JobSpec
from everlearn.wiring import Installation, model_names
from everlearn.worker.apart import JOB_FD
from everlearn.worker.attempts import failure_of
from everlearn.worker.channel import Channel
from everlearn.worker.doing import perform
from everlearn.worker.parts import Parts

WARM = ("sklearn.ensemble", "sklearn.linear_model", "skops.io", "safetensors.numpy")
EXPENDABLE = 1000
STEP = 0.01
"""Progress is told when it has grown by this much."""


def main() -> None:
    """Do jobs until the worker hangs up or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to act on
    die_with_parent()
    _first_to_go()
    channel = Channel(socket.socket(fileno=int(os.environ[JOB_FD])))
    installation = Installation.load()
    settings = installation.settings
    logs.setup("job", level=settings.log_level, as_json=settings.log_json)
    warm(installation)
    serve(channel, installation)
    sys.stderr.flush()
    os._exit(0)  # threads in native code would hold up a normal exit


def serve(channel: Channel, parts: Parts) -> None:
    """Answer jobs until the other end hangs up."""
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        answer(channel, msgspec.convert(message, JobSpec), parts)


def answer(channel: Channel, job: JobSpec, parts: Parts) -> None:
    """Do one job, and tell what it made or what went wrong."""
    told = [0.0]
    channel.send({"begun": True})

    def progress(share: float) -> None:
        if share >= told[0] + STEP:
            told[0] = share
            channel.send({"progress": share})

    with logger.contextualize(model=job.model, job=job.id):
        try:
            channel.send({"done": perform(job, parts, progress)})
        except Exception as error:
            failure = failure_of(error)
            channel.send({"failed": [failure.words, failure.passing, failure.traceback]})


def warm(parts: Parts) -> None:
    """Load what jobs need, and what the learners of the models there are have compiled."""
    for module in WARM:
        import_module(module)
    try:
        for model in model_names(parts.models):
            Predictor.new(parts.models.get(model)).warm()
    except EverlearnError as error:  # no database yet; a learner that is not installed; a model just deleted
        logger.debug("the learners are not warmed: {}", error)


def _first_to_go() -> None:
    """Let the kernel take this process, and not the worker or the database, when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE), encoding="ascii")
    except OSError:  # another system than Linux
        return


if __name__ == "__main__":
    main()
