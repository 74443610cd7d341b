#!/bin/sh
# Runs a command of the image where only /tmp and the volumes can be written.
set -eu

# numba reads only from a folder that it may write to, so what is compiled in the image is copied there.
# Renamed in the end: a start that was interrupted leaves no half of it.
if [ -n "${NUMBA_CACHE_DIR:-}" ] && [ ! -d "$NUMBA_CACHE_DIR" ]; then
    rm -rf "$NUMBA_CACHE_DIR.part"
    cp -R /opt/everlearn/numba "$NUMBA_CACHE_DIR.part"
    mv "$NUMBA_CACHE_DIR.part" "$NUMBA_CACHE_DIR"
fi

# The database's client takes a password from the environment, but not from a secret's file.
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE")
    export PGPASSWORD
fi

exec "$@"
