# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node may use is what the kernel enforces; healing leaves no trace."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pkgctl.local import testbed
from pkgctl.local.agent import AgentClient
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups, change, errors, layers, quotas

from .conftest import on_node, pkgctl

pytestmark = pytest.mark.root
MIB = 1 << 20
NODE = "edge-4"
LIMITS = ("cpu.*_us", "cpu.max", "memory.limit_in_bytes", "memory.max", "pids.max", "io.max")
THROTTLES = "blkio.throttle.*_device"


def limit(
    place: Paths, layer: str = "test", node: str = NODE, *, force: bool = False, **limits: float
) -> change.Change:
    with testbed.inside(place, node) as here:
        return quotas.change(here, layer=layer, limits=limits, force=force)


def heal(place: Paths, layer: str | None = "test", node: str = NODE) -> change.Change:
    with testbed.inside(place, node) as here:
        return quotas.change(here, layer=layer, present=False)


def group(place: Paths, node: str = NODE) -> cgroups.Group:
    return cgroups.group(f"{place.cgroup}/nodes/{node}")


def kernel(place: Paths, node: str = NODE) -> dict[str, str]:
    """Return all limits of a node and of the groups below it, as the kernel prints them."""
    folders = {folder for each in group(place, node).descend() for folder in each.folders()}
    return {
        str(file): file.read_text()
        for folder in folders
        for pattern in (*LIMITS, THROTTLES)
        for file in folder.glob(pattern)
    }


@contextlib.contextmanager
def process(place: Paths, *command: str, node: str = NODE) -> Iterator[subprocess.Popen[str]]:
    """Run a command inside a node until the block ends; it must say so when it is ready."""
    words = [sys.executable, "-m", "pkgctl", "exec", "--name", place.name, node, "--", *command]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
    finally:
        running.kill()
        running.communicate()


