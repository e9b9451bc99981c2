# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedulers and provisioning models by the names that experiment files use.

Besides the built-in names, ``package.module:Class`` names a class of the user's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from pkgctl.errors import SpecError, nearest
from pkgctl.scheduling.allocation import LeastAllocated, MostAllocated
from pkgctl.scheduling.decision import Scheduler
from pkgctl.scheduling.delegated import KUBE_SCHEDULER, Delegated
from pkgctl.scheduling.nearest import Nearest
from pkgctl.scheduling.provisioning import Cold, Prefetched, Provisioner
from pkgctl.scheduling.turns import Random, RoundRobin

SCHEDULERS: Mapping[str, Callable[[], Scheduler]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-allocated": LeastAllocated,
    "most-allocated": MostAllocated,
    "nearest": Nearest,
}
PROVISIONERS: Mapping[str, Callable[[], Provisioner]] = {"cold": Cold, "prefetched": Prefetched}


def decider(name: str) -> Scheduler:
    """Return what decides in an experiment: a scheduler, or who leaves it to Kubernetes.

    Raises:
        SpecError: if there is none of that name.
    """
    if name == KUBE_SCHEDULER:
        return Delegated()
    known = [*SCHEDULERS, KUBE_SCHEDULER]
    if ":" not in name and name not in known:
        raise SpecError(f"no scheduler is called {name!r}; {nearest(name, known)}")
    return scheduler(name)


def scheduler(name: str) -> Scheduler:
    """Return a new scheduler, which remembers nothing yet.

    Raises:
        SpecError: if there is none of that name.
    """
    if ":" in name:
        made: Scheduler = _own(name, "place")
        return made
    if name not in SCHEDULERS:
        raise SpecError(f"no scheduler is called {name!r}; {nearest(name, SCHEDULERS)}")
    return SCHEDULERS[name]()


def provisioner(name: str) -> Provisioner:
    """Return a new provisioner.

    Raises:
        SpecError: if there is none of that name.
    """
    if ":" in name:
        made: Provisioner = _own(name, "plan")
        return made
    if name not in PROVISIONERS:
        raise SpecError(f"no provisioning model is called {name!r}; {nearest(name, PROVISIONERS)}")
    return PROVISIONERS[name]()


def _own(name: str, method: str) -> Any:
    """Return a new object of the class that ``package.module:Class`` names."""
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, ValueError, AttributeError) as error:
        raise SpecError(f"{name}: cannot be imported: {error}") from error
    if not callable(getattr(found, method, None)):
        raise SpecError(f"{name}: it has no method {method!r}")
    return found()
