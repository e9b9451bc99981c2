# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole experiment: testbed, base, links, every run of every cell, and the way back.

What was made is taken down again, what was disturbed is healed, whatever ends the experiment:
its end, an error, Ctrl-C. What was measured by then stays in the run folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pkgctl import playbook, topology
from pkgctl.errors import ClusterError, PkgctlError, VerificationFailed
from pkgctl.experiment import plan, precondition, record, resume, windows
from pkgctl.experiment.folder import FAILED, Folder, create
from pkgctl.experiment.interruption import Interrupted, Interruption
from pkgctl.experiment.lab import Cluster, Lab, Maker, check_fit, testbed_of
from pkgctl.experiment.plan import Run
from pkgctl.experiment.progress import Progress, show_seconds
from pkgctl.experiment.trial import Outcome, Trial
from pkgctl.local.paths import Paths
from pkgctl.spec import Experiment

BASE = "base.yml"


@dataclass(frozen=True)
class Options:
    """How an experiment is to be run.

    Attributes:
        results: the folder in which the run's folder is made.
        paths: the testbed to run on; it is made if it is not up.
        maker: what makes it, if it is not made of nodes on this machine.
        cluster: what runs the jobs, if the testbed is up as a cluster; it is used as it is.
        keep: leave a testbed up that the experiment made.
        force: run on a testbed that is in use or not as asked, and go on with a run whose inputs
            changed.
        resume: the folder of the run to go on with.
        command: the command line, for the record.
    """

    results: Path
    paths: Paths
    maker: Maker | None = None
    cluster: Cluster | None = None
    keep: bool = False
    force: bool = False
    resume: Path | None = None
    command: str = ""


@dataclass(frozen=True)
class Ending:
    """How an experiment ended: its folder, its status, and the links that are not as asked."""

    path: Path
    status: str
    bad_links: int = 0


def perform(experiment: Experiment, options: Options, progress: Progress) -> Ending:
    """Run an experiment and return where its results are.

    Raises:
        VerificationFailed: if the testbed is not as asked, and force is not given.
        PkgctlError: if it cannot be run at all; runs that fail by themselves are recorded.
    """
    check_fit(experiment.topology, options)
    folder, todo = _open(experiment, options)
    interruption = Interruption()
    status = "failed"
    try:
        with interruption.watched():
            try:
                session = _Session(experiment, options, progress, folder, interruption)
                status = session.perform(todo)
            except Interrupted:
                status = "interrupted"
            except VerificationFailed:
                status = "refused"
                raise
            except ClusterError as error:
                # What was measured before the cluster was lost stays, and is reported.
                totals = record.totals(folder.record)
                if not totals["done"]:
                    raise
                folder.warn(str(error))
                progress.say(f"warning: {error}")
                status = "failed" if totals["failed"] or totals["missing"] else "complete"
    finally:
        progress.clear()
        folder.finish(status)
        folder.close()
    return Ending(folder.path, status, folder.record.get("bad_links", 0))


def _open(experiment: Experiment, options: Options) -> tuple[Folder, list[Run]]:
    runs = plan.runs(experiment)
    if options.resume is None:
        fresh = record.fresh(experiment, options.command)
        path = create(options.results, experiment.head.name)
        folder = Folder(path, fresh)
        _write_inputs(path, experiment)
        return folder, runs
    found = resume.read(options.resume)
    if not options.force:
        resume.check(found, experiment, options.resume)
    merged = resume.merge(found, experiment)
    return Folder(options.resume, merged), resume.missing(merged, runs)


def _write_inputs(path: Path, experiment: Experiment) -> None:
    text = yaml.safe_dump(dict(experiment.values), sort_keys=False, allow_unicode=True)
    (path / "experiment.yaml").write_text(text, encoding="utf-8")
    (path / "topology.yaml").write_text(topology.dumps(experiment.topology), encoding="utf-8")


