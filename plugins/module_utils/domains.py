# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's health where the node is a machine of libvirt: its controller changes it, by virsh.

  paused   the domain is suspended: everything in it stands still, its clocks too
  stopped  it is asked to shut down (ACPI), and switched off when it does not
  crashed  it is switched off, as by pulling its plug

What a domain is now is always asked of libvirt, so a change that was cut short is taken up where it
was. The layers are kept by the controller, for a machine that is off can be told nothing.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import channel, condition, layers, transition
from .change import Change
from .condition import CRASHED, PAUSED, RUNNING, STORE, is_off, is_up
from .errors import CapabilityError, DisturbanceError, NodeError
from .identity import Identity
from .transition import Acts, show

PACKAGE = "libvirt-clients"
# Where nothing runs, and where a machine that broke down is still held.
OFF: Final = "off"
DEAD: Final = "dead"
# A machine may take so long to shut down, in seconds; emulated ones need most of it.
GRACE = 60.0
_PATIENCE = 60.0
_PAUSE = 0.5
# A machine that is still starting does not hear that it is to shut down.
_ASK_AGAIN = 10.0
_STATES: Mapping[str, str] = {
    "running": RUNNING,
    "idle": RUNNING,
    "in shutdown": RUNNING,
    "paused": PAUSED,
    "shut off": OFF,
    "crashed": DEAD,
}
_MISSING = ("failed to get domain", "domain not found", "no domain with matching")


@dataclass(frozen=True, slots=True)
class Guest(Identity):
    """A node that is a machine of libvirt, as its controller sees it.

    Attributes:
        domain: its domain's name.
        uri: where its libvirt is, such as ``qemu:///system``.
    """

    domain: str = ""
    uri: str = ""

    @property
    def agent(self) -> Path:
        """Where the testbed's watchman listens."""
        return Path(self.directory).parents[1] / channel.AGENT


def guest(directory: Path, domain: str, uri: str) -> Guest:
    """Return a node by its own folder on the controller, ``…/TESTBED/nodes/NODE``.

    Of what only the node itself needs to know, nothing is filled in.
    """
    return Guest(
        name=directory.name,
        testbed=directory.parents[1].name,
        interface="",
        address="",
        network="",
        peers={},
        access=None,
        cgroup="",
        cpu=0.0,
        memory=0,
        pids=0,
        directory=str(directory),
        domain=domain,
        uri=uri,
    )


def read(node: Guest) -> str:
    """Return what a node's domain is: ``running``, ``paused``, ``off`` or ``dead``.

    Raises:
        NodeError: if there is no such domain.
        DisturbanceError: if libvirt does not tell, or is in a state that nothing here leads out of.
    """
    word = _virsh(node, "domstate", node.domain)
    if word not in _STATES:
        raise DisturbanceError(
            f"{node.name}: its domain {node.domain} is {word!r}; bring it out of that with virsh"
        )
    return _STATES[word]


def steps(now: str, then: str) -> list[str]:
    """Return what brings a domain from what it is to a condition, in order; none if it is there."""
    if is_off(then):
        return _steps_down(now, then)
    if now == (RUNNING if is_up(then) else PAUSED):
        return []
    if now in (RUNNING, PAUSED):
        return ["resume" if is_up(then) else "suspend"]
    return ["switch off"] * (now == DEAD) + ["start" if is_up(then) else "start paused"]


def _steps_down(now: str, then: str) -> list[str]:
    if now == OFF:
        return []
    if then == CRASHED or now == DEAD:
        return ["switch off"]
    return ["resume"] * (now == PAUSED) + ["shut down"]


