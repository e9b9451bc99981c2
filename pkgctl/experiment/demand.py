# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run asks of the testbed: requests by client, replicas, jobs with their moments. Pure.

Every draw comes from a stream of the repeat's seed that is named after what it is for, so all
cells of a repeat see the same arrivals, whatever else differs between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pkgctl.errors import SpecError
from pkgctl.experiment import plan
from pkgctl.experiment.plan import Run
from pkgctl.scheduling import provisioning
from pkgctl.scheduling.delegated import KUBE_SCHEDULER
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import Resources
from pkgctl.spec import Experiment
from pkgctl.spec.models import Arrivals, Load, Place, Queue, Service
from pkgctl.workload import arrivals as processes
from pkgctl.workload.arrivals import Arrival
from pkgctl.workload.traces import read_trace

Planned = tuple[float, str, float, int, int]


@dataclass(frozen=True)
class Replicas:
    """A service of this run: how its replicas look, and who places them."""

    name: str
    template: Job
    scheduler: str
    provisioner: str
    count: int

    def replica(self, number: int) -> Job:
        """Return one replica; numbers are not used twice."""
        return replace(self.template, id=f"{self.name}-{number}")


@dataclass(frozen=True)
class Submission:
    """A job that arrives: when (seconds after t0), from which queue, and who places it."""

    moment: float
    job: Job
    queue: str
    scheduler: str


@dataclass(frozen=True)
class Demand:
    """All that one run asks for.

    Attributes:
        requests: for each client its plan: seconds after the warm-up's begin, service, CPU
            seconds, bytes there, bytes back.
        timeout: seconds after which an answer is not waited for.
        services: the services by name.
        submissions: the jobs in order of time.
        expected: for each provisioning model what it is told to expect.
    """

    requests: Mapping[str, Sequence[Planned]]
    timeout: float
    services: Mapping[str, Replicas]
    submissions: Sequence[Submission]
    expected: Mapping[str, Sequence[provisioning.Demand]]

    @property
    def schedulers(self) -> set[str]:
        """The names of the schedulers that are needed."""
        placed = {each.scheduler for each in self.services.values()}
        return placed | {each.scheduler for each in self.submissions}

    @property
    def jobs(self) -> list[Job]:
        """Every job, and one replica of each service."""
        return [
            *(each.template for each in self.services.values()),
            *(each.job for each in self.submissions),
        ]

    @property
    def kept(self) -> set[str]:
        """The artifacts that may stay on the nodes: those that are not brought cold."""
        return {
            wanted.artifact.name
            for model, demands in self.expected.items()
            if model != "cold"
            for wanted in demands
            if wanted.artifact
        }


def build(run: Run, experiment: Experiment) -> Demand:
    """Return what a run asks for.

    Raises:
        SpecError: if a trace cannot be read.
    """
    maker = _Maker(run, experiment)
    loads = maker.loads()
    requests = maker.requests(loads)
    services = maker.services(loads)
    submissions = maker.submissions()
    return Demand(
        requests=requests,
        timeout=max((load.timeout for load, _ in loads), default=1.0),
        services=services,
        submissions=submissions,
        expected=maker.expected(services, submissions),
    )


def check(experiment: Experiment, *, on_kubernetes: bool = False) -> None:
    """Refuse an experiment whose traces cannot be read, before anything is made for it.

    Args:
        experiment: the experiment.
        on_kubernetes: whether it runs where Kubernetes' own scheduler may decide.

    Raises:
        SpecError: with the file and the line at fault.
    """
    for run in plan.runs(experiment)[: len(experiment.cells)]:
        found = build(run, experiment)
        if not found.requests and not found.submissions:
            raise SpecError("no request and no job arrives", file=experiment.file, key=run.cell.id)
        if KUBE_SCHEDULER in found.schedulers and not on_kubernetes:
            reason = f"{KUBE_SCHEDULER} decides on Kubernetes only: add --provider existing"
            raise SpecError(reason, file=experiment.file, key=run.cell.id)


