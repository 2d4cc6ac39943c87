"""Times every kernel against what it would replace, after checking that both give the same.

    python benchmarks/run.py --quick --output results.json
    python benchmarks/run.py --threads 1 --classes depthwise --passes grad_weight --output out.json
    python benchmarks/run.py --quick --kernels conv2d --output itself.json

The last one times F.conv2d against itself: its ratios are as far from 1 as the instrument is off.
Exit code 1: a result was wrong; 2: the request was; 130: interrupted, --resume goes on.
"""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

from benchmarks import allocator
from benchmarks.errors import Parser, exit_code_of


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def parser() -> Parser:
    parser = Parser(
        prog="benchmarks/run.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--dtype", default="float32", help="float32 (default), float64, float16 or bfloat16")
    add("--threads", type=names, help="numbers of threads, as in 1,2; default: 1 and all")
    add("--memory-format", default="nchw", help="nchw (default) or channels_last")
    add(
        "--tf32",
        action="store_true",
        help="allow TF32 on both sides (CUDA); otherwise neither has it",
    )
    add("--classes", type=names, help="the files in benchmarks/shapes; default: all")
    add(
        "--passes",
        type=names,
        help="forward, grad_input, grad_weight, train_step, double_backward, "
        "per_sample; default: all",
    )
    add(
        "--kernels",
        type=names,
        help="ours, as in avx2,avx2+winograd, or conv2d for F.conv2d against itself; "
        "default: the fastest with and without Winograd, with --quick all",
    )
    add("--against", type=names, help="conv2d, aten, unfold; default: all, with --quick conv2d")
    add("--quick", action="store_true", help="a few small layers")
    add(
        "--seconds",
        type=float,
        help="how long to time each layer, pass and number of threads; default: 2, --quick 0.3",
    )
    add("--laps", type=int, default=3, help="in how many parts, minutes apart; default: 3")
    add("--output", type=Path, required=True, help="the result file, for benchmarks/report.py")
    add("--resume", action="store_true", help="go on with the result file")
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    allocator.touch_heap()
    # Only now, for importing torch takes seconds and the process may just have started anew.
    from benchmarks.console import measure
    from benchmarks.devices import open_device

    return measure(arguments, open_device(arguments.device, arguments.tf32))


if __name__ == "__main__":
    allocator.pin()
    sys.exit(exit_code_of("benchmarks/run.py", main, sys.argv[1:]))
