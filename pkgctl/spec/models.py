# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment file says, as frozen values.

``Head`` holds for the whole experiment; ``Body`` is what may differ from cell to cell, after the
cell's factors were put in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pkgctl.nodeside import perturbation
from pkgctl.spec.fields import (
    Amount,
    Count,
    Cpu,
    Duration,
    Frequency,
    JobName,
    Model,
    Name,
    Ratio,
    Size,
    Span,
    Speed,
    Where,
    Words,
)

Format = Literal["auto", "azure-llm", "openb", "csv"]
Scalar = str | int | float | bool


def _one_of(model: Model, keys: tuple[str, ...]) -> None:
    """Refuse a model of which not exactly one of the keys is set."""
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise ValueError(f"give exactly one of {', '.join(keys)}; found {found}")


class Resources(Model):
    """What one replica or one job may use."""

    cpu: Cpu = 0.1
    memory: Amount = 32 * 2**20


class Place(Model):
    """Where a service or a job may run and who decides it."""

    on: Where | None = None
    scheduler: str | None = None
    provision: str | None = None


class Request(Model):
    """What one request costs: CPU seconds at the replica, bytes there and bytes back."""

    cpu: Duration = 0.0
    bytes_in: Size = Field(default=0, alias="in")
    bytes_out: Size = Field(default=0, alias="out")


class Slo(Model):
    """An objective: this part of the requests is answered within this latency."""

    latency: Span
    at: Ratio = 0.95


class Step(Model):
    """A change of the number of replicas while the load runs."""

    at: Duration
    replicas: Count


class Service(Model):
    """A service: replicas that answer requests until they are stopped."""

    replicas: Count = 1
    place: Place = Place()
    resources: Resources = Resources()
    artifact: Size = 0
    request: Request = Request()
    slo: Slo | None = None
    route: Literal["round-robin", "random", "nearest"] = "round-robin"
    scale: tuple[Step, ...] = ()


class Arrivals(Model):
    """When requests or jobs arrive: a process with a frequency, a trace, or given moments."""

    poisson: Frequency | None = None
    constant: Frequency | None = None
    trace: str | None = None
    at: tuple[Duration, ...] | None = None
    format: Format = "auto"
    speed: Speed = 1.0
    head: Annotated[int, Field(strict=True, ge=1)] | None = None
    skip: Annotated[int, Field(strict=True, ge=0)] = 0

    @property
    def is_process(self) -> bool:
        """Whether arrivals are made up, so that there may be as many as wanted."""
        return self.poisson is not None or self.constant is not None

    @model_validator(mode="after")
    def _check(self) -> Arrivals:
        _one_of(self, ("poisson", "constant", "trace", "at"))
        extra = {"format", "speed", "head", "skip"} & self.model_fields_set
        if extra and self.trace is None:
            raise ValueError(f"{min(extra)} belongs to a trace, and there is none here")
        return self


class Load(Model):
    """Requests to one service, each sent from one of the chosen nodes, drawn at random."""

    service: str
    source: Where = Field(alias="from")
    arrivals: Arrivals
    duration: Span
    start: Duration = 0.0
    timeout: Span = 5.0


class Least(Model):
    """What a shrunk job asks for at least."""

    cpu: Cpu = 0.01
    memory: Amount = 20 * 2**20


class Shrink(Model):
    """How a job of a trace is made small enough for the testbed.

    ``cpu`` and ``memory`` are factors for what it asks, ``least`` what is left at least;
    ``longest`` bounds its run time, after the trace was sped up.
    """

    cpu: Annotated[float, Field(gt=0)] = 1.0
    memory: Annotated[float, Field(gt=0)] = 1.0
    least: Least = Least()
    longest: Span | None = None


class Queue(Model):
    """Jobs that arrive, wait for a place, run to their end and are gone."""

    kind: Literal["batch", "latency"] = Field(default="batch", alias="class")
    source: Where | None = Field(default=None, alias="from")
    arrivals: Arrivals
    duration: Span
    start: Duration = 0.0
    place: Place = Place()
    resources: Resources = Resources()
    work: Span = 0.5
    bytes_in: Size = Field(default=0, alias="in")
    bytes_out: Size = Field(default=0, alias="out")
    artifact: Size = 0
    deadline: Span | None = None
    shrink: Shrink = Shrink()


class Parameter(Model):
    """A value that ``--set`` gives to the file, put in wherever its name stands in ``${}``."""

    default: Scalar | None = None
    required: bool = False
    help: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_plain(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"default": value}

    @model_validator(mode="after")
    def _check(self) -> Parameter:
        if self.required == (self.default is not None):
            raise ValueError("give a default, or required: true, and not both")
        return self


def _names(value: object) -> object:
    """Return the names in ``none``, ``all``, one name, ``a+b`` or a list of names."""
    if value in ("none", None, False):
        return ()
    return tuple(value.split("+")) if isinstance(value, str) else value


Factor = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=1000)]


class Head(Model):
    """What holds for the whole experiment."""

    name: Name
    question: str = Field(min_length=1)
    topology: str
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    repeats: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    factors: dict[str, Factor] = Field(default={})
    parameters: dict[str, Parameter] = Field(default={})
    measure: tuple[str, ...] = ()
    verify: Literal["none", "sample", "all"] = "sample"
    warm_up: Duration = Field(default=0.0, alias="warm-up")
    cool_down: Duration = Field(default=0.0, alias="cool-down")
    drain: Duration = 5.0


class Body(Model):
    """What may differ from cell to cell."""

    services: dict[JobName, Service] = Field(default={})
    load: tuple[Load, ...] = ()
    jobs: dict[JobName, Queue] = Field(default={})
    perturbations: dict[Name, Words] = Field(default={})
    perturb: Annotated[tuple[str, ...], BeforeValidator(_names)] = ("all",)
    scheduler: str = "least-allocated"
    provision: str = "cold"

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the perturbations that are applied."""
        return tuple(self.perturbations) if self.perturb == ("all",) else self.perturb

    def disturbance(self, name: str) -> perturbation.Perturbation:
        """Return what the words of a perturbation mean."""
        return perturbation.read({**self.perturbations[name], "name": name})

    @property
    def duration(self) -> float:
        """Seconds from the start of the load to the end of whatever the file asks for."""
        ends = [load.start + load.duration for load in self.load]
        ends += [queue.start + queue.duration for queue in self.jobs.values()]
        ends += [step.at for service in self.services.values() for step in service.scale]
        for read in map(self.disturbance, self.perturbations):
            ends.append(read.start if read.timing.ends is None else read.timing.ends)
        return max(ends)

    @model_validator(mode="after")
    def _check(self) -> Body:
        if not self.load and not self.jobs:
            raise ValueError("nothing to run; give load (requests) or jobs")
        return self
