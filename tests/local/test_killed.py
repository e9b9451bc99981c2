# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever is killed, and whenever: when leases are over the machine reads as it did before.

Each round several nodes are disturbed, reshaped or healed at once, and SIGKILL hits those who do
it, the agent, the delay line, or all of them, after a time drawn from the round's seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from pkgctl import topology
from pkgctl.local import testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import channel, delayclient, errors, parts, specifications

from .pictures import differences, picture

pytestmark = pytest.mark.root

SEED = 20_240_101
# As many as are promised where everything is tested, and a few of them where somebody waits.
ROUNDS, KILLS = (54, 200) if os.environ.get("CI") else (12, 40)
COMMANDS = 10 if os.environ.get("CI") else 3
LEASE = "1s"
PATIENCE = 240.0
NODES = [f"edge-{number}" for number in range(1, 6)]


def settings(rng: random.Random, node: str) -> dict[str, Any]:
    """Return the parts of a layer, as the module `layer` takes them."""
    peer = rng.choice([each for each in [*NODES, "cloud-1", "cloud-2"] if each != node])
    quality = {
        "rate": f"{rng.randrange(1, 50)}mbit",
        "delay": f"{rng.randrange(1, 80)}ms",
        "loss": rng.choice(["0%", "2%", "100%"]),
    }
    chosen = {
        "link": {"egress": {peer: quality, "*": {"rate": "30mbit"}}, "ingress": {peer: quality}},
        "quota": {"cpu": "200m", "pids": 200, "read_iops": 100},
        "disk": rng.choice(
            [{"condition": each} for each in ("readonly", "unmounted", "detached")]
            + [{"fill": "80%"}]
        ),
        "health": {"health": rng.choice(["paused", "stopped", "crashed"])},
    }
    names = rng.sample(sorted(chosen), rng.choice([1, 1, 2, 3]))
    return {name: chosen[name] for name in names}


def options(given: dict[str, Any], state: str) -> dict[str, Any]:
    """Return what Ansible would make of the options of the module `layer`."""
    known = specifications.LAYER["argument_spec"]
    defaults = {name: each.get("default") for name, each in known.items()}
    return {**defaults, "layer": "doomed", "lease": LEASE, "state": state, **given}


def change(place: Paths, node: str, given: dict[str, Any], state: str) -> None:
    """Do on a node what the module `layer` does."""
    with testbed.inside(place, node):
        parts.set_layer(options(given, state), dry_run=False)


def in_child(action: Callable[[], None]) -> int:
    """Return the id of a process that does something and ends."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except (errors.DisturbanceError, ValueError) as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        finally:
            os._exit(0)
    return child


def work(place: Paths, node: str, rng: random.Random) -> Callable[[], None]:
    """Return something to do on a node: disturb it, reshape what it has, or heal it."""
    first, second = settings(rng, node), settings(rng, node)
    what = rng.choice(["disturb", "reshape", "heal"])

    def act() -> None:
        change(place, node, first, "present")
        if what == "reshape":
            change(place, node, second, "present")
        elif what == "heal":
            change(place, node, {}, "absent")

    return act


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def pid_of(place: Paths, socket: str, op: str) -> int | None:
    try:
        return int(channel.call(place.agent / socket, op)["pid"])
    except errors.AgentError:
        return None


def victims(place: Paths, children: list[int], rng: random.Random) -> list[int]:
    """Return who is to be killed: workers, perhaps the agent, perhaps the delay line."""
    daemons = [
        pid_of(place, testbed.AGENT_SOCKET, "ping"),
        pid_of(place, delayclient.SOCKET, "status"),
    ]
    chosen = [pid for pid in daemons if pid is not None and rng.random() < 0.4]
    return rng.sample(children, rng.randrange(1, len(children) + 1)) + chosen


def await_healed(place: Paths) -> None:
    """Wait until the agent answers and holds nothing any more."""
    deadline, restart = time.monotonic() + PATIENCE, time.monotonic() + 2.0
    while True:
        try:
            left = channel.call(place.agent / testbed.AGENT_SOCKET, "lease-list")["leases"]
            left += channel.call(place.agent / testbed.AGENT_SOCKET, "timeline-list")["timelines"]
            if not left and pid_of(place, delayclient.SOCKET, "status") is not None:
                return
        except errors.AgentError as error:
            left = [str(error)]
            # Agent and delay line start one another; when both are gone, the next command does.
            if time.monotonic() > restart:
                testbed.up(topology.load("three-sites"), place)
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def await_picture(place: Paths, before: dict[str, list[str]], what: str) -> None:
    """Wait until the machine reads as before; what is being undone takes its moment."""
    deadline = time.monotonic() + PATIENCE
    while left := differences(before, picture(place)):
        assert time.monotonic() < deadline, "\n".join([what, *left[:40]])
        time.sleep(0.1)


def test_after_sigkill_at_random_moments_the_machine_reads_as_before(three_sites: Paths) -> None:
    place = three_sites
    before = picture(place)
    kills = disturbed = 0
    for number in range(ROUNDS):
        rng = random.Random(SEED + number)
        works = [work(place, node, rng) for node in NODES]
        children = [in_child(each) for each in works]
        targets = victims(place, children, rng)
        begun = time.monotonic()
        moments = sorted((rng.random() ** 2 * 0.25, pid) for pid in targets)
        for moment, pid in moments:
            time.sleep(max(begun + moment - time.monotonic(), 0))
            kill(pid)
            kills += 1
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        # Without an agent or a delay line a change is refused, and leaves its lease behind.
        alone = not set(targets) <= set(children)
        assert set(codes) <= {0, -signal.SIGKILL, alone}, f"seed {SEED + number}: one was refused"
        disturbed += bool(differences(before, picture(place)))
        # Whoever survived has left layers too: their leases end as well.
        await_healed(place)
        await_picture(place, before, f"seed {SEED + number}, killed {moments}")
    print(f"{kills} kills, seeds {SEED} to {SEED + ROUNDS - 1}; {disturbed} left something behind")
    assert kills >= KILLS
    assert disturbed > ROUNDS / 2


COMMAND_WORDS = [
    ["perturb", "bw=5mbit", "delay=20ms", "site=edge-a", "name=doomed", "lease=2s"],
    ["perturb", "node=edge-2", "cpu=0.2", "disk=readonly", "name=doomed", "lease=2s"],
    ["perturb", "node=edge-1", "bw=2mbit", "duration=1s", "name=doomed", "lease=2s"],
]


@pytest.mark.parametrize("seed", range(SEED, SEED + COMMANDS))
def test_after_sigkill_of_a_command_and_its_playbook_the_machine_reads_as_before(
    three_sites: Paths, seed: int
) -> None:
    rng = random.Random(seed)
    before = picture(three_sites)
    words = rng.choice(COMMAND_WORDS)
    tool = [sys.executable, "-m", "pkgctl"]
    env = {**os.environ, "PKGCTL_TESTBED": three_sites.name}
    quiet = subprocess.DEVNULL
    command = subprocess.Popen(
        [*tool, *words], env=env, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        time.sleep(rng.uniform(0.5, 2.0))
    finally:
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
    await_healed(three_sites)
    await_picture(three_sites, before, f"seed {seed}, {' '.join(words)}")
