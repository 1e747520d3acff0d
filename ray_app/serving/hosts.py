"""Which names a server is reached by. A page of another site can have its own name point at this machine (DNS
rebinding): what carries that name is not for us, whatever it asks.

In: a Host header, or an Origin. Out: whether it is one the server was started for.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

ANY = "*"
HOST = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")  # name or address, and a port
LOCAL = ("localhost",)
NOT_SERVED = "this host name is not served here; start it with --allowed-hosts NAME (allowed_hosts in serve.yaml)"


@dataclass(frozen=True)
class AllowedHosts:
    """Names, in lower case and without port; ANY for all. An address in figures is nobody's to rebind: always allowed.

    `.shop.example` stands for that name and all below it.
    """

    names: tuple[str, ...] = (ANY,)

    def admits(self, host: str) -> bool:
        """Whether a Host header (`name`, `name:port`, `[address]:port`) is allowed."""
        if ANY in self.names:
            return True
        name = _name(host)
        return _is_address(name) or any(_matches(name, allowed) for allowed in self.names)

    def admits_origin(self, origin: str) -> bool:
        """Whether a page of this origin may open a websocket."""
        return ANY in self.names or self.admits(urlsplit(origin).netloc.rpartition("@")[2])


def allowed_hosts(host: str, given: Collection[str], *, token: bool) -> AllowedHosts:
    """The names for a server that listens at `host`: those given, else loopback's, and the host's own.

    Behind a token any name is right at an address that others reach: which names lead there is not known here, and
    a page of another site does not know the token.
    """
    if given:
        return AllowedHosts(tuple(name.lower() for name in (*given, *LOCAL)))
    if host not in LOCAL and not _is_loopback(host) and token:
        return AllowedHosts()
    return AllowedHosts((*LOCAL, host.lower()))


def _name(host: str) -> str:
    """The name or address in a Host header; "" where it is none. A URL parser would take `evil.example\\@localhost`."""
    found = HOST.fullmatch(host)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def _matches(name: str, allowed: str) -> bool:
    return name == allowed.lstrip(".") or (allowed.startswith(".") and name.endswith(allowed))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback
