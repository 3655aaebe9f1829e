"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

# glibc's numbers for mallopt (malloc.h), and the largest values that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_TRIM, _LARGEST_MMAP = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step, instead of requesting it from the kernel again.

    For the whole process, and with glibc only: elsewhere this does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
        library.mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM)