def python(text: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", text]


def test_limits_are_applied_composed_and_healed_to_the_letter(three_sites: Paths) -> None:
    before = kernel(three_sites)

    limit(three_sites, "one", cpu=0.3, memory=128 * MIB)
    limit(three_sites, "two", cpu=0.2, pids=100, memory=256 * MIB, read_bps=MIB)

    now = group(three_sites)
    assert (now.cpu(), now.memory(), now.pids()) == (0.2, 128 * MIB, 100)
    heal(three_sites, "two")
    assert (now.cpu(), now.memory(), now.pids()) == (0.3, 128 * MIB, 512)
    heal(three_sites, None)
    assert kernel(three_sites) == before


def test_a_layer_never_widens_what_the_node_has(three_sites: Paths) -> None:
    limit(three_sites, cpu=4, memory=1024 * MIB)

    now = group(three_sites)
    assert (now.cpu(), now.memory()) == (0.5, 384 * MIB)


def test_the_same_limits_again_and_healing_again_change_nothing(three_sites: Paths) -> None:
    first = limit(three_sites, cpu=0.3, write_bps=MIB)
    again = limit(three_sites, cpu=0.3, write_bps=MIB)
    healed, healed_again = heal(three_sites), heal(three_sites)

    assert (first.changed, again.changed) == (True, False)
    assert (again.actions, again.before) == ([], again.after)
    assert (healed.changed, healed_again.changed) == (True, False)


def test_a_prediction_of_limits_is_kept_and_changes_nothing(three_sites: Paths) -> None:
    before = kernel(three_sites)
    with testbed.inside(three_sites, NODE) as here:
        foreseen = quotas.change(here, layer="test", limits={"cpu": 0.3}, dry_run=True)
    assert kernel(three_sites) == before
    assert list(layers.load(three_sites.node(NODE) / quotas.STORE)) == [layers.BASE]

    done = limit(three_sites, cpu=0.3)

    assert (foreseen.changed, foreseen.actions) == (done.changed, done.actions)
    assert (foreseen.before, foreseen.after) == (done.before, done.after)
    assert done.actions == ["cpu: 0.3"]


def test_a_cpu_limit_is_what_a_busy_process_gets(three_sites: Paths) -> None:
    limit(three_sites, cpu=0.2)

    with process(three_sites, "sh", "-c", "echo ready; while :; do :; done"):
        used, begun = group(three_sites).usage().cpu_seconds, time.monotonic()
        time.sleep(1.5)
        seen = (group(three_sites).usage().cpu_seconds - used) / (time.monotonic() - begun)

    assert seen == pytest.approx(0.2, abs=0.06)


def test_a_pids_limit_is_what_a_node_can_fork(three_sites: Paths) -> None:
    limit(three_sites, pids=10)

    many = "for i in 1 2 3 4 5 6 7 8 9 10 11; do sleep 1 & done"
    tried = pkgctl("exec", "--name", three_sites.name, NODE, "--", "sh", "-c", many)

    assert "Cannot fork" in tried.stderr


def test_memory_below_what_is_in_use_is_refused_and_nothing_is_stored(three_sites: Paths) -> None:
    before = kernel(three_sites)
    hold = (
        "x = bytearray(b'x') * (80 << 20); print('ready', flush=True); import time; time.sleep(60)"
    )

    with process(three_sites, *python(hold)) as running:
        with pytest.raises(
            errors.DisturbanceError, match=r"edge-4 uses .* of memory, more than 40Mi"
        ):
            limit(three_sites, memory=40 * MIB)
        assert running.poll() is None

    assert {key: text for key, text in kernel(three_sites).items() if key in before} == before
    assert list(layers.load(three_sites.node(NODE) / quotas.STORE)) == [layers.BASE]


def test_what_memory_holds_of_files_gives_way_to_less(three_sites: Paths) -> None:
    on_node(three_sites, NODE, "sh", "-c", "head -c 60M /dev/zero >/data/big")
    for _ in range(3):  # The kernel holds for active what is read again.
        on_node(three_sites, NODE, "cat", "/data/big")
    assert group(three_sites).memory_used() > 40 * MIB

    limit(three_sites, memory=40 * MIB)

    assert group(three_sites).memory() == 40 * MIB


def test_with_force_something_in_the_node_is_killed_to_make_it_fit(three_sites: Paths) -> None:
    hold = (
        "x = bytearray(b'x') * (80 << 20); print('ready', flush=True); import time; time.sleep(60)"
    )

    with process(three_sites, *python(hold)) as running:
        limit(three_sites, memory=40 * MIB, force=True)

        assert running.wait(timeout=120) != 0

    assert group(three_sites).memory() == 40 * MIB


def test_a_disk_is_as_slow_as_was_asked_for_whatever_runs_on_its_node(three_sites: Paths) -> None:
    limit(three_sites, write_bps=MIB)
    write = "dd if=/dev/zero of=/data/big bs=128k count=16 oflag=direct 2>/dev/null"

    begun = time.monotonic()
    for _ in range(2):
        on_node(three_sites, NODE, "sh", "-c", write)

    # Two sessions of 2 MiB each share 1 MiB/s.
    assert 3.5 < time.monotonic() - begun < 8


def test_a_slow_disk_serves_as_many_requests_as_was_asked_for(three_sites: Paths) -> None:
    write = ["dd", "if=/dev/zero", "of=/data/big", "bs=4k", "count=75", "oflag=direct"]
    limit(three_sites, read_iops=50, write_iops=50)

    begun = time.monotonic()
    on_node(three_sites, NODE, *write)
    taken = time.monotonic() - begun

    # 75 requests at 50 a second, of which the kernel lets a tenth of a second's worth go early.
    assert taken > 1.3


def test_a_jobs_cpu_shrinks_with_its_node_and_comes_back(three_sites: Paths) -> None:
    with AgentClient(three_sites) as agent:
        first = {"node": NODE, "argv": ["/bin/sleep", "60"], "ready": "exec"}
        agent.call("job-start", id="early", cpu=0.4, **first)
        limit(three_sites, cpu=0.2)
        agent.call("job-start", id="late", cpu=0.3, **first)
        early, late = (group(three_sites).child(f"job-{name}") for name in ("early", "late"))
        assert (early.cpu(), late.cpu()) == (0.2, 0.2)

        heal(three_sites)

        assert (early.cpu(), late.cpu()) == (0.4, 0.3)


def test_a_job_outside_its_nodes_limits_is_not_clamped_by_them(three_sites: Paths) -> None:
    limit(three_sites, cpu=0.2)

    with AgentClient(three_sites) as agent:
        argv = ["/bin/sleep", "60"]
        agent.call(
            "job-start", id="load", node=NODE, argv=argv, ready="exec", outside=True, cpu=0.9
        )

    assert cgroups.group(f"{three_sites.cgroup}/outside/load").cpu() == pytest.approx(0.9)


def test_a_limit_that_the_kernel_refuses_is_not_stored_and_leaves_nothing_half_done(
    three_sites: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kernel(three_sites)

    def refused(*_: object) -> None:
        raise errors.KernelError("write throttles", errno.EINVAL)

    with monkeypatch.context() as patched:
        patched.setattr(quotas, "_throttle", refused)
        with pytest.raises(errors.KernelError, match="write throttles: Invalid argument"):
            limit(three_sites, cpu=0.3, pids=100, write_bps=MIB)

    assert kernel(three_sites) == before
    assert list(layers.load(three_sites.node(NODE) / quotas.STORE)) == [layers.BASE]
