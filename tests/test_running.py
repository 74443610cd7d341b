"""One server a data folder, one listener a port, and a note of where it answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from everlearn.errors import ConflictError, InvalidError
from everlearn.running import (
    DataLock,
    bind,
    forget_server,
    is_locked,
    is_ready,
    read_server,
    record_server,
    url_of,
)


def test_a_data_folder_has_one_holder(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with DataLock(tmp_path):
        assert is_locked(tmp_path)
        record_server(tmp_path, "http://127.0.0.1:1")
        with (
            pytest.raises(ConflictError, match=r"already at http://127.0.0.1:1 .*--data"),
            DataLock(tmp_path),
        ):
            pass
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with (
        pytest.raises(InvalidError, match=r"file cannot be used \(Not a directory\).*--data"),
        DataLock(file),
    ):
        pass


def test_the_lock_goes_with_its_holder_even_by_kill(tmp_path: Path) -> None:
    code = (
        "import time, sys, pathlib\nfrom everlearn.running import DataLock\n"
        "with DataLock(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_locked(tmp_path)
        holder.kill()
    assert not is_locked(tmp_path)


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0, tmp_path) as taken:
        port = taken.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(ConflictError, match=f"Port {port} .*--port {port + 1}"):
            bind("127.0.0.1", port, tmp_path)
        assert time.monotonic() - started < 2


def test_a_killed_servers_leftovers_are_waited_for(tmp_path: Path) -> None:
    leftover = bind("127.0.0.1", 0, tmp_path)
    port = leftover.getsockname()[1]
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    (tmp_path / "server.json").write_text(
        f'{{"url": "http://127.0.0.1:{port}", "pid": {ended.pid}, "started_at": 0}}'
    )
    threading.Timer(0.4, leftover.close).start()
    with bind("127.0.0.1", port, tmp_path) as mine:
        assert mine.getsockname()[1] == port


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_ours_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="another --host"):
        bind(host, 0, tmp_path)


def test_urls_lead_to_this_machine(tmp_path: Path) -> None:
    with bind("0.0.0.0", 0, tmp_path) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    if socket.has_ipv6:
        try:
            listener = bind("::1", 0, tmp_path)
        except InvalidError:
            return  # compiled in, but switched off on this machine
        with listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_the_note_is_of_its_writer(tmp_path: Path) -> None:
    assert read_server(tmp_path) is None
    record_server(tmp_path, "http://127.0.0.1:8000")
    server = read_server(tmp_path)
    assert server is not None
    assert (server.url, server.pid) == ("http://127.0.0.1:8000", os.getpid())
    forget_server(tmp_path)
    assert read_server(tmp_path) is None
    (tmp_path / "server.json").write_text('{"url": "http://x:1", "pid": 1, "started_at": 0}')
    forget_server(tmp_path)
    assert read_server(tmp_path) is not None
    (tmp_path / "server.json").write_text("{broken")
    assert read_server(tmp_path) is None


def test_nobody_there_is_not_ready(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0, tmp_path) as listener:
        url = url_of(listener)
        assert not is_ready(url, seconds=0.1)  # a queue that nobody takes from
    assert not is_ready(url)
