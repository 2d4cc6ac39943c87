"""The report's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from benchmarks.comparison import timed
from benchmarks.passes import SINGLE_PASSES
from benchmarks.results import Document, Row, peak_of
from benchmarks.tables import (
    MAIN_BASELINE,
    Group,
    geometric_mean,
    groups_of,
    name_of,
    ratios_of,
    rows_of,
    unique,
)

MARKERS = dict(zip(SINGLE_PASSES, "o^s", strict=True))
Color = tuple[float, float, float, float]
OURS, THEIRS = "#1b3a5b", "#f2b134"


def draw_all(document: Document, folder: Path) -> list[str]:
    """The names of the pictures that this run has the rows for, drawn into the folder."""
    rows = timed(document)
    pictures = {
        "roofline.png": (draw_roofline, any(row["megabytes"] for row in rows)),
        "ratios.png": (draw_ratios, any(row["ratios"] for row in rows)),
        "threads.png": (draw_threads, len(unique(row["threads"] for row in rows)) > 1),
    }
    for name, (draw, wanted) in pictures.items():
        (folder / name).unlink(missing_ok=True)
        if wanted:
            draw(document).savefig(folder / name, dpi=150)
    return [name for name, (_, wanted) in pictures.items() if wanted]


def draw_roofline(document: Document) -> Figure:
    """Every layer under the two limits of the machine."""
    group = groups_of(timed(document))[0]
    rows = [row for row in rows_of(timed(document), group) if row["megabytes"]]
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    draw_roof(axes, document, group, [intensity(row) for row in rows])
    colors = colors_of(rows)
    for row in rows:
        draw_point(axes, row, colors[row["class"]])
    draw_legend(axes, colors)
    axes.set(
        xscale="log",
        yscale="log",
        title=f"Roofline: {name_of(group)}, {document['settings']['dtype']}",
        xlabel="effective work / memory that has to move [FLOP/byte]",
        ylabel="effective GFLOP/s",
    )
    return figure


def colors_of(rows: Sequence[Row]) -> dict[str, Color]:
    tableau = matplotlib.colormaps["tab10"]
    return {kind: tableau(i % 10) for i, kind in enumerate(unique(row["class"] for row in rows))}


def draw_point(axes: Axes, row: Row, color: Color) -> None:
    """Ours filled, F.conv2d's as an outline behind it."""
    where, marker = intensity(row), MARKERS[row["pass"]]
    axes.plot(where, row["ours"]["effective_gflops"], marker, color=color)
    if MAIN_BASELINE in row["ratios"]:
        theirs = row["baselines"][MAIN_BASELINE]["effective_gflops"]
        axes.plot(where, theirs, marker, color="none", markeredgecolor="0.6", zorder=1)


def draw_legend(axes: Axes, colors: dict[str, Color]) -> None:
    for kind, color in colors.items():
        axes.plot([], [], "o", color=color, label=kind)
    for pass_name, marker in MARKERS.items():
        axes.plot([], [], marker, color="black", label=pass_name)
    axes.plot([], [], "o", color="none", markeredgecolor="0.6", label=MAIN_BASELINE)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)


def intensity(row: Row) -> float:
    """FLOP a byte."""
    return float(row["effective_gflop"] * 1e3 / row["megabytes"])


def draw_roof(axes: Axes, document: Document, group: Group, intensities: list[float]) -> None:
    _, threads = group
    peak = peak_of(document, "fma_gflops", threads)
    bandwidth = peak_of(document, "bandwidth_gbs", threads)
    low, ridge, high = min(intensities) / 2, peak / bandwidth, max(intensities) * 2
    axes.plot([low, max(low, ridge)], [low * bandwidth, max(low, ridge) * bandwidth], color="black")
    axes.plot([ridge, max(high, ridge)], [peak, peak], color="black")
    axes.annotate(f"peak {peak:.0f} GFLOP/s", (max(high, ridge), peak), ha="right", va="bottom")
    axes.annotate(f"  memory {bandwidth:.0f} GB/s", (low, low * bandwidth), ha="left", va="top")


def draw_ratios(document: Document) -> Figure:
    """Geometric means of the ratios, a bar a pass, by class."""
    group = groups_of(timed(document))[0]
    rows = rows_of(timed(document), group)
    passes = unique(row["pass"] for row in rows)
    classes = [*unique(row["class"] for row in rows), "all"]
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(passes)
    for index, pass_name in enumerate(passes):
        places = [place - 0.4 + (index + 0.5) * width for place in range(len(classes))]
        heights = [height_of(rows, kind, pass_name) for kind in classes]
        axes.bar(places, [height - 1 for height in heights], width, bottom=1, label=pass_name)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks(range(len(classes)), classes)
    axes.set(
        yscale="log", ylabel=f"speed / that of {MAIN_BASELINE}",
        title=f"{name_of(group)}, {document['settings']['dtype']}: above the line is faster",
    )  # fmt: skip
    low, high = axes.get_ylim()
    if high < 10 * low:  # a logarithmic axis would have one tick, or none
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8, ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def height_of(rows: Sequence[Row], kind: str, pass_name: str) -> float:
    ratios = ratios_of(rows, kind, pass_name, MAIN_BASELINE)
    return geometric_mean(ratios) if ratios else float("nan")


def draw_threads(document: Document) -> Figure:
    """How much faster several threads are than the fewest, as geometric means over the layers."""
    kernel = timed(document)[0]["kernel"]
    rows = [row for row in timed(document) if row["kernel"] == kernel]
    passes = unique(row["pass"] for row in rows)
    figure = Figure(figsize=(1.5 + 2 * len(passes), 3), layout="constrained")
    places = figure.subplots(1, len(passes), sharey=True, squeeze=False)[0]
    for axes, pass_name in zip(places, passes, strict=True):
        draw_scaling(axes, [row for row in rows if row["pass"] == pass_name])
        axes.set(title=pass_name, xlabel="threads")
        axes.spines[["top", "right"]].set_visible(False)
    places[0].set_ylabel("speed / that of the fewest")
    places[0].legend(frameon=False, fontsize=8)
    return figure


def draw_scaling(axes: Axes, rows: Sequence[Row]) -> None:
    threads = sorted(unique(row["threads"] for row in rows))
    theirs = [
        (row["threads"], row["baselines"][MAIN_BASELINE]["gflops"])
        for row in rows
        if MAIN_BASELINE in row["ratios"]
    ]
    ours = [(row["threads"], row["ours"]["gflops"]) for row in rows]
    axes.plot(threads, [n / threads[0] for n in threads], ":", color="grey", label="ideal")
    axes.plot(threads, scaling(ours), "o-", color=OURS, label=rows[0]["kernel"])
    if theirs:
        axes.plot(threads, scaling(theirs), "s-", color=THEIRS, label=MAIN_BASELINE)
    axes.set_xticks(threads)


def scaling(measured: Sequence[tuple[int, float]]) -> list[float]:
    """The geometric mean of speeds at each number of threads, the fewest being 1."""
    speeds: dict[int, list[float]] = {}
    for threads, gflops in measured:
        speeds.setdefault(threads, []).append(gflops)
    means = [geometric_mean(speeds[threads]) for threads in sorted(speeds)]
    return [mean / means[0] for mean in means]
