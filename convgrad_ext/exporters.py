"""What conv2d does while ``torch.jit.trace`` records it."""

from __future__ import annotations

import warnings
from typing import Any

from torch.jit import TracerWarning, is_tracing  # type: ignore[attr-defined]


def warn_if_padding_is_fixed(padding: Any, stride: tuple[int, ...]) -> None:
    """A trace holds numbers: those of strided 'same' belong to the image that was traced."""
    if padding == "same" and is_tracing() and stride != (1, 1):
        warnings.warn(
            f"convgrad_ext: padding='same' with stride={stride} depends on the image's size, and "
            f"the trace keeps what it is for this image; torch.jit.script and torch.export do not",
            TracerWarning,
            stacklevel=2,
        )