def change(
    node: Guest,
    *,
    layer: str | None,
    health: str | None = None,
    present: bool = True,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of a node's health and bring its domain to what all layers ask.

    Args:
        node: the node.
        layer: the layer's name; None with present=False takes away all.
        health: ``paused``, ``stopped`` or ``crashed``.
        present: whether the layer should be there.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line; the layer stays stored, to be tried again.
    """
    content = transition.body(health) if present else None
    _have_folder(node)
    acts = Acts(
        # Nothing is written down of a domain that is not there; a dry run only looks once.
        check=lambda _: None if dry_run else read(node),
        foresee=lambda then: steps(read(node), then),
        bring=lambda then: _bring(node, then),
    )
    return transition.change(node, acts, layer, content, dry_run=dry_run)


def converge(node: Guest, *, dry_run: bool = False) -> Change:
    """Bring a node to what its stored layers ask for; the actions of a dry run are the drift.

    Raises:
        DisturbanceError: one line.
    """
    _have_folder(node)
    with layers.locked(Path(node.directory, STORE)):
        asked = condition.load(node.directory)
        now = read(node)
        done = steps(now, asked) if dry_run else _bring(node, asked)
    return Change(bool(done), f"domain: {now}\n" if done else show(asked), show(asked), done)


def _have_folder(node: Guest) -> None:
    """Make the node's folder, where its layers are, when it is first needed."""
    folder = Path(node.directory)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NodeError(f"{folder} cannot be made: {error.strerror}") from error


def _bring(node: Guest, then: str) -> list[str]:
    """Take the steps to a condition and return them."""
    todo = steps(read(node), then)
    for step in todo:
        _act(node, step)
    return todo


def _act(node: Guest, step: str) -> None:
    """Take one step; whatever virsh says of it, what has come about counts."""
    act, result = _ACTS[step]
    try:
        act(node)
    except DisturbanceError:
        if read(node) != result:
            raise
        return
    if read(node) != result:
        raise DisturbanceError(f"{node.name}: its domain is {read(node)} after {step!r}")


def _shut_down(node: Guest) -> None:
    """Ask the machine to end, and switch it off when the grace is over."""
    deadline = time.monotonic() + GRACE
    again = 0.0
    while read(node) == RUNNING and (now := time.monotonic()) < deadline:
        if now >= again:
            again = now + _ASK_AGAIN
            with suppress(DisturbanceError):
                _virsh(node, "shutdown", node.domain, "--mode", "acpi")
        time.sleep(_PAUSE)
    if read(node) != OFF:
        _virsh(node, "destroy", node.domain)


def _plain(*words: str) -> Callable[[Guest], None]:
    def act(node: Guest) -> None:
        _virsh(node, words[0], node.domain, *words[1:])

    return act


# What each step does, and what the domain is afterwards.
_ACTS: Mapping[str, tuple[Callable[[Guest], None], str]] = {
    "resume": (_plain("resume"), RUNNING),
    "start": (_plain("start"), RUNNING),
    "start paused": (_plain("start", "--paused"), PAUSED),
    "suspend": (_plain("suspend"), PAUSED),
    "switch off": (_plain("destroy"), OFF),
    "shut down": (_shut_down, OFF),
}


def _virsh(node: Guest, command: str, *words: str) -> str:
    """Return what virsh prints, without the white space around it.

    Raises:
        CapabilityError: if there is no virsh.
        NodeError: if there is no such domain.
        DisturbanceError: in libvirt's own words, if it refuses or does not answer.
    """
    try:
        done = subprocess.run(
            ["virsh", "--quiet", "--connect", node.uri, command, *words],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError as error:
        raise CapabilityError(
            f"the health of {node.name} is changed by virsh, which is missing:"
            f" apt-get install {PACKAGE}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DisturbanceError(
            f"{node.name}: {node.uri} did not answer virsh {command} within {_PATIENCE:g} s"
        ) from error
    if done.returncode:
        raise _refusal(node, done.stderr)
    return done.stdout.strip()


def _refusal(node: Guest, errors: str) -> DisturbanceError:
    lines = [line.strip().removeprefix("error: ") for line in errors.splitlines() if line.strip()]
    if any(line.lower().startswith(_MISSING) for line in lines):
        return NodeError(f"{node.name}: {node.uri} has no domain {node.domain}; run pkgctl up")
    return DisturbanceError(f"{node.name}: {lines[-1] if lines else 'virsh did not say why'}")
