"""What a run is asked for, checked against what there is."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.devices import AGAINST_ITSELF, BASELINES, Device
from benchmarks.errors import BadInputError, one_of
from benchmarks.kernel_names import plain
from benchmarks.layers import class_names
from benchmarks.operands import DTYPES, MEMORY_FORMATS, Form
from benchmarks.passes import PASSES


@dataclass(frozen=True)
class Settings:
    """All that two runs must share to be one."""

    device: str
    dtype: str
    memory_format: str
    tf32: bool
    threads: tuple[int, ...]
    classes: tuple[str, ...]
    passes: tuple[str, ...]
    kernels: tuple[str, ...]
    against: tuple[str, ...]
    quick: bool

    def form(self, device: Device) -> Form:
        return Form(DTYPES[self.dtype], MEMORY_FORMATS[self.memory_format], device.tensor_device)

    def as_dict(self) -> dict[str, Any]:
        """As JSON gives it back: tuples are lists there."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def settings_from(arguments: Namespace, device: Device) -> Settings:
    """A quick run takes every kernel against F.conv2d.

    A full one takes the fastest, with and without Winograd, against all there is.
    """
    (dtype,) = one_of("dtype", [arguments.dtype], DTYPES)
    (memory_format,) = one_of("memory format", [arguments.memory_format], MEMORY_FORMATS)
    against = one_of("baseline", arguments.against or BASELINES, BASELINES)
    return Settings(
        device=device.name,
        dtype=dtype,
        memory_format=memory_format,
        tf32=arguments.tf32,
        threads=thread_counts(arguments, device),
        classes=one_of("class", arguments.classes or class_names(), class_names()),
        passes=one_of("pass", arguments.passes or PASSES, PASSES),
        kernels=kernels(arguments, device),
        against=against[:1] if arguments.quick and not arguments.against else against,
        quick=arguments.quick,
    )


def kernels(arguments: Namespace, device: Device) -> tuple[str, ...]:
    known = device.kernels(DTYPES[arguments.dtype])
    if not arguments.kernels:
        fastest = tuple(name for name in known if plain(name) == known[0])
        return known if arguments.quick else fastest
    return one_of(f"kernel for {arguments.dtype}", arguments.kernels, (*known, AGAINST_ITSELF))


def thread_counts(arguments: Namespace, device: Device) -> tuple[int, ...]:
    if not arguments.threads:
        return device.thread_counts()
    for name in arguments.threads:
        if not name.isdecimal() or int(name) == 0:
            raise BadInputError(f"threads must be numbers from 1, as in 1,2, but got '{name}'")
    return tuple(map(int, arguments.threads))
