"""The report's pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from benchmarks.figures import has, means

BASELINE = "conv2d"
MARKERS = {"forward": "o", "grad_input": "^", "grad_weight": "s"}
OURS, THEIRS = "#1b3a5b", "#f2b134"
OUTLINE: dict[str, Any] = {"color": "none", "markeredgecolor": "0.6"}


def draw_all(lines: pd.DataFrame, limits: tuple[float, float], folder: Path) -> list[str]:
    """The names of the pictures that these lines have the figures for, drawn into the folder."""
    first = lines.iloc[0]
    kernel = lines[lines["kernel"] == first["kernel"]]
    group = kernel[kernel["threads"] == first["threads"]]
    pictures: dict[str, Callable[[], Figure] | None] = {
        "roofline.png": (lambda: draw_roofline(group, limits))
        if group["megabytes"].notna().any()
        else None,
        "ratios.png": (lambda: draw_ratios(means(group, BASELINE)))
        if has(group, BASELINE)
        else None,
        "threads.png": (lambda: draw_threads(kernel)) if kernel["threads"].nunique() > 1 else None,
    }
    for name, draw in pictures.items():
        (folder / name).unlink(missing_ok=True)
        if draw:
            draw().savefig(folder / name, dpi=150)
    return [name for name, draw in pictures.items() if draw]


def draw_roofline(group: pd.DataFrame, limits: tuple[float, float]) -> Figure:
    """Every layer under the two limits of the machine; ours filled, F.conv2d's an outline."""
    rows = group[group["megabytes"].notna()]
    rows = rows.assign(intensity=rows["effective_gflop"] * 1e3 / rows["megabytes"])
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    draw_roof(axes, limits, rows["intensity"])
    tableau = matplotlib.colormaps["tab10"]
    for index, (kind, layers) in enumerate(rows.groupby("class", sort=False)):
        axes.plot([], [], "o", color=tableau(index % 10), label=kind)
        for pass_name, points in layers.groupby("pass"):
            draw_points(axes, points, MARKERS[pass_name], tableau(index % 10))
    for pass_name, marker in MARKERS.items():
        axes.plot([], [], marker, color="black", label=pass_name)
    axes.plot([], [], "o", label=BASELINE, **OUTLINE)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(
        xscale="log", yscale="log", title=f"Roofline: {name_of(group)}", ylabel="effective GFLOP/s",
        xlabel="effective work / memory that has to move [FLOP/byte]",
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_points(
    axes: Axes, points: pd.DataFrame, marker: str, color: tuple[float, float, float, float]
) -> None:
    axes.plot(points["intensity"], points["effective"], marker, color=color)
    if f"effective {BASELINE}" in points:
        theirs = points[f"effective {BASELINE}"]
        axes.plot(points["intensity"], theirs, marker, zorder=1, **OUTLINE)


def draw_roof(axes: Axes, limits: tuple[float, float], intensities: pd.Series) -> None:
    peak, bandwidth = limits
    low, ridge = intensities.min() / 2, peak / bandwidth
    high = max(intensities.max() * 2, ridge)
    x = np.array([low, max(low, ridge), high])
    axes.plot(x, np.minimum(x * bandwidth, peak), color="black")
    axes.annotate(f"peak {peak:.0f} GFLOP/s", (high, peak), ha="right", va="bottom")
    axes.annotate(f"  memory {bandwidth:.0f} GB/s", (low, low * bandwidth), ha="left", va="top")


def draw_ratios(ratios: pd.DataFrame) -> Figure:
    """Geometric means of the ratios, a bar a pass, by class."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    (ratios - 1).plot.bar(ax=axes, bottom=1, width=0.8, rot=0, xlabel="")
    axes.axhline(1, color="black", linewidth=1)
    axes.set(yscale="log", ylabel=f"speed / that of {BASELINE}", title="above the line is faster")
    low, high = axes.get_ylim()
    if high < 10 * low:  # a logarithmic axis would have one tick, or none
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8, ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_threads(kernel: pd.DataFrame) -> Figure:
    """How much faster several threads are than the fewest, as geometric means over the layers."""
    passes = kernel["pass"].unique()
    figure = Figure(figsize=(1.5 + 2 * len(passes), 3), layout="constrained")
    places = figure.subplots(1, len(passes), sharey=True, squeeze=False)[0]
    for axes, pass_name in zip(places, passes, strict=True):
        rows = kernel[kernel["pass"] == pass_name]
        threads = np.sort(rows["threads"].unique())
        axes.plot(threads, threads / threads[0], ":", color="grey", label="ideal")
        axes.plot(threads, scaling(rows, "ms"), "o-", color=OURS, label=rows["kernel"].iloc[0])
        if f"ms {BASELINE}" in rows:
            axes.plot(threads, scaling(rows, f"ms {BASELINE}"), "s-", color=THEIRS, label=BASELINE)
        axes.set(title=pass_name, xlabel="threads", xticks=threads)
        axes.spines[["top", "right"]].set_visible(False)
    places[0].set_ylabel("speed / that of the fewest")
    places[0].legend(frameon=False, fontsize=8)
    return figure


def scaling(rows: pd.DataFrame, column: str) -> pd.Series:
    """The geometric mean of speeds at each number of threads, the fewest being 1."""
    means = np.log(rows[column]).groupby(rows["threads"]).mean()
    return np.exp(means.iloc[0] - means)


def name_of(group: pd.DataFrame) -> str:
    threads = group["threads"].iloc[0]
    return f"{group['kernel'].iloc[0]}, {threads} thread{'s' if threads > 1 else ''}"
