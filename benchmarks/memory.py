"""The memory that one call takes beyond its operands and its results, in a process of its own.

The process is a fork of one that has imported everything and computed nothing, so that it is as
fresh as a new one and takes milliseconds to make. There the resident set is what is in use: the
allocator gives back whatever is freed. The system counts it to about a quarter of a MiB.
"""

from __future__ import annotations

import multiprocessing
import signal
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks import allocator
from benchmarks.jobs import Job
from benchmarks.operands import bytes_of

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@cache
def extra_bytes(job: Job) -> int | None:
    """None where the system does not say what is resident, or the process did not survive."""
    if not PEAK_RESET.exists() or not allocator.can_be_pinned():
        return None
    context = multiprocessing.get_context("forkserver")
    # vmap would import torch._dynamo with its first call, which takes a second.
    context.set_forkserver_preload(["benchmarks.devices", "torch._dynamo"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_extra_bytes, args=(sender, job), daemon=True)
    process.start()
    sender.close()
    try:
        return int(receiver.recv())
    except EOFError:
        return None
    finally:
        process.join()


def send_extra_bytes(sender: Connection, job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is the one to be interrupted
    allocator.give_back_what_is_freed()
    torch.set_num_threads(job.threads)
    sender.send(measure_extra_bytes(job))


def measure_extra_bytes(job: Job) -> int:
    from benchmarks.devices import Cpu

    job.tiny().side(Cpu()).call()  # loads code and starts threads
    side = job.side(Cpu())
    allocator.give_back_now()
    PEAK_RESET.write_text("5")  # the peak becomes what is resident now
    before = resident_bytes("VmRSS")
    results = side.call()
    return max(0, resident_bytes("VmHWM") - before - bytes_of(results))


def resident_bytes(field: str) -> int:
    """VmRSS, what is resident, or VmHWM, the most that ever was."""
    lines = STATUS.read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) << 10
