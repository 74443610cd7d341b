"""Where a server may go with a URL that somebody wrote: to hosts on a list, and of those only to addresses
that are public.

Whoever may write a URL that a server then calls can make it call what only it can reach: a cloud's metadata,
a database, the server itself (server-side request forgery; CWE-918). So the host of a URL must be listed; its
name is resolved here, each address is looked at, and the connection is made to the very address that was
looked at, so that a name that resolves to another one a moment later gains nothing. Redirects are not
followed, or each is looked at in the same way.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from everlearn.errors import Fault, InvalidError, UnavailableError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host; raises UnavailableError where it has none now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnavailableError(f"{host} cannot be found: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Words:
    """What a host that is not listed may not be used for, and the names of the two lists."""

    purpose: str
    hosts: str
    networks: str


SENDING = Words("send to", "'allow'", "'allow_networks'")
"""Of those who send alerts."""


@dataclass(frozen=True, slots=True)
class Guard:
    """``hosts`` that may be called (``host`` or ``host:port``), and ``networks`` that may be reached though
    they are not public. ``words`` are for those who are refused: what is not done, and where the two are set.
    """

    hosts: frozenset[str]
    networks: tuple[Network, ...] = ()
    look_up: Callable[[str, int], list[str]] = resolve
    words: Words = SENDING

    def check(self, url: str, field: str = "url") -> SplitResult:
        """The parts of a URL that may be called; raises InvalidError that names ``field``."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), port_of(parts)
        except ValueError:
            raise _refused(field, "is no URL") from None
        if parts.scheme not in ("https", "http") or not host:
            raise _refused(field, "must begin with https://")
        if parts.username is not None or parts.password is not None:
            raise _refused(field, "must not hold a user or a password")
        if any(c.isspace() or not c.isprintable() for c in url):
            raise _refused(field, "must not hold spaces or control characters")
        if host not in self.hosts and f"{host}:{port}" not in self.hosts:
            raise _refused(
                field, f"{host} is not a host to {self.words.purpose}: add it to {self.words.hosts}"
            )
        if f"{host}:{port}" not in self.hosts and (parts.scheme, port) != ("https", 443):
            raise _refused(
                field, f"must use https on port 443, or stand in {self.words.hosts} as {host}:{port}"
            )
        return parts

    def address(self, parts: SplitResult) -> str:
        """The address to connect to; raises InvalidError where the host has one that must not be reached."""
        host = parts.hostname or ""
        found = self.look_up(host, port_of(parts))
        for text in found:
            if not self._reachable(text):
                raise _refused(
                    "url", f"{host} has the address {text}, which is not public: see {self.words.networks}"
                )
        if not found:
            raise UnavailableError(f"{host} has no address")
        return found[0]

    def _reachable(self, text: str) -> bool:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            # The same machine under another name.
            address = address.ipv4_mapped or address.sixtofour or address
        if any(address.version == network.version and address in network for network in self.networks):
            return True
        return address.is_global and not address.is_multicast


def pinned(parts: SplitResult, address: str) -> tuple[str, str]:
    """A URL with an address in the place of its host, and what the header ``Host`` says then."""
    host, port = parts.hostname or "", port_of(parts)
    place = f"[{address}]" if ":" in address else address
    url = f"{parts.scheme}://{place}:{port}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
    usual = port == (443 if parts.scheme == "https" else 80)
    return url, host if usual else f"{host}:{port}"


def port_of(parts: SplitResult) -> int:
    """The port of a URL; raises ValueError for one that is none."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def _refused(field: str, why: str) -> InvalidError:
    return InvalidError(f"{field}: {why}", [Fault(field, why)])
