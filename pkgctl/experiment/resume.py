# SPDX-License-Identifier: GPL-3.0-or-later
"""Going on with a run that did not come to its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pkgctl.errors import ResultsError, SpecError
from pkgctl.experiment import record as records
from pkgctl.experiment.folder import DONE, FORMAT, find_entry
from pkgctl.experiment.plan import Run
from pkgctl.spec import Experiment

LATEST = "latest"


def find(root: Path, name: str, wanted: str) -> Path:
    """Return the folder of the run to go on with.

    Args:
        root: where run folders are.
        name: the experiment's name.
        wanted: a folder, the name of one below root, or ``latest``.

    Raises:
        ResultsError: if there is none.
    """
    if wanted != LATEST:
        for path in (Path(wanted), root / wanted):
            if (path / "run.json").is_file():
                return path
        raise ResultsError(f"{wanted}: no run folder; one holds a run.json")
    found = [path.parent for path in root.glob(f"{name}-*/run.json")]
    ours = [path for path in found if _name(path) == name]
    if not ours:
        raise ResultsError(f"no run of {name} in {root} to go on with")
    return max(ours, key=lambda path: (path / "run.json").stat().st_mtime_ns)


def _name(path: Path) -> str | None:
    try:
        return str(read(path)["name"])
    except ResultsError:
        return None


def read(path: Path) -> dict[str, Any]:
    """Return run.json.

    Raises:
        ResultsError: if it cannot be read, or has another format.
    """
    try:
        found = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}/run.json: cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or "name" not in found:
        raise ResultsError(f"{path}/run.json: not a run of format {FORMAT}")
    return found


def check(record: Mapping[str, Any], experiment: Experiment, path: Path) -> None:
    """Refuse to go on with other inputs, for the cells would not compare.

    Raises:
        SpecError: if the file, the settings, the topology or a trace changed.
    """
    if record.get("inputs") != records.digest(experiment):
        raise SpecError(
            f"the experiment, its settings, its topology or its trace changed since {path.name} "
            "began; start a new run, or go on all the same with --force"
        )


def merge(record: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return a record of the present plan that keeps what the old one says is done."""
    fresh = records.fresh(experiment, str(record.get("command", "")))
    done = {
        (cell["id"], run["repeat"]): run
        for cell in record["cells"]
        for run in cell["runs"]
        if run["status"] == DONE
    }
    for cell in fresh["cells"]:
        cell["runs"] = [done.get((cell["id"], run["repeat"]), run) for run in cell["runs"]]
    kept = ("started", "warnings", "machine")
    return {**fresh, **{key: record[key] for key in kept if key in record}}


def missing(record: Mapping[str, Any], runs: Sequence[Run]) -> list[Run]:
    """Return the runs that are not done yet, in the order of the plan."""
    return [run for run in runs if find_entry(record, run)["status"] != DONE]
