# SPDX-License-Identifier: GPL-3.0-or-later
"""Outages and timelines of virtual machines by the playbooks: real machines, seen from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from pkgctl import image
from pkgctl.errors import PkgctlError
from tests.waiting import soon

from .guests import Bed, running

pytestmark = pytest.mark.vm("libvirt", "qemu", "image", "ssh")

NODES = ("cloud-1", "edge-1")
EDGE = "edge-1"
BOOT = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def made() -> Iterator[Bed]:
    try:
        found = image.find("")
    except PkgctlError as error:
        pytest.skip(f"needs an image: {error}")
    with running(NODES, found) as bed:
        bed.play("site.yml")
        yield bed


@pytest.fixture
def bed(made: Bed) -> Iterator[Bed]:
    """Give a test the machines as they were made, and heal what it leaves."""
    yield made
    made.play("heal.yml")


def test_a_machine_crashes_and_is_started_again_by_the_playbooks(bed: Bed) -> None:
    before = bed.ssh(EDGE, f"{BOOT}; echo kept >/root/file; sync")
    crash = f"perturb.yml -e node={EDGE} -e health=crashed -e name=boom"

    assert bed.play(crash).changed == {EDGE: 1}
    assert (bed.state(EDGE), bed.state("cloud-1")) == ("shut off", "running")
    assert bed.play(crash).changed == {EDGE: 0}

    refused = bed.tool("ansible-playbook", "perturb.yml", "-e", f"node={EDGE}", "-e", "cpu=0.5")
    assert refused.status != 0 and f"msg: node {EDGE} is crashed" in refused.output
    other = bed.play("heal.yml -e name=never-sent")
    assert other.changed == {"cloud-1": 0, EDGE: 0} and bed.state(EDGE) == "shut off"

    assert bed.play("heal.yml").changed == {"cloud-1": 0, EDGE: 1}

    assert bed.state(EDGE) == "running"
    assert bed.ssh(EDGE, BOOT) not in before
    assert bed.ssh(EDGE, "cat /root/file") == "kept\n"
    assert bed.play("heal.yml").changed == {"cloud-1": 0, EDGE: 0}


def test_a_machine_that_is_stopped_shuts_down_by_itself(bed: Bed) -> None:
    console = next(guest.folder for guest in bed.guests if guest.name == EDGE) / "console.log"
    before = console.read_text(errors="replace").count("Power down")

    bed.play(f"perturb.yml -e node={EDGE} -e health=stopped -e name=off")

    assert bed.state(EDGE) == "shut off"
    assert console.read_text(errors="replace").count("Power down") == before + 1


def test_a_pause_on_a_timeline_begins_and_ends_without_anybody(bed: Bed) -> None:
    before = bed.ssh(EDGE, BOOT)

    bed.play(f"perturb.yml -e node={EDGE} -e health=paused -e duration=30s -e name=nap")

    assert soon(lambda: bed.state(EDGE) == "paused")
    assert soon(lambda: bed.state(EDGE) == "running")
    assert bed.ssh(EDGE, BOOT) == before
    assert bed.play("heal.yml").changed == {"cloud-1": 0, EDGE: 0}


def began(bed: Bed, name: str) -> tuple[float, float]:
    """Return when a machine's agent let the last timeline begin, by our clock, and how sure."""
    lines = bed.ssh(name, "cat /run/pkgctl/journal.jsonl").splitlines()
    t0 = [each["t0"] for each in map(json.loads, lines) if each.get("do") in ("start", "play")][-1]
    found = []
    for _ in range(3):
        before = time.monotonic()
        there = float(bed.ssh(name, "cat /proc/uptime").split()[0])
        after = time.monotonic()
        found.append((after - before, (before + after) / 2 - there))
    took, offset = min(found)
    return t0 + offset, took / 2


def test_a_timeline_begins_on_all_machines_at_one_instant(bed: Bed) -> None:
    # Wall clocks that disagree make no difference.
    bed.ssh(EDGE, "date -s '2 hours'")

    bed.play("perturb.yml -e cpu=0.5 -e start=1s -e duration=10m -e name=starved")

    (one, sure), (other, surer) = began(bed, "cloud-1"), began(bed, EDGE)
    assert abs(one - other) < sure + surer + 0.2
    assert bed.play("heal.yml").changed == {"cloud-1": 1, EDGE: 1}
