# SPDX-License-Identifier: GPL-3.0-or-later
"""Links change in place: what is on its way arrives, and what nobody asked for stays untouched."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pkgctl.local import testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import Quality, delayclient, errors, links, nftables, quality
from pkgctl.nodeside import netlink as wire

from .conftest import on_node
from .pictures import network

pytestmark = pytest.mark.root

COUNT, BYTES, PORT = 20, 1400, 4000
# Twenty packets take 0.9 s at this rate, so that all changes below come while most still wait.
SLOW = 256_000
SEND = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range({COUNT}):
    s.sendto(bytes([n]) * {BYTES}, ("cloud-1", {PORT}))
"""
RECEIVE = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", {PORT}))
print("bound", flush=True)
s.settimeout(20.0)
seen = []
try:
    while len(seen) < {COUNT}:
        seen.append(s.recv(2000)[0])
except TimeoutError:
    pass
print(*seen)
"""


def shape(place: Paths, layer: str, quality: Quality | None) -> None:
    """Set a layer from edge-1 to cloud-1 at both ends, or heal it."""
    for node, peer, way in (("edge-1", "cloud-1", "egress"), ("cloud-1", "edge-1", "ingress")):
        asked = {} if quality is None else {way: {peer: quality}}
        with testbed.inside(place, node) as here:
            links.change(here, layer=layer, present=quality is not None, **asked)


def received_through(place: Paths, *steps: tuple[str, Quality | None]) -> list[int]:
    """Return the packets that arrive of a burst during which links change step by step."""
    words = [sys.executable, "-m", "pkgctl", "exec", "--name", place.name, "cloud-1", "--"]
    receiver = subprocess.Popen(
        [*words, sys.executable, "-c", RECEIVE], stdout=subprocess.PIPE, text=True
    )
    try:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "bound\n"
        on_node(place, "edge-1", sys.executable, "-c", SEND)
        for layer, quality in steps:
            shape(place, layer, quality)
        return [int(number) for number in receiver.communicate(timeout=240)[0].split()]
    finally:
        receiver.kill()
        receiver.wait()


def test_a_step_in_rate_loses_nothing_that_is_on_its_way(duo: Paths) -> None:
    shape(duo, "slow", Quality(rate=SLOW))

    steps = [SLOW // 2, SLOW * 2, SLOW // 4, SLOW * 4]
    seen = received_through(duo, *(("slow", Quality(rate=rate)) for rate in steps))

    assert seen == list(range(COUNT))


@pytest.mark.skipif(shutil.which("iperf3") is None, reason="needs iperf3")
def test_steps_under_a_running_iperf3_lose_nothing(duo: Paths) -> None:
    shape(duo, "steps", Quality(rate=5_000_000, delay=0.01))
    words = [sys.executable, "-m", "pkgctl", "exec", "--name", duo.name]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    serve = [*words, "cloud-1", "--", "iperf3", "-s", "-1", "--forceflush"]
    send = [*words, "edge-1", "--", "iperf3", "-c", "cloud-1", "-J", "-t", "4"]
    with subprocess.Popen(serve, **quiet) as server:  # type: ignore[call-overload]
        try:
            while "listening" not in server.stdout.readline():
                assert server.poll() is None
            options = ["-u", "-b", "3M", "-l", "1400"]
            with subprocess.Popen([*send, *options], **quiet) as client:  # type: ignore[call-overload]
                steps = itertools.cycle([20_000_000, 4_000_000, 50_000_000, 5_000_000])
                count = 0
                while client.poll() is None:
                    shape(duo, "steps", Quality(rate=next(steps), delay=0.01))
                    count += 1
                found = json.loads(client.stdout.read())["end"]["sum"]
        finally:
            server.kill()

    assert count > 20
    assert found["packets"] > 900
    assert found["lost_packets"] == 0


def test_healing_loses_nothing_that_waits_in_the_class_that_goes(duo: Paths) -> None:
    shape(duo, "slow", Quality(rate=SLOW))

    assert received_through(duo, ("slow", None)) == list(range(COUNT))
    assert "htb" not in on_node(duo, "edge-1", "tc", "qdisc", "show", "dev", "eth0")


def test_only_what_changed_is_touched(three_sites: Paths) -> None:
    with testbed.inside(three_sites, "edge-1") as here:
        everyone = {
            peer: Quality(rate=1_000_000 + number) for number, peer in enumerate(here.peers)
        }
        links.change(here, layer="many", egress=everyone)
        one = {**everyone, "edge-2": Quality(rate=7_000_000)}
        found = links.change(here, layer="many", egress=one)
        nothing = links.change(here, layer="many", egress=one)

    assert [action.rpartition(" ")[0] for action in found.actions] == [
        "set class",
        "set the queue of class",
    ]
    assert len({action.rpartition(" ")[2] for action in found.actions}) == 1
    assert (nothing.changed, nothing.actions) == (False, [])


def test_a_rate_holds_for_both_families_together(duo: Paths) -> None:
    shape(duo, "slow", Quality(rate=SLOW))

    listing = on_node(duo, "edge-1", "nft", "list", "table", "inet", "pkgctl")
    classes = on_node(duo, "edge-1", "tc", "class", "show", "dev", "eth0")

    assert "fd77:7067::1 : 7067:11" in listing
    assert "10.77.0.1 : 7067:11" in listing
    assert classes.count("rate 256Kbit") == 1
    assert "0% packet loss" in on_node(duo, "edge-1", "ping", "-6", "-c", "2", "cloud-1")


def test_a_partition_holds_for_both_families(duo: Paths) -> None:
    shape(duo, "cut", Quality(loss=1.0))

    for family in ("-4", "-6"):
        words = f"ping {family} -c 2 -i 0.2 -W 1 cloud-1 || true"
        assert "100% packet loss" in on_node(duo, "edge-1", "sh", "-c", words)
    shape(duo, "cut", None)
    assert "0% packet loss" in on_node(duo, "edge-1", "ping", "-6", "-c", "2", "cloud-1")


@pytest.mark.parametrize(
    ("foreign", "named"),
    [
        ("nft add table inet pkgctl", "nftables table inet pkgctl that is not ours"),
        (
            "tc qdisc add dev eth0 root tbf rate 1mbit burst 10k limit 100k",
            "root qdisc that is not ours",
        ),
    ],
)
def test_what_is_not_ours_is_named_and_left_alone(duo: Paths, foreign: str, named: str) -> None:
    listing = ("sh", "-c", "nft list ruleset; tc qdisc show dev eth0")
    on_node(duo, "edge-1", "sh", "-c", foreign)
    before = on_node(duo, "edge-1", *listing)

    with pytest.raises(errors.DisturbanceError, match=named):
        shape(duo, "slow", Quality(rate=SLOW))

    assert on_node(duo, "edge-1", *listing) == before


def test_a_change_that_was_cut_short_is_made_up_for_by_the_next(duo: Paths) -> None:
    shape(duo, "slow", Quality(rate=SLOW))
    with testbed.inside(duo, "edge-1") as here:
        # As if whoever healed had been killed after the store was written.
        store = Path(here.directory, links.STORE)
        store.write_text('{"base": {}}')
        store.with_suffix(".doing").touch()

        assert links.converge(here, dry_run=True).actions
        assert links.change(here, layer="slow", present=False).actions
        assert links.converge(here, dry_run=True).actions == []
    assert "htb" not in on_node(duo, "edge-1", "tc", "qdisc", "show", "dev", "eth0")


def random_quality(rng: random.Random) -> Quality:
    return Quality(
        rate=rng.choice([None, rng.randrange(10**5, 10**9)]),
        delay=rng.choice([0.0, rng.uniform(0, 0.2)]),
        jitter=rng.choice([0.0, rng.uniform(0, 0.01)]),
        loss=rng.choice([0.0, rng.random() / 2]),
    )


def kernel_rate(place: Paths) -> float | None:
    """Return the rate in bits/s of the class from edge-1 to cloud-1, as tc lists it."""
    text = on_node(place, "edge-1", "tc", "class", "show", "dev", "eth0")
    found = re.search(r"class htb 7067:11 .* rate (\d+)([KMG]?)bit", text)
    units = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}
    return int(found[1]) * units[found[2]] if found else None


@pytest.mark.parametrize("seed", range(2))
def test_what_layers_add_up_to_is_what_the_kernel_lists(duo: Paths, seed: int) -> None:
    rng = random.Random(seed)
    before = [network(duo, node) for node in ("edge-1", "cloud-1")]
    in_force: dict[str, Quality] = {}

    for _ in range(8):
        name = rng.choice(["a", "b", "c"])
        asked = random_quality(rng) if name not in in_force or rng.random() < 0.5 else None
        in_force.pop(name, None)
        if asked is not None:
            in_force[name] = asked
        shape(duo, name, asked)

        total = quality.compose(*in_force.values())
        seen = kernel_rate(duo)
        # tc cuts what it prints to whole kilobits.
        assert seen == (total.rate and pytest.approx(total.rate, abs=1000))
        with testbed.inside(duo, "cloud-1") as here:
            assert links.converge(here, dry_run=True).actions == []
            known = delayclient.pairs(
                Path(here.directory, "agent", delayclient.SOCKET), links.pair_ends(here)
            )
        rest = total.unbounded
        assert set(known.values()) == ({rest} if rest != Quality() else set())

    for name in rng.sample(sorted(in_force), len(in_force)):
        shape(duo, name, None)
    assert [network(duo, node) for node in ("edge-1", "cloud-1")] == before


def test_drift_is_told_of_and_mended(duo: Paths) -> None:
    shape(duo, "slow", Quality(rate=SLOW))
    change = "tc class change dev eth0 classid 7067:11 htb rate 1mbit"
    on_node(duo, "edge-1", "sh", "-c", change)
    with testbed.inside(duo, "edge-1") as here, wire.Socket(wire.NETLINK_NETFILTER) as filter_:
        nftables.send(filter_, nftables.add_elements("pkgctl", "cut", [nftables.key("10.77.0.9")]))

        drift = links.converge(here, dry_run=True).actions
        links.converge(here)

        assert drift == ["set class 7067:11", "set the queue of class 7067:11", "delete from cut"]
        assert links.converge(here, dry_run=True).actions == []
