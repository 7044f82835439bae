"""A command run like on Kaggle's machine: without a network where the system lets us, watched for time and memory."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WatchedRun", "namespace_command", "run_watched"]

_POLL_S = 0.25
_PROC = Path("/proc")


@dataclass(frozen=True)
class WatchedRun:
    """How a watched command ended."""

    stopped: str | None
    """None where it ended by itself, else why it was ended: ``time`` or ``memory``."""
    exit_code: int
    seconds: float
    peak_bytes: int | None
    """Most memory that it and all it started held at once; None where the system does not tell."""
    errors: str
    """The end of what it wrote to stderr."""


@functools.cache
def namespace_command() -> tuple[str, ...]:
    """What to put before a command to give it a network and mounts of its own; () where the system refuses."""
    if not (sys.platform == "linux" and shutil.which("unshare") and shutil.which("mount")):
        return ()
    own = ("unshare", "--net", "--mount")
    for command in (own, (*own, "--map-root-user")):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return ()


def run_watched(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    limit_s: float,
    limit_bytes: int,
) -> WatchedRun:
    """Run ``command``, its output going to ``log``, and end it where it needs more time or memory than it may."""
    start = time.monotonic()
    peak = 0
    stopped = None
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output)
        try:
            while process.poll() is None and stopped is None:
                time.sleep(_POLL_S)
                peak = max(peak, _memory_bytes(process.pid))
                if peak > limit_bytes:
                    stopped = "memory"
                elif time.monotonic() - start > limit_s:
                    stopped = "time"
        finally:
            if process.poll() is None:
                _end_tree(process.pid)
        code = process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    return WatchedRun(stopped, code, time.monotonic() - start, peak or None, text[-2000:])


def _end_tree(pid: int) -> None:
    # the notebook's kernel is in a session of its own, so that ending a process group would miss it
    for one in [*_descendants(pid), pid]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*/stat"):
        try:
            # the name in brackets may hold spaces
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = [], [pid]
    while waiting:
        offspring = children.get(waiting.pop(), [])
        found += offspring
        waiting += offspring
    return found


def _memory_bytes(pid: int) -> int:
    """What ``pid`` and all it started hold now; memory that they share is counted once. 0 without /proc."""
    return sum(_share_bytes(one) for one in [pid, *_descendants(pid)])


def _share_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
