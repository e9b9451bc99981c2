# SPDX-License-Identifier: GPL-3.0-or-later
"""A local testbed's life: up, changed, looked at, down.

The folder in /run is made first and removed last, and everything else can be found from the
testbed's name alone; so `down` removes what an `up` that was killed half-way had made.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pkgctl import nodeplan
from pkgctl.errors import PkgctlError, TestbedError
from pkgctl.local import foresight, namespaces, nodes, planning
from pkgctl.local.holding import Outcome, explained, locked, require_root
from pkgctl.local.paths import Paths
from pkgctl.local.removal import kill, remove
from pkgctl.local.state import AGENT_SOCKET
from pkgctl.local.state import node_state as node_state
from pkgctl.local.state import read_state as read_state
from pkgctl.nodeside import (
    cgroups,
    channel,
    daemon,
    delayclient,
    identity,
    layers,
    links,
    quotas,
    supervised,
    syscalls,
)
from pkgctl.nodeside import errors as node_errors
from pkgctl.topology import Topology, check_machine

_CONTROL = "control"


def warnings(topology: Topology) -> list[str]:
    """Return what the user should know of a topology on this machine."""
    cores = len(os.sched_getaffinity(0))
    asked = sum(node.cpu for node in topology.nodes)
    if asked <= cores:
        return []
    return [
        f"the nodes have {asked:g} cores and this machine {cores}: when more than that are busy at"
        f" once, all get less than declared ({asked / cores:.2g}× over-committed)"
    ]


def up(topology: Topology, paths: Paths, *, dry_run: bool = False) -> Outcome:
    """Bring a testbed to what a topology asks for, changing only what differs.

    Raises:
        SpecError: if this machine is too small for the topology.
        MissingCapability: if it lacks something.
        TestbedError: if it refuses something; what a first `up` had made is removed again.
    """
    require_root()
    started = time.monotonic()
    check_fits(topology)
    with locked(), explained():
        before = json.loads(paths.state.read_text()) if paths.state.exists() else None
        lines, plan = bring(topology, paths, before, Manner(dry_run=dry_run))
    seconds = time.monotonic() - started
    told = warnings(topology) + foresight.of_matrix(plan.matrix)
    return Outcome(bool(lines), lines, told, seconds)


def check_fits(topology: Topology) -> None:
    """Refuse a topology for which this machine is too small.

    Raises:
        SpecError: with both numbers.
    """
    check_machine(topology, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


@dataclass(frozen=True, slots=True)
class Manner:
    """How a testbed is brought to a topology.

    Attributes:
        dry_run: only say what would be done.
        addresses: those that new nodes get, where nobody has them.
        suspects: nodes that may not be what the testbed's state says, and are mended if so.
        noted: what else the testbed's state says, beside the topology.
    """

    dry_run: bool = False
    addresses: Mapping[str, str] = field(default_factory=dict)
    suspects: Set[str] = frozenset()
    noted: Mapping[str, Any] = field(default_factory=dict)


def bring(
    topology: Topology, paths: Paths, before: Mapping[str, Any] | None, manner: Manner
) -> tuple[list[str], planning.Plan]:
    """Make a testbed, or change it from what its state says to what a topology asks for.

    The caller holds the lock.

    Returns:
        What differed, a fact a line, and the testbed as it should be.

    Raises:
        PkgctlError, DisturbanceError: if the machine lacks or refuses something.
    """
    known = {name: node["address"] for name, node in (before or {"nodes": {}})["nodes"].items()}
    taken = set(known.values())
    wished = {name: each for name, each in manner.addresses.items() if each not in taken}
    plan = planning.plan(topology, paths, {**wished, **known}, ipv6=nodes.has_ipv6())
    if before is None:
        return _create(plan, paths, manner), plan
    return _change(before, plan, paths, manner), plan


def _create(plan: planning.Plan, paths: Paths, manner: Manner) -> list[str]:
    lines = [f"+ node {name}" for name in plan.nodes]
    if manner.dry_run:
        return lines
    _check_left_over(paths)
    try:
        _lay_out(plan, paths)
        nodes.make_switch(paths)
        _start_daemons(paths)
        nodes.Builder(paths, plan).make(list(plan.nodes))
        _reload_delays(plan, paths)
        _save_state({**plan.state(paths), **manner.noted}, paths)
    except BaseException:
        with suppress(PkgctlError):
            remove(paths)
        raise
    return lines


def _check_left_over(paths: Paths) -> None:
    if paths.run.exists() or cgroups.group(paths.cgroup).exists():
        raise TestbedError(
            f"testbed {paths.name!r} was left half-made: run `pkgctl down --name {paths.name}`"
        )


def _lay_out(plan: planning.Plan, paths: Paths) -> None:
    # In memory of its own: /run is a disk on some machines, and one unmount removes it all.
    paths.run.mkdir()
    _mount_private(paths.run, "size=1g,mode=700")
    for name in ("ns", "agent", "nodes", "jobs", "logs"):
        (paths.run / name).mkdir()
    paths.images.mkdir(parents=True, exist_ok=True, mode=0o700)
    _mount_private(paths.pins, "size=1m,mode=700")
    paths.hosts.write_text(nodeplan.hosts_file(plan.nodes))
    cgroups.group(f"{paths.cgroup}/agent").create()


def _mount_private(place: Path, options: str) -> None:
    syscalls.mount("tmpfs", str(place), "tmpfs", 0, options)
    syscalls.mount(None, str(place), None, syscalls.MS_PRIVATE)


def _start_daemons(paths: Paths) -> None:
    group = cgroups.group(f"{paths.cgroup}/agent")
    daemon.ensure("delayline", paths.run, paths.agent / delayclient.SOCKET, group=group)
    daemon.ensure("agent", paths.run, paths.agent / AGENT_SOCKET, group=group)


def _reload_delays(plan: planning.Plan, paths: Paths) -> None:
    if any(
        cell.delay or cell.jitter or cell.loss
        for row in plan.matrix.values()
        for cell in row.values()
    ):
        channel.call(paths.agent / delayclient.SOCKET, "reload")


def _save_state(state: Mapping[str, Any], paths: Paths) -> None:
    fresh = paths.state.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    fresh.replace(paths.state)


def _change(
    before: Mapping[str, Any], plan: planning.Plan, paths: Paths, manner: Manner
) -> list[str]:
    todo = planning.difference(before, plan, paths)
    after = {**plan.state(paths), **manner.noted}
    _mend(todo, plan, paths, manner.suspects)
    if manner.dry_run:
        return todo.lines
    _start_daemons(paths)
    if todo.lines:
        _perform(todo, before, plan, paths)
    if todo.lines or after != before:
        _save_state(after, paths)
    return todo.lines


def _perform(
    todo: planning.Difference, before: Mapping[str, Any], plan: planning.Plan, paths: Paths
) -> None:
    for name in todo.removed:
        _remove_node(name, before["nodes"][name], paths)
    for name in todo.made:
        if paths.node(name).exists() or paths.namespaces(name).exists():
            # What a change that was killed half-way had made of it.
            _remove_node(name, planned(plan, name), paths)
    paths.hosts.write_text(nodeplan.hosts_file(plan.nodes))
    nodes.Builder(paths, plan).make(todo.made)
    for name, node in plan.nodes.items():
        if name not in todo.made:
            node.save()
    for name in todo.shaped:
        _reshape(name, plan, paths)
    for name in todo.limited:
        with inside(paths, name) as here:
            quotas.change(here, layer=layers.BASE, limits=nodes.limits(plan.nodes[name]))
    channel.call(paths.agent / delayclient.SOCKET, "reload")


def planned(plan: planning.Plan, name: str) -> dict[str, str]:
    """Return by what a node's parts are found that a plan asks for."""
    return {"address": plan.nodes[name].address, "cgroup": plan.nodes[name].cgroup}


