"""The names under which kernels are asked for and reported: with Winograd or without."""

from __future__ import annotations

WINOGRAD = "+winograd"  # behind the name of a kernel that may use it where it gains by it


def plain(name: str) -> str:
    """The kernel without Winograd."""
    return name.removesuffix(WINOGRAD)
