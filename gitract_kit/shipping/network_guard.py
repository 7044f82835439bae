"""What a rehearsal's Pythons tried on the network: noted in a file, and refused.

Copied as ``sitecustomize.py`` into a folder on PYTHONPATH, so that the notebook's kernel, its pip and every other
Python that it starts read it first. Loopback and the machine's own name are not the network. Sockets that
C libraries open themselves pass unseen here; a network namespace, where the system has one, stops those.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from typing import Any

__all__ = ["LOG_VARIABLE", "guard_network"]

LOG_VARIABLE = "GITRACT_NETWORK_LOG"
"""Names the file that every attempt is appended to, one JSON object a line."""

_LOCAL_HOSTS = {"", "127.0.0.1", "::1", "0.0.0.0", "::", "localhost", socket.gethostname()}
_CONNECTIONS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


def guard_network() -> None:
    """Note and refuse, for the rest of this process, every connection and name look-up beyond this machine."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _CONNECTIONS:
        target = arguments[1]
        # a Unix socket's address is a path, and a connected socket's None
        host = target[0] if isinstance(target, tuple) else None
    elif event in _LOOK_UPS:
        host = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
    else:
        return
    host = host.decode("utf-8", "replace") if isinstance(host, bytes | bytearray) else host
    if host is None or host in _LOCAL_HOSTS or str(host).startswith("127."):
        return
    _note(event, str(host))
    # what Kaggle's machine answers without internet, so that code which lives with it does so here too
    raise OSError(errno.ENETUNREACH, f"{event} to {host}: the rehearsal has no network")


def _note(event: str, host: str) -> None:
    path = os.environ.get(LOG_VARIABLE)
    if path:
        line = json.dumps({"event": event, "host": host, "program": " ".join(sys.argv[:2])})
        with open(path, "a", encoding="utf-8") as log:
            log.write(line + "\n")


if __name__ == "sitecustomize":
    guard_network()
