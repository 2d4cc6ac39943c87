"""Each process of test_distributed.py runs it: distributed_cells.py RANK FOLDER MESH [CELL ...].

A cell is a check that all processes make together. A warning is an error.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import sharded_cells
import torch
import torch.distributed as dist
import training_cells
from torch.distributed.device_mesh import init_device_mesh

CELLS = {**sharded_cells.CELLS, **training_cells.CELLS}


def run(rank: int, world: int, folder: Path, shape: tuple[int, ...], names: list[str]) -> None:
    """Writes the result of each cell beside the store: nothing, or the error."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    torch.set_warn_always(True)  # in every cell, not in the first
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    mesh = init_device_mesh("cpu", shape)
    outcomes: dict[str, str] = {}
    for name in names:
        try:
            CELLS[name](mesh)
            outcomes[name] = ""
        except Exception:
            outcomes[name] = f"process {rank}: {traceback.format_exc()}"
        (folder / f"{rank}.json").write_text(json.dumps(outcomes))
    dist.destroy_process_group()


if __name__ == "__main__":
    rank, folder, shape, *names = sys.argv[1:]
    sizes = tuple(map(int, shape.split("x")))
    run(int(rank), torch.Size(sizes).numel(), Path(folder), sizes, names or list(CELLS))
