"""The C library's allocator keeps freed memory instead of giving it back page by page.

A training pass frees and asks for the same large blocks again and again; with glibc's defaults each goes through the
kernel, which clears its pages anew. No number depends on it.
"""

from __future__ import annotations

import ctypes
import functools
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of `mallopt` (malloc.h)."""
NEVER = -1
"""As a threshold: freed memory is never given back (mallopt(3))."""
ROOM = 64 * 2**20
"""Bytes by which the heap grows at least."""


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc, once a process; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER), (TOP_PAD, ROOM)))
