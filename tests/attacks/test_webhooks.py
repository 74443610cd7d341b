"""URLs that a server is to call (server-side request forgery): hosts on a list, and public addresses only."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from everlearn.adapters.alerts import Notice, Plan, Receiver, read_plan, send
from everlearn.adapters.alerts.plan import KNOWN_HOSTS
from everlearn.adapters.guard import Guard
from everlearn.errors import InvalidError

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.7",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",  # a cloud's metadata
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:1::",
]


def guard(*hosts: str, found: Callable[[str, int], list[str]] = lambda *_: ["93.184.216.34"]) -> Guard:
    return Guard(frozenset((*KNOWN_HOSTS, *hosts)), (), found)


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.com.evil.example/api/webhooks/1",
        "https://evil.example/discord.com",
        "https://discord.com@evil.example/",
        "https://evil.example#@discord.com/",
        "https://evil.example\\@discord.com/",
        "https://user:secret@discord.com/api",
        "http://discord.com/api/webhooks/1",
        "http://discord.com:443/api/webhooks/1",
        "https://discord.com:8443/api",
        "https://discord.com:99999/api",
        "https://169.254.169.254/latest/meta-data/",
        "http://localhost:8000/v1/keys",
        "http://[::1]:8000/",
        "http://2130706433/",
        "http://0x7f.1/",
        "file:///etc/passwd",
        "gopher://discord.com:70/",
        "ftp://discord.com/",
        "//discord.com/api",
        "discord.com/api",
        "https:///api",
        "https://discord.com/api\r\nX-Evil: 1",
        "https://discord.com/a b",
        "",
    ],
)
def test_only_listed_hosts_may_be_sent_to(url: str) -> None:
    with pytest.raises(InvalidError, match="target"):
        guard().check(url, "target")


@pytest.mark.parametrize("address", INSIDE)
def test_a_listed_host_with_an_address_inside_is_not_called(address: str) -> None:
    asked = guard("hooks.example.org", found=lambda *_: ["93.184.216.34", address])
    parts = asked.check("https://hooks.example.org/x")
    with pytest.raises(InvalidError, match="not public"):
        asked.address(parts)


def test_networks_that_are_allowed_may_be_reached() -> None:
    inside = Guard(
        frozenset(["hooks.internal:8443"]), (ipaddress.ip_network("10.1.0.0/16"),), lambda *_: ["10.1.2.3"]
    )
    parts = inside.check("https://hooks.internal:8443/x")
    assert inside.address(parts) == "10.1.2.3"
    other = Guard(inside.hosts, inside.networks, lambda *_: ["10.2.0.1"])
    with pytest.raises(InvalidError, match=r"10\.2\.0\.1"):
        other.address(parts)


class Inside:
    """A server that must not be reached, and one that leads there."""

    def __init__(self) -> None:
        self.reached = 0
        self.hosts: list[str | None] = []
        inside = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                inside.hosts.append(self.headers["host"])
                if self.path == "/secret":
                    inside.reached += 1
                self.send_response(307)
                self.send_header("Location", f"http://127.0.0.1:{inside.port}/secret")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - its name for http.server

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def inside() -> Any:
    server = Inside()
    yield server
    server.close()


NOTICE = Notice("1", "drift", "m", 1.0, "text")


def receiver(url: str) -> Receiver:
    return Receiver.model_validate({"name": "r", "kind": "webhook", "url": url, "secret": "x" * 32})


def test_a_redirect_is_not_followed(inside: Inside) -> None:
    plan = Plan(allow=[f"127.0.0.1:{inside.port}"], allow_networks=["127.0.0.0/8"])
    with pytest.raises(InvalidError, match="redirects are not followed"):
        send(NOTICE, receiver(f"http://127.0.0.1:{inside.port}/start"), plan)
    assert inside.reached == 0


def test_a_name_that_resolves_anew_gains_nothing(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is made to the address that was looked at; the name is not asked for again."""
    import socket

    real, asked = socket.getaddrinfo, []

    def rebinding(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "hooks.example.org" else host, port, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    plan = Plan(allow=[f"hooks.example.org:{inside.port}"], allow_networks=["127.0.0.0/8"])
    with pytest.raises(InvalidError, match="redirects"):
        send(NOTICE, receiver(f"http://hooks.example.org:{inside.port}/start"), plan)
    assert asked.count("hooks.example.org") == 1
    assert inside.hosts == [f"hooks.example.org:{inside.port}"]


def test_a_proxy_of_the_environment_is_not_asked(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{inside.port}")
    plan = Plan(allow=["127.0.0.1:9"], allow_networks=["127.0.0.0/8"])
    with pytest.raises(Exception, match="does not answer"):
        send(NOTICE, receiver("http://127.0.0.1:9/x"), plan)
    assert inside.hosts == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("receivers: [{name: a, kind: slack, url: 'http://169.254.169.254/x'}]", "receivers.a.url"),
        ("receivers: [{name: a, kind: slack}]", "url_file"),
        ("receivers: [{name: a, kind: webhook, url: 'https://x.example/y'}]", "secret"),
        ("receivers: [{name: a, kind: email}]", "mail"),
        ("receivers: [{name: 'A B', kind: slack, url: 'https://hooks.slack.com/x'}]", "name"),
        ("cooldown: soon", "duration"),
        ("allow_networks: [home]", "home"),
        ("receivers: [{name: a, kind: slack, url: 'https://hooks.slack.com/x', urll: 1}]", "urll"),
        ("receivers: {", "YAML"),
        ("[1, 2]", "the file"),
    ],
)
def test_a_plan_that_is_wrong_names_the_field_and_never_the_secret(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text(text)
    with pytest.raises(InvalidError, match=said) as raised:
        read_plan(file)
    assert "169.254" not in str(raised.value).replace("169.254.169.254 is not a host", "")
    assert read_plan(tmp_path / "none.yaml") == Plan()


def test_what_stands_in_a_reason_pings_nobody_and_is_no_markup() -> None:
    from everlearn.adapters.alerts.notices import discord, email, slack

    evil = Notice("1", "drift", "m", 1.0, "<!channel> @everyone <script>\r\nBcc: x@y", facts={"a": "<!here>"})
    assert discord(evil)["allowed_mentions"] == {"parse": []}
    told = slack(evil)["blocks"]
    assert told[1]["text"]["type"] == "plain_text"
    assert "<!here>" not in told[2]["text"]["text"]
    message = email(
        Notice("1", "drift", "m\r\nBcc: x@y.example", 1.0, "text"), "a@b.example", ["c@d.example"]
    )
    assert message["Bcc"] is None