class _Session:
    """The time in which an experiment holds a testbed."""

    def __init__(
        self,
        experiment: Experiment,
        options: Options,
        progress: Progress,
        folder: Folder,
        interruption: Interruption,
    ) -> None:
        self._experiment = experiment
        self._options = options
        self._progress = progress
        self._folder = folder
        self._interruption = interruption
        self._artifacts = folder.path / "ansible"

    def perform(self, todo: Sequence[Run]) -> str:
        """Make the runs and return the status of the whole."""
        if not todo:
            return "complete"
        with self._testbed(), self._lab() as lab:
            self._folder.set(**lab.backend.facts(self._folder.record))
            precondition.check_drift(
                lab.backend, self._folder, self._progress, force=self._options.force
            )
            self._to_base()
            precondition.foretell(self._experiment, lab.backend, self._folder)
            precondition.check(
                self._experiment,
                lab.backend,
                self._folder,
                self._progress,
                force=self._options.force,
            )
            self._progress.plan(len(todo), plan.run_seconds(todo[0], self._experiment))
            for run in todo:
                self._run(run, lab)
            windows.lend(self._folder.record["cells"])
        return "complete" if record.totals(self._folder.record)["failed"] == 0 else "failed"

    @contextlib.contextmanager
    def _testbed(self) -> Iterator[None]:
        with testbed_of(self._experiment.topology, self._options, self._interruption) as outcome:
            for warning in outcome.warnings:
                self._folder.warn(warning)
            made = "is up" if outcome.changed else "was up already"
            self._progress.say(f"testbed {self._options.paths.name} {made}")
            yield
            if self._options.keep:
                self._progress.say(f"testbed {self._options.paths.name} is left up")

    @contextlib.contextmanager
    def _lab(self) -> Iterator[Lab]:
        lab = Lab(self._options.paths, self._artifacts, self._options.cluster)
        try:
            yield lab
        finally:
            lab.close()

    def _to_base(self) -> None:
        with self._interruption.shielded():
            playbook.play(BASE, {}, testbed=self._options.paths.name, artifacts=self._artifacts)

    def _run(self, run: Run, lab: Lab) -> None:
        label = f"{run.cell.id or 'the only cell'}, repeat {run.repeat}"
        self._progress.begin(label)
        try:
            self._try(run, lab)
        except PkgctlError as error:
            self._folder.mark(run, status=FAILED, error=str(error))
            self._folder.note(run, kind="note", detail=str(error))
            self._progress.end(label, f"failed: {error}")
            lab.recover()
            return
        self._progress.end(label, "done")

    def _try(self, run: Run, lab: Lab) -> None:
        with self._interruption.shielded():
            timeline = lab.arm(run.cell.body)
        trial = Trial(run, self._experiment, lab.backend, lab.samples, timeline)
        outcome = trial.perform()
        with self._interruption.shielded():
            self._keep(run, outcome, lab)

    def _keep(self, run: Run, outcome: Outcome, lab: Lab) -> None:
        """Write down what a run gave, and make sure that nothing of it is left in force."""
        for event in outcome.events:
            self._folder.note(run, **event)
        for warning in outcome.warnings:
            self._folder.warn(warning)
        facts = {**outcome.facts, **self._windows(run, outcome)}
        self._folder.write_run(run, outcome.tables, facts)
        if left := lab.heal_left_over(run.cell.body):
            self._folder.warn(f"{', '.join(left)} had to be healed after {run.cell.id}")

    def _windows(self, run: Run, outcome: Outcome) -> dict[str, Any]:
        """Return when disturbances were on, if some of them waited for a condition."""
        waited = windows.conditional(run.cell.body)
        if not waited:
            return {}
        came = windows.actual(waited, outcome.events)
        for name in set(waited) - {window["name"] for window in came}:
            self._folder.warn(f"{run.cell.id}, repeat {run.repeat}: {name} never set in")
        return {"windows": windows.planned(run.cell.body) + came, "waited": waited}


def outline(experiment: Experiment, todo: Sequence[Run]) -> list[str]:
    """Return what would be run, a fact a line."""
    head = experiment.head
    seconds = plan.estimate(experiment, todo)
    return [
        f"{head.name}: {head.question}",
        f"topology {experiment.topology.name}, {len(experiment.topology.nodes)} nodes, "
        f"seed {head.seed}",
        f"{len(experiment.cells)} cells × {head.repeats} repeats, {len(todo)} runs to make, "
        f"about {show_seconds(seconds)}",
    ]
