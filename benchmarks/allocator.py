"""The memory allocator, held still. Imports nothing that takes time: it starts the process anew.

glibc gives large blocks back to the system as soon as they are freed, and each call then pays for
the page faults of its output again: up to four times what the convolution itself takes, and it is
a matter of chance which side is hit. Here freed memory stays with the process, on both sides alike,
and so much of it is touched beforehand that a call finds it wherever glibc happens to look.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

PINNED = {
    "MALLOC_MMAP_MAX_": "0",  # no block is mapped by itself, to be unmapped when freed
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),  # the heap never shrinks
    "MALLOC_TOP_PAD_": str(64 << 20),  # and grows in few steps
}

# mallopt's numbers of the same settings, from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4


def is_pinned() -> bool:
    return all(os.environ.get(name) == value for name, value in PINNED.items())


def can_be_pinned() -> bool:
    return platform.libc_ver()[0] == "glibc"


def pin() -> None:
    """Starts this process anew with the allocator pinned: glibc reads its settings only then."""
    if can_be_pinned() and not is_pinned():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | PINNED)


def touch_heap() -> None:
    """Has the pages of the heap's next bytes made now, which the pinned allocator then keeps."""
    if not is_pinned():
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(heap_bytes())))
    libc.memset(block, 1, ctypes.c_size_t(heap_bytes()))
    libc.free(block)


def heap_bytes() -> int:
    """A GiB, but no more than an eighth of the memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(1 << 30, memory // 8)


def settings() -> str:
    """What a result file says of the allocator."""
    if not is_pinned():
        return "as the system has it"
    pinned = " ".join(f"{name}={value}" for name, value in PINNED.items())
    return f"{pinned}, {heap_bytes() >> 20} MiB touched beforehand"


def give_back_what_is_freed() -> None:
    """The contrary, for a process whose resident memory is to show what is in use."""
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in (
        (TOP_PAD, 0),
        (TRIM_THRESHOLD, 0),
        (MMAP_THRESHOLD, 64 << 10),
        (MMAP_MAX, 1 << 16),
    ):
        mallopt(option, value)


def give_back_now() -> None:
    ctypes.CDLL(None).malloc_trim(0)
