# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine is this node: its description, the base of its layers, its agent, all in force.

To its agent the machine looks like a testbed of one node, each of whose namespaces is the machine's
own. What is asked is read and tried first, and what cannot be had after all is taken back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import (
    cabling,
    channel,
    daemon,
    enrolment,
    identity,
    kinds,
    layers,
    namespaces,
    preparing,
    services,
)
from .cgroups import group
from .change import Change
from .errors import AgentError, CapabilityError, DisturbanceError, NodeError
from .identity import DELAY_LINE, NETEM, Identity
from .linkkernel import Kernel, has_netem

AUTO = "auto"
NODE: Mapping[str, Any] = {
    "argument_spec": {
        "identity": {"type": "dict", "required": True},
        "links": {
            "type": "dict",
            "default": {},
            "options": {"egress": {"type": "dict"}, "ingress": {"type": "dict"}},
        },
        "limits": {"type": "dict"},
        "impairment": {"type": "str", "choices": [AUTO, NETEM, DELAY_LINE], "default": AUTO},
        "agent": {"type": "bool", "default": True},
    },
}
HOSTS = "/etc/hosts"
# Longer than an agent takes to begin on an emulated processor.
_PATIENCE = 120.0
_FOLDERS = ("agent", "exits", "jobs", "logs", "nodes", "ns")

Options = Mapping[str, Any]
Bodies = Mapping[str, layers.Body]


def settle(options: Options, *, dry_run: bool = False) -> dict[str, object]:
    """Do what the module node was told, and return its report.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for a value that cannot be read.
    """
    node = _with_impairment(enrolment.read_identity(options["identity"]), options["impairment"])
    bodies = enrolment.read_bodies(node, options)
    home = Path(identity.DIRECTORY)
    if not home.is_dir() and not dry_run:
        raise NodeError(f"there is no {home}: prepare the machine first, as the role base does")
    work = _Work(node, bodies, home, agent=options["agent"])
    work.foresee()
    if not dry_run:
        work.carry_out()
    return work.report()


def _with_impairment(node: Identity, asked: str) -> Identity:
    """Return a node with the impairment that is asked, or that its kernel has.

    Raises:
        CapabilityError: if it is to be netem and the kernel has none.
    """
    if asked == DELAY_LINE:
        return replace(node, impairment=DELAY_LINE)
    there = has_netem()
    if asked == NETEM and not there:
        raise CapabilityError(
            "this machine's kernel has no netem (sch_netem); say impairment: delay line, or auto"
        )
    return replace(node, impairment=NETEM if there else DELAY_LINE)