class _Maker:
    """Makes the parts of one run's demand."""

    def __init__(self, run: Run, experiment: Experiment) -> None:
        self.run = run
        self.body = run.cell.body
        self.warm_up = experiment.head.warm_up
        self.experiment = experiment
        self.nodes = experiment.nodes

    def loads(self) -> list[tuple[Load, tuple[Arrival, ...]]]:
        """Return each load with its arrivals; a trace of jobs holds none for it."""
        found = []
        for index, load in enumerate(self.body.load):
            extra = self.warm_up if load.start == 0 else 0.0
            found.append((load, self._arrivals(load.arrivals, load.duration, extra, "load", index)))
        return found

    def requests(
        self, loads: Iterable[tuple[Load, tuple[Arrival, ...]]]
    ) -> dict[str, list[Planned]]:
        """Return the plan of each client that has something to send."""
        plans: dict[str, list[Planned]] = {}
        for index, (load, arrived) in enumerate(loads):
            rng = plan.stream(self.run.seed, "client", index)
            clients = sorted(load.source.choose(self.nodes))
            for line in self._plan(load, arrived):
                plans.setdefault(rng.choice(clients), []).append(line)
        return {client: sorted(lines) for client, lines in sorted(plans.items())}

    def _plan(self, load: Load, arrived: tuple[Arrival, ...]) -> list[Planned]:
        cost = self.body.services[load.service].request
        from_zero = load.start == 0 and load.arrivals.is_process
        return processes.requests(
            arrived,
            load.service,
            work=cost.cpu,
            in_bytes=cost.bytes_in,
            out_bytes=cost.bytes_out,
            start=0.0 if from_zero else self.warm_up + load.start,
        )

    def services(self, loads: Sequence[tuple[Load, tuple[Arrival, ...]]]) -> dict[str, Replicas]:
        """Return the services; one that only loads without requests name is left out."""
        named = {load.service for load, _ in loads}
        asked = {load.service for load, arrived in loads if arrived}
        return {
            name: self._replicas(name, service, loads)
            for name, service in self.body.services.items()
            if name not in named or name in asked
        }

    def _replicas(
        self, name: str, service: Service, loads: Sequence[tuple[Load, tuple[Arrival, ...]]]
    ) -> Replicas:
        clients: dict[str, float] = {}
        for load, arrived in loads:
            chosen = load.source.choose(self.nodes) if load.service == name else ()
            for client in chosen:
                clients[client] = clients.get(client, 0.0) + len(arrived) / len(chosen)
        template = Job(
            id=name,
            job_class=JobClass.LATENCY,
            resources=Resources(service.resources.cpu, service.resources.memory),
            clients=clients,
            nodes=self._allowed(service.place),
            artifact=_artifact(name, service.artifact),
            in_bytes=service.request.bytes_in,
            out_bytes=service.request.bytes_out,
            objective=service.slo.latency if service.slo else None,
        )
        return Replicas(name, template, *self._deciders(service.place), service.replicas)

    def submissions(self) -> list[Submission]:
        """Return the jobs of all queues in order of time."""
        found = [
            each for name, queue in self.body.jobs.items() for each in self._queue(name, queue)
        ]
        return sorted(found, key=lambda each: each.moment)

    def _queue(self, name: str, queue: Queue) -> Iterable[Submission]:
        rng = plan.stream(self.run.seed, "origin", name)
        origins = sorted(queue.source.choose(self.nodes)) if queue.source else [None]
        scheduler, _ = self._deciders(queue.place)
        nodes = self._allowed(queue.place)
        arrived = self._arrivals(queue.arrivals, queue.duration, 0.0, "jobs", name)
        for number, one in enumerate(arrived):
            moment = queue.start + one.time
            job = _job(f"{name}-{number}", queue, one, nodes, rng.choice(origins), moment)
            yield Submission(moment, job, name, scheduler)

    def expected(
        self, services: Mapping[str, Replicas], submissions: Iterable[Submission]
    ) -> dict[str, list[provisioning.Demand]]:
        """Return for each provisioning model the services and queues that it prepares."""
        found: dict[str, list[provisioning.Demand]] = {}
        for each in services.values():
            found.setdefault(each.provisioner, []).append(
                _demand(each.name, each.template, each.count)
            )
        first = {each.queue: each.job for each in reversed(list(submissions))}
        for name, job in first.items():
            model = self._deciders(self.body.jobs[name].place)[1]
            found.setdefault(model, []).append(_demand(name, job, 1))
        return found

    def _arrivals(
        self, asked: Arrivals, duration: float, extra: float, part: str, label: object
    ) -> tuple[Arrival, ...]:
        if asked.poisson is not None:
            rng = plan.stream(self.run.seed, part, label)
            return processes.poisson(asked.poisson, duration + extra, rng)
        if asked.constant is not None:
            return processes.constant(asked.constant, duration + extra)
        if asked.at is not None:
            return processes.at(moment for moment in asked.at if moment < duration)
        return self._trace(asked, duration, jobs=part == "jobs")

    def _trace(self, asked: Arrivals, duration: float, *, jobs: bool) -> tuple[Arrival, ...]:
        """Return the arrivals of a trace; none if it holds jobs and requests are wanted, or so."""
        path = self.experiment.trace(asked.trace or "")
        if holds_jobs(path, asked.format) != jobs:
            return ()
        return read_trace(
            path,
            format=asked.format,
            speed=asked.speed,
            skip=asked.skip,
            head=asked.head,
            until=duration,
        )

    def _allowed(self, place: Place) -> frozenset[str] | None:
        return None if place.on is None else place.on.choose(self.nodes)

    def _deciders(self, place: Place) -> tuple[str, str]:
        return place.scheduler or self.body.scheduler, place.provision or self.body.provision


