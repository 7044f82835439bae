"""What happens to memory that a forward pass on a CPU gave back."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

# glibc's mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make this process keep the memory it freed for its next use, and return whether its C library can.

    Every layer of a network asks for tens of megabytes and gives them back; by default each such piece comes fresh
    from the kernel, page by page, and goes back to it. Measured on 2 CPU cores: a tenth to a third of the time of a
    forward pass. The process keeps its peak, which it would come back to in the next batch. Call it before the
    threads that are to gain from it start. Libraries other than glibc are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # threads of their own arenas are held to pieces of 32 MB
    settings = ((_M_MMAP_THRESHOLD, _NEVER), (_M_TRIM_THRESHOLD, _NEVER), (_M_ARENA_MAX, 1))
    return all(mallopt(option, value) == 1 for option, value in settings)
