# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be placed: a batch job that ends, or a replica of a service, which serves on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pkgctl.scheduling.resources import NOTHING, Resources


class JobClass(StrEnum):
    """What matters about a job: how fast it answers, or how much gets done."""

    LATENCY = "latency"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a node needs before it can run a job: a program, a model, an image."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, as its owner describes it.

    Attributes:
        id: its name, unlike any other's.
        job_class: latency or batch.
        resources: what it asks of the node as long as it runs.
        origin: the node from which its input comes and to which its output goes.
        clients: the nodes that will use it, with the weight of each; for services.
        nodes: the names of the nodes where it may run; None is any.
        artifact: what its node must have before it starts.
        work: CPU seconds that it takes; None is until it is stopped.
        in_bytes: input, or a request's body.
        out_bytes: output, or an answer's body.
        arrival: when it was submitted, in seconds on the experiment's clock.
        deadline: when it should be done, on the same clock; for batch jobs.
        objective: latency in seconds that its answers should keep; for services.
        priority: the higher goes first, and may displace the lower.
        tenant: on whose account it runs.
    """

    id: str
    job_class: JobClass = JobClass.BATCH
    resources: Resources = NOTHING
    origin: str | None = None
    clients: Mapping[str, float] = field(default_factory=dict, hash=False)
    nodes: frozenset[str] | None = None
    artifact: Artifact | None = None
    work: float | None = None
    in_bytes: int = 0
    out_bytes: int = 0
    arrival: float = 0.0
    deadline: float | None = None
    objective: float | None = None
    priority: int = 0
    tenant: str = "default"
