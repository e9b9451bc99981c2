# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold before the first run: nodes and links are what was asked for.

What is found is written into the run's folder first, so that a run that is refused says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pkgctl.errors import VerificationFailed
from pkgctl.experiment import disturb, plan
from pkgctl.experiment.folder import Folder
from pkgctl.experiment.progress import Progress
from pkgctl.local import foresight, probing, readback, testbed
from pkgctl.local.backend import LocalBackend
from pkgctl.local.paths import Paths
from pkgctl.nodeside import perturbation, verdicts, verification
from pkgctl.spec import Experiment

# Enough for a sample of a small testbed; what there is no time for stays unmeasured.
SAMPLE_SECONDS, ALL_SECONDS = 20.0, 120.0
_MOST_REASONS = 3


def foretell(experiment: Experiment, backend: LocalBackend, folder: Folder) -> None:
    """Warn of settings that the nodes' machine, or a measurement, will not do as asked."""
    state, machine = backend.state, backend.reach.machine()
    lines = foresight.of_matrix(experiment.topology.matrix(), machine)
    nodes = disturb.targets(state)
    bodies = {
        (name, repr(cell.body.perturbations[name])): cell.body
        for cell in experiment.cells
        for name in cell.body.active
    }
    for (name, _), body in bodies.items():
        found = foresight.of_plan(body.disturbance(name).plan(nodes), state, name)
        lines += [f"{name}: {line}" for line in found]
    for line in dict.fromkeys(lines):
        folder.warn(line)


def foresee(words: Mapping[str, Any], paths: Paths) -> list[str]:
    """Return what the words of a perturbation will not do as asked; this measures nothing.

    Raises:
        ValueError: in one line, if they make no sense on this testbed.
    """
    state = testbed.read_state(paths)
    asked = perturbation.read(words)
    return foresight.of_plan(asked.plan(disturb.targets(state)), state, asked.name)


def check_drift(backend: LocalBackend, folder: Folder, progress: Progress, *, force: bool) -> None:
    """Refuse a testbed on which somebody changed what the layers ask for.

    Raises:
        VerificationFailed: if so, unless force is given; the folder says why.
    """
    found = readback.lines(backend.reach.drift())
    _refuse(found, folder, progress, force=force)


def check(
    experiment: Experiment,
    backend: LocalBackend,
    folder: Folder,
    progress: Progress,
    *,
    force: bool,
) -> None:
    """Read the nodes back, measure links, and refuse to go on if anything is not as asked.

    Raises:
        VerificationFailed: if so, unless force is given; the folder says why.
    """
    check_drift(backend, folder, progress, force=force)
    failed = _measure(experiment, backend, folder, progress)
    _refuse(failed, folder, progress, force=force)


def _refuse(reasons: Sequence[str], folder: Folder, progress: Progress, *, force: bool) -> None:
    for reason in reasons:
        folder.warn(reason)
        progress.say(f"warning: {reason}")
    if not reasons or force:
        return
    text = "; ".join(reasons[:_MOST_REASONS])
    more = len(reasons) - _MOST_REASONS
    told = f"{text}; and {more} more" if more > 0 else text
    folder.set(refused=told)
    raise VerificationFailed(
        f"nothing was run, for the testbed is not as asked: {told}; see {folder.path}, or go on"
        " all the same with --force"
    )


def _measure(
    experiment: Experiment, backend: LocalBackend, folder: Folder, progress: Progress
) -> list[str]:
    """Measure the links that the experiment wants, and return what is wrong with them."""
    head = experiment.head
    pairs = verification.choose(
        probing.sites(backend.state), head.verify, plan.stream(head.seed, "verify")
    )
    budget = ALL_SECONDS if head.verify == "all" else SAMPLE_SECONDS
    found = probing.verify(backend, pairs, budget) if pairs else []
    folder.write_links([each.row() for each in found])
    failed = [each for each in found if each.verdict == "fail"]
    folder.set(bad_links=len(failed))
    progress.say(_summary(found, len(failed)))
    return [f"link {each.src} → {each.dst}: {each.reason}" for each in failed]


def _summary(found: Iterable[verdicts.Verdict], bad: int) -> str:
    measured = sum(each.verdict != "unmeasured" for each in found)
    if not measured:
        return "links: not measured"
    return f"links: {measured} pairs measured, {bad or 'all'} {'not ' if bad else ''}as asked"