class _Work:
    """What is to be done to make this machine a node: found out first, then carried out."""

    def __init__(self, node: Identity, bodies: Bodies, home: Path, *, agent: bool) -> None:
        self._node, self._bodies, self._home = node, bodies, home
        self._before = self._known()
        self._agent = agent
        self._files = [step for step in self._described() if step is not None]
        self._changes: dict[str, Change] = {}
        self._told: list[str] = []
        self._cabled: list[str] = []

    def _is_prepared(self) -> bool:
        return self._home.is_dir() and group(self._node.cgroup).exists()

    def _known(self) -> Identity | None:
        try:
            return identity.load(self._home / "node.json")
        except NodeError:
            return None

    def _described(self) -> Iterator[preparing.Step | None]:
        yield preparing.block(Path(HOSTS), enrolment.hosts(self._node))
        shown = {
            key: "" if node is None else f"{json.dumps(asdict(node), indent=1, sort_keys=True)}\n"
            for key, node in (("before", self._before), ("after", self._node))
        }
        if shown["before"] != shown["after"] or not self._is_laid_out():
            yield preparing.Step("describe the node", act=self._describe, **shown)

    def _is_laid_out(self) -> bool:
        name = self._node.name
        there = (f"nodes/{name}/node.json", "state.json", daemon.SERVICE)
        pin = self._home / "ns" / name / "net"
        return pin.is_symlink() and all((self._home / each).exists() for each in there)

    def _describe(self) -> None:
        """Write the description, and what makes the machine look like a testbed of one node."""
        for name in _FOLDERS:
            (self._home / name).mkdir(exist_ok=True)
        own = self._home / "nodes" / self._node.name
        for other in own.parent.iterdir():
            if other.is_symlink() and other != own:
                other.unlink()
        _link(own, "..")
        pins = self._home / "ns" / self._node.name
        pins.mkdir(exist_ok=True)
        for kind in namespaces.KINDS:
            _link(pins / kind, f"/proc/1/ns/{kind}")
        (self._home / daemon.SERVICE).touch()
        self._node.save()
        (self._home / "state.json").write_text(json.dumps({"nodes": {self._node.name: {}}}))

    def foresee(self) -> None:
        """Try all of it dry, so that what is refused changes nothing.

        Raises:
            DisturbanceError: in one line.
        """
        self._cabled = cabling.bring(self._node, dry_run=True)
        if not self._is_prepared():
            # On a machine that was never a node nothing is in the way either.
            Kernel.here(self._node.interface).__exit__()
            return
        self._told = self._see_to_agent(dry_run=True)
        for kind in kinds.NAMES:
            self._changes[kind] = self._change(kind, dry_run=True)

    def carry_out(self) -> None:
        """Bring it all about.

        Raises:
            DisturbanceError: in one line; then description and base are what they were.
        """
        if self._changes and not self._differs:
            return
        group(self._node.cgroup).create()
        with self._or_back():
            for step in self._files:
                step.act()
            for kind in self._bodies:
                self._store(kind)
            cabling.bring(self._node)
            self._told = self._see_to_agent(dry_run=False)
            for kind in kinds.NAMES:
                done = self._change(kind, dry_run=False)
                known = self._changes.get(kind)
                self._changes[kind] = known if known and known.changed else done

    @contextmanager
    def _or_back(self) -> Iterator[None]:
        """Go back to the description and the stores of before if the block fails."""
        stores = [self._home / kinds.store(kind) for kind in self._bodies]
        paths = [self._home / "node.json", self._home / "state.json", Path(HOSTS), *stores]
        kept = {path: path.read_bytes() if path.exists() else None for path in paths}
        try:
            yield
        except DisturbanceError:
            for path, content in kept.items():
                path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
            if self._before is not None:
                _go_back(self._before)
            raise

    def _is_stored(self, kind: str) -> bool:
        stored = layers.load(self._home / kinds.store(kind))
        return stored.get(layers.BASE) == self._bodies[kind]

    def _store(self, kind: str) -> None:
        path = self._home / kinds.store(kind)
        with layers.locked(path):
            stored = layers.load(path)
            base = {layers.BASE: self._bodies[kind]}
            if (fresh := {**base, **stored, **base}) != stored:
                layers.save(path, fresh)

    def _change(self, kind: str, *, dry_run: bool) -> Change:
        """Bring about, or try dry, what the layers of one kind ask for, the new base among them."""
        # A delay line that is still to come cannot say what it does.
        comes = kind == "link" and bool(self._told or self._cabled)
        if dry_run and kind in self._bodies and (comes or not self._is_stored(kind)):
            return kinds.set_layer(
                self._node, kind, layers.BASE, self._bodies[kind], force=False, dry_run=True
            )
        return kinds.converge(self._node, kind, dry_run=dry_run)

    def _see_to_agent(self, *, dry_run: bool) -> list[str]:
        """Start the agent, or start it again if it runs on what is no longer there."""
        if not self._agent:
            return []
        mark, place = self._home / services.OUTDATED, self._home / channel.AGENT
        moved = self._before is not None and _runs_on(self._before) != _runs_on(self._node)
        if not mark.exists() and not moved and answers(place):
            return []
        if not dry_run:
            services.systemctl("restart", services.AGENT)
            await_answer(place)
            mark.unlink(missing_ok=True)
        return [f"start {services.AGENT}"]

    @property
    def _differs(self) -> bool:
        there = any(each.changed for each in self._changes.values())
        return bool(self._files or self._cabled or self._told or there)

    def report(self) -> dict[str, object]:
        """Return what a module reports."""
        changes = {kind: each for kind, each in self._changes.items() if each.changed}
        actions = [step.what for step in self._files] + self._cabled + self._told
        actions += [action for each in changes.values() for action in each.actions]
        return {
            "changed": self._differs,
            "actions": actions,
            "impairment": self._node.impairment,
            "diff": [step.diff for step in self._files]
            + [
                {"before_header": kind, "after_header": kind}
                | {"before": each.before, "after": each.after}
                for kind, each in changes.items()
            ],
        }


def _go_back(node: Identity) -> None:
    with suppress(DisturbanceError):
        cabling.bring(node)
    for kind in kinds.NAMES:
        with suppress(DisturbanceError):
            kinds.converge(node, kind)


def _link(place: Path, target: str) -> None:
    if not place.is_symlink() or str(place.readlink()) != target:
        place.unlink(missing_ok=True)
        place.symlink_to(target)


def _runs_on(node: Identity) -> tuple[str, ...]:
    """Return what an agent takes from a node's description once and for all."""
    return node.name, node.interface, node.impairment, str(node.needs_switch)


def answers(place: Path) -> bool:
    """Return whether an agent answers at a socket."""
    try:
        with channel.Client(place, timeout=_PATIENCE) as client:
            client.call("ping")
    except AgentError:
        return False
    return True


def await_answer(place: Path) -> None:
    """Wait until the agent answers.

    Raises:
        AgentError: if it does not.
    """
    deadline = time.monotonic() + _PATIENCE
    while not answers(place):
        if time.monotonic() > deadline:
            raise AgentError(f"{services.AGENT} does not answer: see journalctl -u pkgctl-agent")
        time.sleep(0.1)
