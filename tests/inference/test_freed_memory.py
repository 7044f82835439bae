from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gitract_kit.inference.freed_memory import keep_freed_memory

COUNT = """
import resource
from gitract_kit.inference.freed_memory import keep_freed_memory

def pages_asked_for():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        piece = bytearray(b"x") * 40_000_000
        del piece
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = pages_asked_for()
assert keep_freed_memory()
pages_asked_for()
print(fresh, pages_asked_for())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switch")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert kept < fresh / 10


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not keep_freed_memory()
