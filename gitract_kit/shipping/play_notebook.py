"""One notebook executed in a process of its own, cut off from the network and its input locked.

Run as ``python play_notebook.py PLAN.json``, inside the namespaces where there are any. The plan names the notebook,
the working folder, the environment and the folders to lock; what came of it is written to the plan's ``outcome``.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["play_notebook"]

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def play_notebook(plan: Mapping[str, Any]) -> None:
    """Execute ``plan["notebook"]`` into ``plan["executed"]`` and write ``plan["outcome"]``, a JSON object.

    Its keys: ``read_only`` (whether the input could be locked), ``error`` (None, or name and text of what the first
    failing cell raised).
    """
    outcome: dict[str, Any] = {"read_only": False}
    if plan["namespaces"]:
        raise_loopback()
        outcome["read_only"] = lock_folders(plan["read_only"])
    outcome["error"] = _execute(plan)
    Path(plan["outcome"]).write_text(json.dumps(outcome), encoding="utf-8")


def raise_loopback() -> None:
    """Switch this network namespace's loopback on: Kaggle's machine has one, and a notebook's kernel talks over it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def lock_folders(folders: Sequence[str]) -> bool:
    """Make ``folders`` read-only as this mount namespace sees them; False where the system does not let us."""
    for folder in folders:
        for options in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder]):
            if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
                return False
    return True


def _execute(plan: Mapping[str, Any]) -> dict[str, str] | None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    cells = nbformat.read(plan["notebook"], as_version=4)
    client = NotebookClient(
        cells,
        kernel_name=plan["kernel_name"],
        timeout=None,
        resources={"metadata": {"path": plan["working"]}},
    )
    try:
        client.execute(env=plan["environment"])
    except CellExecutionError as error:
        return {"name": error.ename, "text": error.evalue}
    except DeadKernelError as error:
        return {"name": "DeadKernelError", "text": f"the notebook's process ended by itself ({error})"}
    finally:
        Path(plan["executed"]).write_text(nbformat.writes(cells), encoding="utf-8")
    return None


if __name__ == "__main__":
    play_notebook(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
