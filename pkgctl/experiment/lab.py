# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed in the hands of an experiment: made if need be, armed, recovered, left as it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pkgctl.errors import ClusterError, SpecError
from pkgctl.experiment import disturb
from pkgctl.experiment.interruption import Interruption
from pkgctl.local.backend import LocalBackend
from pkgctl.local.holding import Outcome
from pkgctl.local.paths import Paths
from pkgctl.local.state import read_state
from pkgctl.spec.models import Body
from pkgctl.topology import Topology


class Maker(Protocol):
    """What makes a testbed and takes it down again."""

    def bring(self, topology: Topology) -> Outcome:
        """Bring the testbed to a topology."""

    def remove(self) -> None:
        """Take it down."""


class Cluster(Protocol):
    """A testbed that is up, whose nodes are a cluster that runs the jobs."""

    def check(self) -> None:
        """Refuse what cannot run an experiment."""

    def backend(self, paths: Paths, *, renew: bool = False) -> LocalBackend:
        """Return what runs jobs there."""

    def leave(self) -> None:
        """Let nothing of the experiment stay there."""


class Wishes(Protocol):
    """What decides about the testbed."""

    @property
    def paths(self) -> Paths: ...  # noqa: D102 - the names say it
    @property
    def maker(self) -> Maker | None: ...  # noqa: D102
    @property
    def cluster(self) -> Cluster | None: ...  # noqa: D102
    @property
    def keep(self) -> bool: ...  # noqa: D102
    @property
    def force(self) -> bool: ...  # noqa: D102


@contextlib.contextmanager
def testbed_of(topology: Topology, wishes: Wishes, interruption: Interruption) -> Iterator[Outcome]:
    """Have a testbed of this topology while the block runs; one that was not up is taken down.

    Raises:
        PkgctlError: if it cannot be had.
    """
    paths = wishes.paths
    if wishes.cluster is not None:
        try:
            yield Outcome(changed=False)
        finally:
            if not wishes.keep:
                wishes.cluster.leave()
        return
    if paths.state.exists():
        yield paths.reach().bring(topology)
        return
    maker: Maker = wishes.maker or paths.reach()
    try:
        with interruption.shielded():
            outcome = maker.bring(topology)
        yield outcome
    finally:
        if not wishes.keep:
            maker.remove()


def check_fit(topology: Topology, wishes: Wishes) -> None:
    """Refuse a testbed that is up with another topology, or in use.

    Raises:
        SpecError: with what to do about it.
        MissingCapability: if this user may not have testbeds.
        TestbedError, ClusterError: if it has to be up and be a cluster, and is not.
    """
    paths = wishes.paths
    paths.reach().require()
    if wishes.cluster is None and not paths.state.exists():
        return
    state = read_state(paths)
    if not Topology.from_dict(state["topology"]).is_like(topology):
        raise SpecError(
            f"testbed {paths.name!r} is up with topology {state['topology']['name']}, and "
            f"{topology.name} is needed; take another name with --name, or run pkgctl down"
        )
    if wishes.cluster is not None:
        wishes.cluster.check()
    if not wishes.force:
        _check_quiet(paths)


def _check_quiet(paths: Paths) -> None:
    if layers := disturb.in_force(paths):
        raise SpecError(
            f"testbed {paths.name!r} is disturbed by {', '.join(layers)}; run pkgctl heal, or "
            "let the experiment heal it with --force"
        )
    if jobs := _running(paths):
        raise SpecError(
            f"jobs run on testbed {paths.name!r} ({', '.join(jobs[:5])}) and would disturb the "
            "measurement; remove them, or go on with --force"
        )


def _running(paths: Paths) -> list[str]:
    with contextlib.closing(LocalBackend(paths)) as backend:
        return [name for name, job in backend.jobs.items() if _disturbs(job.labels, job.has_ended)]


def _disturbs(labels: object, has_ended: bool) -> bool:
    ours = isinstance(labels, dict) and labels.get("owner") == "experiment"
    store = isinstance(labels, dict) and labels.get("kind") == "store"
    return not (has_ended or ours or store)


class Lab:
    """The backend, the sampler and the armed timelines of a testbed."""

    def __init__(self, paths: Paths, artifacts: Path, cluster: Cluster | None = None) -> None:
        self._paths = paths
        self._make = cluster.backend if cluster is not None else LocalBackend
        self._artifacts = artifacts
        self._armed: dict[str, str] = {}
        self._open()

    def _open(self) -> None:
        self.backend = self._make(self._paths, renew=True)
        self.samples = self.backend.samples(self.backend.reach.sampling)
        # What an experiment that was killed has left behind.
        self.backend.remove(
            [name for name, job in self.backend.jobs.items() if job.labels.get("owner")]
        )

    def arm(self, body: Body) -> str | None:
        """Return the timeline of a cell's perturbations, None if it has none.

        What several cells share is armed only once.
        """
        if not body.active:
            return None
        key = json.dumps(disturb.words(body), sort_keys=True)
        if key not in self._armed:
            timeline = f"experiment-{len(self._armed) + 1}"
            # An experiment that was killed may have left some steps on one of this name.
            self.backend.drop_timeline(timeline)
            self._armed[key] = timeline
            disturb.arm(body, timeline, self._paths, self._artifacts)
        return self._armed[key]

    def heal_left_over(self, body: Body) -> list[str]:
        """Heal what is still in force after a run; return what should have ended by itself."""
        left = disturb.in_force(self._paths) if body.active else []
        disturb.heal(left, self._paths, self._artifacts)
        return [name for name in left if name not in disturb.open_ended(body)]

    def recover(self) -> None:
        """Begin anew after a failure.

        Raises:
            TestbedError: if the testbed is lost.
            ClusterError: if the cluster is; the testbed can still be left as it was.
        """
        self._hang_up()
        try:
            self._open()
        except ClusterError:
            self._make = LocalBackend
            self._open()
            raise
        self._disarm()
        disturb.heal(disturb.in_force(self._paths), self._paths, self._artifacts)

    def close(self) -> None:
        """Leave the testbed without timelines, layers and jobs of ours.

        Raises:
            ClusterError: if pods are left, for the cluster does not answer; all else is done.
        """
        try:
            self._disarm()
            ours = [name for name, job in self.backend.jobs.items() if job.labels.get("owner")]
            self.backend.remove(ours)
        finally:
            self._hang_up()
            disturb.heal(disturb.in_force(self._paths), self._paths, self._artifacts)

    def _disarm(self) -> None:
        for timeline in self._armed.values():
            self.backend.drop_timeline(timeline)
        self._armed = {}

    def _hang_up(self) -> None:
        self.samples.close()
        self.backend.close()
