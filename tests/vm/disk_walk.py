# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: layers of its disk come and go at random, and whoever sets them is killed.

    python3 disk_walk.py SEED WALKS KILLS

It prints one JSON object: what was wrong in the end. The node is left as it was found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/pkgctl")

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    disks,
    errors,
    identity,
    layers,
    mounting,
)

DISK = "data"
BODIES = [{"fill": share} for share in (0.3, 0.6, 1.0)] + [{"size": 16 << 20}]
BODIES += [{"condition": each, "how": how} for each in disks.CONDITIONS for how in disks.HOWS]


def put(node: identity.Identity, layer: str, body: dict[str, object] | None) -> None:
    """Set a layer, or take it away; that somebody uses the disk is a reason not to."""
    asked = None if body is None else {DISK: body}
    try:
        disks.change(node, layer=layer, body=asked, present=body is not None)
    except errors.DisturbanceError as error:
        if "is in use by" not in str(error):
            raise


def step(node: identity.Identity, chance: random.Random) -> None:
    body = None if chance.random() < 0.3 else chance.choice(BODIES)
    put(node, chance.choice(["one", "two", "three"]), body)


def picture(node: identity.Identity) -> list[object]:
    """Return what has to be in the end as it was at the beginning; not the kernel's name for it."""
    disk = node.disks[DISK]
    mounts = mounting.tops(Path("/proc/thread-self/mountinfo").read_text())
    mount = mounts[disk.mount]
    room = os.statvfs(disk.mount)
    stores = layers.load(Path(node.directory, disks.STORE))
    left = sorted(path.name for path in Path(node.directory, "devices").glob("*"))
    used = (room.f_blocks, room.f_bavail, room.f_files - room.f_ffree)
    return [mount.read_only, used, stores, left, Path(disk.mount, "kept").read_text()]


def walk(node: identity.Identity, chance: random.Random, *, used: bool) -> list[str]:
    held = open(f"{node.disks[DISK].mount}/kept", "r+") if used else None  # noqa: PTH123, SIM115
    wrong = []
    for _ in range(chance.randint(1, 6)):
        step(node, chance)
        wrong += disks.converge(node, dry_run=True).actions
    disks.change(node, layer=None, present=False)
    if held is not None:
        held.close()
    return wrong


def kill(node: identity.Identity, chance: random.Random) -> None:
    """Let a child set layers until it is killed, then go on from whatever it has left."""
    child = os.fork()
    if child == 0:
        while True:
            step(node, chance)
    time.sleep(chance.uniform(0.02, 0.6))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        disks.converge(node)
    except errors.DisturbanceError as error:
        if "is in use by" not in str(error):
            raise


def main() -> None:
    seed, walks, kills = map(int, sys.argv[1:])
    chance, node, wrong = random.Random(seed), identity.load(), []
    Path(node.disks[DISK].mount, "kept").write_text("kept\n")
    os.sync()
    before = picture(node)
    for number in range(walks):
        wrong += walk(node, chance, used=number % 2 == 1)
        if picture(node) != before:
            wrong.append(f"walk {number}: {picture(node)} instead of {before}")
    for number in range(kills):
        kill(node, random.Random(chance.random()))
        if disks.converge(node, dry_run=True).actions:
            wrong.append(f"kill {number}: {disks.converge(node, dry_run=True).actions}")
    disks.change(node, layer=None, present=False)
    if picture(node) != before:
        wrong.append(f"{picture(node)} instead of {before}")
    print(json.dumps({"seed": seed, "wrong": wrong}))


if __name__ == "__main__":
    main()
