"""What belongs beside every number: machine, versions, settings, and reasons not to believe it."""

from __future__ import annotations

from benchmarks.results import MOST_LOAD, Document, Row, peak_of

MOST_PAGE_FAULTS = 256  # pages of a MiB: a quarter of a millisecond


def conditions(document: Document) -> list[str]:
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    kept = (
        "processor",
        "processors",
        "instruction set",
        "system",
        "versions",
        "allocator",
        "environment",
    )
    others = [f"- {name}: {value}" for name, value in machine.items() if name not in kept]
    return [
        f"- {machine['processor']}, {machine['processors']} processors, "
        f"{machine['instruction set']}, {machine['system']}",
        *others,
        f"- {versions}",
        *limits(document),
        f"- {settings['device']}, {settings['dtype']}, {settings['memory_format']}, "
        f"TF32 {'allowed' if settings['tf32'] else 'off'} on both sides, "
        f"{'quick' if settings['quick'] else 'full'} set; allocator {machine['allocator']}",
        "",
    ]


def limits(document: Document) -> list[str]:
    return [
        f"- {threads} thread{'s' if threads > 1 else ''}: peak "
        f"{peak_of(document, 'fma_gflops', threads):.0f} GFLOP/s, memory "
        f"{peak_of(document, 'bandwidth_gbs', threads):.1f} GB/s, as probed"
        for threads in document["settings"]["threads"]
    ]


def most_page_faults(row: Row) -> float:
    """In one call of a side; none where it was not timed."""
    sides = row["ours"], *row["baselines"].values()
    return max(side.get("page_faults_per_call", 0.0) for side in sides)


def warnings(document: Document) -> list[str]:
    """One sentence each; none if the run is to be believed."""
    wrong = [row for row in document["rows"] if row["problem"]]
    faulting = [row for row in document["rows"] if most_page_faults(row) > MOST_PAGE_FAULTS]
    load, drift = document["load"], document["drift"] or 0.0
    drifted = document["drifted"]
    found = {
        f"Rows that are wrong and were not timed: {len(wrong)}.": wrong,
        f"Rows whose calls had page faults, which take time: {len(faulting)}.": faulting,
        "The run is not complete.": not document["complete"],
        f"The machine had other work when the run began, for {load:.1f} processors.": load
        > MOST_LOAD,
        f"The machine's own limits moved by {drift:.0%} during the run: it had other work, or "
        "changed its clock. Rows measured meanwhile have a ~ behind their spread.": drifted,
    }
    return [sentence for sentence, holds in found.items() if holds]
