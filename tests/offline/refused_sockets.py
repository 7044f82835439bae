"""Python's sockets refused: what the tests, and every Python they start, run under.

An audit hook sees each connection, datagram and name look-up that Python makes, however the caller got
hold of the socket. Sockets that C libraries open themselves (the message queue between a notebook and
its kernel) pass unseen. A name handed straight to ``socket.connect`` is looked up before Python tells;
its connection is refused all the same.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

__all__ = ["LOOPBACK_VARIABLE", "SocketRefusedError", "refuse_sockets"]

LOOPBACK_VARIABLE = "GITRACT_TESTS_LOOPBACK"
"""Set in the environment, and so inherited by child processes, while loopback may be reached."""

_LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
_CONNECTIONS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
# torchrun asks for the full name of the machine that it runs on, and for nothing else
_OWN_NAME = platform.node()
_LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


# Not an OSError: code that shrugs off a failed connection must not shrug this off.
class SocketRefusedError(RuntimeError):
    """A test, or a process it started, reached for the network."""


def refuse_sockets() -> None:
    """Refuse this process every socket but local ones, for good; loopback as the environment says."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    allowed = _LOOPBACK_HOSTS
    if event in _CONNECTIONS:
        host = _host_of_address(arguments[1])
    elif event in _LOOK_UPS:
        host, allowed = _host_of_look_up(arguments[0]), _LOOPBACK_HOSTS | {_OWN_NAME}
    else:
        return
    if host is None or (host in allowed and os.environ.get(LOOPBACK_VARIABLE) == "1"):
        return
    raise SocketRefusedError(
        f"{event} to {host!r} refused: the tests run without a network; a test that serves itself on "
        "127.0.0.1 is marked with @pytest.mark.loopback"
    )


def _host_of_address(address: Any) -> str | None:
    """The host of an internet address; None for a Unix socket's path and for a socket already connected."""
    return _text(address[0]) if isinstance(address, tuple) else None


def _host_of_look_up(target: Any) -> str | None:
    host = target[0] if isinstance(target, tuple) else target
    return None if host is None else _text(host)


def _text(host: Any) -> str:
    return host.decode("utf-8", "replace") if isinstance(host, bytes | bytearray) else str(host)
