"""Build the extension module `convgrad_ext._C` from every C++ file below csrc/."""

import os
import re
from pathlib import Path

from setuptools import setup

try:
    from torch import __version__ as torch_version
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths
except ImportError as error:
    raise SystemExit(
        "convgrad_ext compiles against the PyTorch it will run with, and none is installed here.\n"
        "Install it first, then build without isolation:\n"
        "    pip install --upgrade torch setuptools ninja\n"
        "    pip install --no-build-isolation ."
    ) from error


class IncrementalBuild(BuildExtension):
    """Keep the object files, so that the next build compiles only what has changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # An editable install would otherwise build in a new temporary folder each time.
        self.build_temp = "build/sanitize/objects" if sanitize else "build/objects"


# `make sanitize` builds with AddressSanitizer and UndefinedBehaviorSanitizer, beside the usual
# build. -fno-wrapv undoes Python's -fwrapv, which would define the overflow of integers.
sanitize = os.environ.get("CONVGRAD_SANITIZE") == "1"
sanitizers = ["-fsanitize=address,undefined"] if sanitize else []
checks = ["-O1", "-g1", "-fno-wrapv", "-fno-sanitize-recover=all"] if sanitize else []

# torch would start two jobs more than there are processors.
os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))

# As system headers, torch's own are exempt from the warnings asked for here. The objects do not
# depend on them for ninja either, so that a define, which nothing reads, changes with torch.
torch_headers = [flag for path in include_paths() for flag in ("-isystem", path)]
torch_headers.append("-DCONVGRAD_TORCH_" + re.sub(r"\W", "_", torch_version))

extension = CppExtension(
    "convgrad_ext._C",
    sources=sorted(str(path) for path in Path("csrc").rglob("*.cpp")),
    depends=sorted(str(path) for path in Path("csrc").rglob("*") if path.suffix in {".h", ".inl"}),
    include_dirs=[str(Path("csrc").absolute())],  # absolute: ninja runs in the build folder
    # Before 2.13, torch asked for C++17. at::parallel_for is a header; without OpenMP it would run
    # on one thread. Python asks for debug information (-g), which torch's templates swell to most
    # of the time and of the file: -g0.
    extra_compile_args=[
        *("-std=c++20", "-O3", "-g0", "-fopenmp", "-Wall", "-Wextra", *torch_headers),
        *(sanitizers + checks),  # last, where they override
    ],
    extra_link_args=["-fopenmp", *sanitizers],
)

setup(ext_modules=[extension], cmdclass={"build_ext": IncrementalBuild})
