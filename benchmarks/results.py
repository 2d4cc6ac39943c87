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
        """Goes on with a file that was measured in the same way, without what is wrong there."""
        if not path.exists():
            return cls.start(path, settings, machine)
        document = load(path)
        check_same("settings", document["settings"], settings, path)
        check_same("machine", document["machine"], machine, path)
        wrong = {key_of(row)[:3] for row in document["rows"] if row["problem"]}
        document["rows"] = [row for row in document["rows"] if key_of(row)[:3] not in wrong]
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

    def put(self, rows: list[Row]) -> None:
        """Adds rows, or puts them in the place of what is there with their keys."""
        new = {key_of(row) for row in rows}
        self.document["rows"] = [row for row in self.rows if key_of(row) not in new] + rows
        self.save()

    def note_load(self, load: float) -> None:
        self.document["load"] = max(self.document["load"], load)

    def note_probe(self, probe: Document) -> None:
        self.document["probes"].append(probe)

    def finish(self) -> None:
        drift = drift_of(self.document["probes"])
        self.document |= {"drift": drift, "drifted": drift > MOST_DRIFT, "complete": True}
        self.save()

    def save(self) -> None:
        """Replaces the file in one step: whoever reads it, or stops us, finds a whole one."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.document, allow_nan=False) + "\n")
            beside.replace(self.path)
        except OSError as problem:
            raise BadInputError(f"cannot write {self.path}: {problem.strerror}") from None


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
