"""The result file: valid JSON at any moment, for it is replaced whole after every cell.

Its fields are

    format    which file this is, and which version of its fields
    settings  what was asked for; a run is resumed only with the same ones
    machine   what it ran on, with which versions
    load      threads of others that wanted a processor when the run began
    probes    the machine's own limits, measured before and after each layer
    drift     by how much the probes of the run differ, and whether that is too much to believe it
    complete  false while cells are missing
    rows      one for each layer, pass, number of threads and kernel; rows.py has their fields
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.errors import BadInputError

FORMAT = "convgrad_ext benchmark"
VERSION = 2
MOST_DRIFT = 0.05
MOST_LOAD = 0.5

Row = dict[str, Any]
Document = dict[str, Any]


class Results:
    def __init__(self, path: Path, document: Document) -> None:
        self.path = path
        self.document = document

    @classmethod
    def start(cls, path: Path, settings: Document, machine: Document) -> Results:
        results = cls(
            path,
            {
                "format": FORMAT,
                "version": VERSION,
                "settings": settings,
                "machine": machine,
                "load": 0.0,
                "probes": [],
                "drift": None,
                "drifted": None,
                "complete": False,
                "rows": [],
            },
        )
        results.save()
        return results

    @classmethod
    def resume(cls, path: Path, settings: Document, machine: Document) -> Results:
        """Goes on with a file that was measured in the same way; wrong rows are measured again."""
        if not path.exists():
            return cls.start(path, settings, machine)
        document = load(path)
        check_same("settings", document["settings"], settings, path)
        check_same("machine", document["machine"], machine, path)
        document["rows"] = [row for row in document["rows"] if row["problem"] is None]
        return cls(path, document | {"complete": False})

    @property
    def rows(self) -> list[Row]:
        rows: list[Row] = self.document["rows"]
        return rows

    def rows_of(self, layer: str, pass_name: str, threads: int) -> list[Row]:
        """One for each kernel; none if that was not measured yet."""
        return [row for row in self.rows if key_of(row)[:3] == (layer, pass_name, threads)]

    def laps_of(self, layer: str, pass_name: str, threads: int) -> int:
        """How often that was measured."""
        return min((row["laps"] for row in self.rows_of(layer, pass_name, threads)), default=0)

    def add(self, rows: list[Row]) -> None:
        """Rows that were timed together. Of the laps, the one with the shortest times counts; what
        was wrong in one of them stays wrong.
        """
        before = self.rows_of(*key_of(rows[0])[:3])
        keep = before and (any_wrong(before) or seconds_of(before) < seconds_of(rows))
        kept = before if keep and not any_wrong(rows) else rows
        laps = 1 + max((row["laps"] for row in before), default=0)
        others = [row for row in self.rows if row not in before]
        self.document["rows"] = others + [row | {"laps": laps} for row in kept]
        self.save()

    def note_load(self, load: float) -> None:
        self.document["load"] = max(self.document["load"], load)

    def note_probe(self, probe: Document) -> None:
        self.document["probes"].append(probe)

    def note_drift(self, layer: str, before: dict[int, float], after: dict[int, float]) -> None:
        """Marks the new rows of a layer with what happened to the machine's peak meanwhile."""
        for row in self.rows:
            if row["layer"] == layer and row["drift"] is None:
                row["drift"] = difference(before[row["threads"]], after[row["threads"]])
        self.save()

    def finish(self) -> None:
        drift = drift_of(self.document["probes"])
        self.document |= {"drift": drift, "drifted": drift > MOST_DRIFT, "complete": True}
        self.save()

    def save(self) -> None:
        """Replaces the file in one step: whoever reads it, or stops us, finds a whole one."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.document, indent=1, allow_nan=False) + "\n")
            beside.replace(self.path)
        except OSError as problem:
            raise BadInputError(f"cannot write {self.path}: {problem.strerror}") from None


def seconds_of(rows: list[Row]) -> float:
    """How long one call of each side took together."""
    sides = [row["ours"] for row in rows] + list(rows[0]["baselines"].values())
    return sum(side.get("median_ms", 0.0) for side in sides) / 1e3


def any_wrong(rows: list[Row]) -> bool:
    return any(row["problem"] for row in rows)


def difference(a: float, b: float) -> float:
    """As a part of the larger one."""
    return abs(a - b) / max(a, b)


def drift_of(probes: list[Document]) -> float:
    """The largest difference between two probes of one kind."""
    kinds: dict[tuple[str, int], list[float]] = {}
    for probe in probes:
        for figure in ("fma_gflops", "bandwidth_gbs"):
            if probe[figure] is not None:
                kinds.setdefault((figure, probe["threads"]), []).append(probe[figure])
    return max(difference(min(values), max(values)) for values in kinds.values())


def peak_of(document: Document, figure: str, threads: int) -> float:
    """The machine's limit: the best that any probe of the run has seen."""
    values = (p[figure] for p in document["probes"] if p["threads"] == threads)
    return max(value for value in values if value is not None)


def key_of(row: Row) -> tuple[str, str, int, str]:
    return row["layer"], row["pass"], row["threads"], row["kernel"]


def check_same(what: str, old: Document, new: Document, path: Path) -> None:
    different = [name for name in old | new if old.get(name) != new.get(name)]
    if different:
        name = different[0]
        raise BadInputError(
            f"cannot resume {path}: its {what} differ in {name}, "
            f"{old.get(name)!r} there and {new.get(name)!r} now"
        )


def load(path: Path) -> Document:
    """The document in a result file, or one sentence about why it is none."""
    try:
        document = json.loads(path.read_text())
    except OSError as problem:
        raise BadInputError(f"cannot read {path}: {problem.strerror}") from None
    except ValueError:
        raise BadInputError(f"{path} is not a result file: it is no JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInputError(f"{path} is not a result file of benchmarks/run.py")
    if document["version"] != VERSION:
        raise BadInputError(
            f"{path} has version {document['version']} of the result format and version {VERSION} "
            "is read here: measure again"
        )
    return document
