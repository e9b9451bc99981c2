# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the parts of an experiment fit one another and its topology.

Each check raises ``Misplaced`` with the steps to the value at fault; none changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from pkgctl.documents import Steps
from pkgctl.errors import SpecError, nearest
from pkgctl.nodeside import perturbation, selection, timewords
from pkgctl.scheduling import registry
from pkgctl.spec.fields import Selector
from pkgctl.spec.models import Arrivals, Body, Place

Nodes = Sequence[selection.Node]


class Misplaced(ValueError):  # noqa: N818 - it says where, the message says what
    """A value that does not fit the rest; ``steps`` lead to it."""

    def __init__(self, message: str, *steps: str | int) -> None:
        self.steps: Steps = steps
        super().__init__(message)


def check_body(body: Body, nodes: Nodes, *, file: Path) -> None:
    """Refuse a cell that names what is not there.

    Raises:
        Misplaced: with the steps to it and what would be right.
    """
    _check_load(body)
    _check_active(body)
    _check_perturbations(body, nodes)
    for steps, place in _places(body):
        _check_decider((*steps, "scheduler"), place.scheduler, registry.decider)
        _check_decider((*steps, "provision"), place.provision, registry.provisioner)
    for steps, choice in _choices(body):
        _check_choice(steps, choice, nodes)
    for steps, arrivals in _arrivals(body):
        _check_trace(steps, arrivals, file)


def trace_path(trace: str, file: Path) -> Path:
    """Return where a trace lies: beside the experiment file, else seen from the current folder."""
    beside = file.parent / trace
    return beside if beside.is_file() else Path(trace)


def _check_known(steps: Steps, name: str | None, what: str, known: Collection[str]) -> None:
    if name is not None and name not in known:
        raise Misplaced(f"no {what} is called {name!r}; {nearest(name, known)}", *steps)


def _check_decider(steps: Steps, name: str | None, make: Callable[[str], object]) -> None:
    try:
        _ = name is None or make(name)
    except SpecError as error:
        raise Misplaced(str(error), *steps) from error


def _check_load(body: Body) -> None:
    for index, load in enumerate(body.load):
        _check_known(("load", index, "service"), load.service, "service", tuple(body.services))


def _check_active(body: Body) -> None:
    known = (*body.perturbations, "none", "all")
    for name in body.active:
        _check_known(("perturb",), name, "perturbation", known)


def _check_perturbations(body: Body, nodes: Nodes) -> None:
    for name in body.perturbations:
        try:
            read = body.disturbance(name)
            read.plan(nodes)
        except ValueError as error:
            raise Misplaced(str(error), "perturbations", name) from error
        if read.start >= body.duration:
            raise Misplaced("start: the run is over by then", "perturbations", name)
        _check_job(name, read, body)
    for name in body.active:
        _check_order(name, body)


def _check_job(name: str, read: perturbation.Perturbation, body: Body) -> None:
    """Refuse to wait for a job of which no service or queue could be the owner."""
    kind, job = timewords.subject(read.timing) or ("", "")
    owners = (*body.services, *body.jobs)
    if kind == "job" and not any(job == each or job.startswith(f"{each}-") for each in owners):
        raise Misplaced(
            f"when: no service or queue is called {job!r}; {nearest(job, owners)}",
            *("perturbations", name),
        )


def _check_order(name: str, body: Body) -> None:
    """Refuse to wait for a perturbation that does not come, or that waits for this one."""
    waited: list[str] = []
    at: str | None = name
    while at is not None:
        if at in waited:
            raise Misplaced(f"after: {' waits for '.join([*waited, at])}", "perturbations", name)
        waited.append(at)
        at = timewords.predecessor(body.disturbance(at).timing)
        if at is not None and at not in body.active:
            hint = nearest(at, body.active)
            raise Misplaced(
                f"after: {at!r} is not applied in this cell; {hint}", "perturbations", name
            )


def _places(body: Body) -> Iterator[tuple[Steps, Place]]:
    yield (), Place(scheduler=body.scheduler, provision=body.provision)
    for name, service in body.services.items():
        yield ("services", name, "place"), service.place
    for name, queue in body.jobs.items():
        yield ("jobs", name, "place"), queue.place


def _choices(body: Body) -> Iterator[tuple[Steps, Selector | None]]:
    for steps, place in _places(body):
        yield (*steps, "on"), place.on
    for index, load in enumerate(body.load):
        yield ("load", index, "from"), load.source
    for name, queue in body.jobs.items():
        yield ("jobs", name, "from"), queue.source


def _check_choice(steps: Steps, choice: Selector | None, nodes: Nodes) -> None:
    if choice is None:
        return
    try:
        choice.choose(nodes)
    except ValueError as error:
        raise Misplaced(str(error).removeprefix(": "), *steps) from error


def _arrivals(body: Body) -> Iterator[tuple[Steps, Arrivals]]:
    for index, load in enumerate(body.load):
        yield ("load", index, "arrivals"), load.arrivals
    for name, queue in body.jobs.items():
        yield ("jobs", name, "arrivals"), queue.arrivals


def _check_trace(steps: Steps, arrivals: Arrivals, file: Path) -> None:
    if arrivals.trace is not None and not trace_path(arrivals.trace, file).is_file():
        where = "beside the experiment or in the current folder"
        raise Misplaced(f"no file {arrivals.trace!r} {where}", *steps, "trace")