def _mend(todo: planning.Difference, plan: planning.Plan, paths: Paths, suspects: Set[str]) -> None:
    """Add to what is to be done whatever else suspects lack of what the plan asks."""
    for name in suspects & (plan.nodes.keys() - set(todo.made)):
        if not is_whole(paths, name):
            todo.removed.append(name)
            todo.made.append(name)
            todo.lines.append(f"~ node {name}: was not there as described, and is made anew")
            continue
        for kind, names, differs in (
            ("links", todo.shaped, _links_differ(plan, paths, name)),
            ("limits", todo.limited, _limits_differ(plan, paths, name)),
        ):
            if differs and name not in names:
                names.append(name)
                todo.lines.append(f"~ node {name}: its own {kind} were not as described")


def is_whole(paths: Paths, name: str) -> bool:
    """Return whether a node's folder and namespaces are there."""
    own = (paths.node(name) / "node.json", *(paths.namespaces(name) / k for k in namespaces.KINDS))
    return all(path.exists() for path in own)


def base(paths: Paths, name: str, store: str) -> Mapping[str, Any]:
    """Return the content of the layer base of one of a node's stores."""
    return layers.load(paths.node(name) / store).get(layers.BASE, {})


def _links_differ(plan: planning.Plan, paths: Paths, name: str) -> bool:
    return base(paths, name, links.STORE) != links.body(plan.egress(name), plan.ingress(name))


def _limits_differ(plan: planning.Plan, paths: Paths, name: str) -> bool:
    return base(paths, name, quotas.STORE) != nodes.limits(plan.nodes[name])


def _reshape(name: str, plan: planning.Plan, paths: Paths) -> None:
    with inside(paths, name) as here:
        links.change(here, layer=layers.BASE, egress=plan.egress(name), ingress=plan.ingress(name))


@contextmanager
def inside(paths: Paths, name: str) -> Iterator[identity.Identity]:
    """Be in a node's namespaces while the block runs; the node's identity is the value."""
    with namespaces.host():
        namespaces.enter(paths.namespaces(name), *namespaces.KINDS)
        yield identity.load()


def _remove_node(name: str, node: Mapping[str, Any], paths: Paths) -> None:
    groups = [cgroups.group(path) for path in (node["cgroup"], paths.system(name))]
    # A unit without a record is not started again.
    shutil.rmtree(paths.node(name) / supervised.FOLDER, ignore_errors=True)
    for group in groups:
        kill(group)
    nodes.unplug(paths, [node["address"]])
    for kind in namespaces.KINDS:
        with suppress(node_errors.KernelError):
            syscalls.unmount(str(paths.namespaces(name) / kind), syscalls.MNT_DETACH)
    shutil.rmtree(paths.namespaces(name), ignore_errors=True)
    shutil.rmtree(paths.node(name), ignore_errors=True)
    shutil.rmtree(paths.disks(name), ignore_errors=True)
    shutil.rmtree(paths.run / "logs" / supervised.FOLDER / name, ignore_errors=True)
    for group in groups:
        group.remove()