def holds_jobs(path: Path, format: str) -> bool:
    """Return whether a trace holds jobs, which ask for cores, and not requests.

    Raises:
        SpecError: if it cannot be read.
    """
    (first,) = read_trace(path, format=format, head=1)
    return first.cores is not None


def _job(
    name: str,
    queue: Queue,
    one: Arrival,
    nodes: frozenset[str] | None,
    origin: str | None,
    moment: float,
) -> Job:
    cores, memory = _asked(queue, one)
    return Job(
        id=name,
        job_class=JobClass(one.work_class or queue.kind),
        resources=Resources(cores, memory),
        origin=origin,
        nodes=nodes,
        artifact=_artifact(name.rpartition("-")[0], queue.artifact),
        work=_work(queue, one, cores),
        in_bytes=queue.bytes_in if one.in_bytes is None else one.in_bytes,
        out_bytes=queue.bytes_out if one.out_bytes is None else one.out_bytes,
        arrival=moment,
        deadline=None if queue.deadline is None else moment + queue.deadline,
    )


def _asked(queue: Queue, one: Arrival) -> tuple[float, int]:
    """Return the cores and bytes that a job asks for, shrunk if a trace tells them."""
    shrink, usual = queue.shrink, queue.resources
    cores = usual.cpu if one.cores is None else max(one.cores * shrink.cpu, shrink.least.cpu)
    if one.memory is None:
        return cores, usual.memory
    return cores, max(round(one.memory * shrink.memory), shrink.least.memory)


def _work(queue: Queue, one: Arrival, cores: float) -> float:
    """Return a job's CPU seconds: told, or its run time with all its cores busy, or the usual."""
    if one.work is not None:
        return one.work
    if one.duration is None:
        return queue.work
    longest = queue.shrink.longest
    return (one.duration if longest is None else min(one.duration, longest)) * cores


def _artifact(name: str, size: int) -> Artifact | None:
    return Artifact(name, size) if size else None


def _demand(name: str, job: Job, count: int) -> provisioning.Demand:
    return provisioning.Demand(
        service=name,
        resources=job.resources,
        replicas=count,
        artifact=job.artifact,
        nodes=job.nodes,
    )
