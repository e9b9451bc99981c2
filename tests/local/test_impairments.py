# SPDX-License-Identifier: GPL-3.0-or-later
"""What a link does to packets beside its rate, as ping and numbered datagrams see it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scipy import stats

from pkgctl.local import testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import Quality, channel, delayclient, links, nftables, quality

from .conftest import on_node

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("ping") is None, reason="needs ping (iputils-ping)"),
]
FAMILIES = pytest.mark.parametrize("family", [4, 6])

# Takes numbered datagrams until none comes for a second; prints their numbers in order, and how
# many the kernel refused for their checksum.
TAKER = """
import json, pathlib, socket
def refused():
    old = pathlib.Path("/proc/net/snmp").read_text().split("Udp: ")
    six = dict(line.split() for line in pathlib.Path("/proc/net/snmp6").read_text().splitlines())
    return int(dict(zip(old[1].split(), old[2].split()))["InCsumErrors"]), six["Udp6InCsumErrors"]
before = refused()
taker = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
taker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
taker.bind(("::", 7777))
print("ready", flush=True)
seen = []
taker.settimeout(60)
while True:
    try:
        seen.append(int.from_bytes(taker.recv(2048)[:4], "big"))
    except TimeoutError:
        break
    taker.settimeout(3)
print(json.dumps([seen, sum(int(b) - int(a) for a, b in zip(before, refused()))]))
"""
# Sends so many of them to an address, so many seconds apart.
GIVER = """
import socket, sys, time
where, count, gap = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
giver = socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET, socket.SOCK_DGRAM)
begun = time.monotonic()
for number in range(count):
    time.sleep(max(begun + number * gap - time.monotonic(), 0))
    giver.sendto(number.to_bytes(4, "big") + b"x" * 200, (where, 7777))
"""
# Sends a megabyte to whoever listens, or takes it, and says what it was.
STREAM = """
import hashlib, socket, sys
if sys.argv[1] == "take":
    listener = socket.create_server(("", 7778))
    print("ready", flush=True)
    taken = listener.accept()[0].makefile("rb").read()
    print(len(taken), hashlib.sha256(taken).hexdigest())
else:
    with socket.create_connection((sys.argv[1], 7778)) as stream:
        stream.sendall(bytes(range(256)) * 4096)
"""


def shape(place: Paths, there: Quality, back: Quality | None = None) -> None:
    """Set the quality from edge-1 to cloud-1, and back; None leaves the way back as it is."""
    back = Quality() if back is None else back
    for node, peer, out, come in (
        ("edge-1", "cloud-1", there, back),
        ("cloud-1", "edge-1", back, there),
    ):
        with testbed.inside(place, node) as here:
            links.change(here, layer="test", egress={peer: out}, ingress={peer: come})


def address(place: Paths, family: int) -> str:
    """Return cloud-1's address as edge-1 knows it."""
    with testbed.inside(place, "edge-1") as here:
        peers = here.peers if family == 4 else here.peers6
    if "cloud-1" not in peers:
        pytest.skip("this machine has no IPv6")
    return peers["cloud-1"]


@contextlib.contextmanager
def taking(place: Paths, *script: str) -> Iterator[Any]:
    """Have a script listen at cloud-1 while the block runs; the value is its process."""
    command = ["exec", "--name", place.name, "cloud-1", "--", sys.executable, "-c", *script]
    with subprocess.Popen(
        [sys.executable, "-m", "pkgctl", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def datagrams(
    place: Paths, family: int, count: int = 2000, gap: float = 0.0005
) -> tuple[list[int], int]:
    """Return the numbers of the datagrams that arrive, in order, and how many were damaged."""
    where = address(place, family)
    with taking(place, TAKER) as taker:
        on_node(place, "edge-1", sys.executable, "-c", GIVER, where, str(count), str(gap))
        seen, refused = json.loads(taker.stdout.readline())
    return seen, refused


def round_trips(place: Paths, family: int = 4, count: int = 300, gap: float = 0.005) -> list[float]:
    """Return the round-trip times from edge-1 to cloud-1 in seconds."""
    where = address(place, family)
    words = ["ping", "-c", str(count), "-i", str(gap), "-W", "1", where]
    text = on_node(place, "edge-1", "sh", "-c", " ".join(words) + " || true")
    return [float(number) / 1e3 for number in re.findall(r"time=([\d.]+)", text)]


def within(share: float, count: int, seen: int) -> bool:
    low, high = stats.binom.interval(0.9999, count, share)
    return bool(low <= seen <= high)


@FAMILIES
def test_a_delay_is_what_ping_sees_of_it(duo: Paths, family: int) -> None:
    shape(duo, Quality(delay=0.02), Quality(delay=0.01))

    # A busy machine only adds: the best of a few.
    seen = min(statistics.median(round_trips(duo, family, 60)) for _ in range(3))

    assert seen == pytest.approx(0.03, abs=1e-3)


@FAMILIES
def test_a_loss_is_inside_its_interval(duo: Paths, family: int) -> None:
    shape(duo, Quality(loss=0.1))

    seen, _ = datagrams(duo, family)

    assert within(0.1, 2000, 2000 - len(seen))
    assert seen == sorted(set(seen))


@FAMILIES
def test_losses_come_in_bursts(duo: Paths, family: int) -> None:
    shape(duo, Quality(loss=0.2, burst=8.0))

    seen, _ = datagrams(duo, family, 4000)

    here = set(seen)
    spells = [
        len(list(group))
        for lost, group in itertools.groupby(range(4000), lambda n: n not in here)
        if lost
    ]
    # About a hundred spells, whose lengths scatter as much as they are long.
    assert statistics.mean(spells) == pytest.approx(8, rel=5 / len(spells) ** 0.5)
    assert 1 - len(seen) / 4000 == pytest.approx(0.2, rel=0.5)


@FAMILIES
def test_duplicates_arrive_twice_and_ping_says_so(duo: Paths, family: int) -> None:
    shape(duo, Quality(delay=0.005, duplicate=0.2))

    seen, _ = datagrams(duo, family)

    assert within(0.2, 2000, len(seen) - len(set(seen)))
    assert sorted(set(seen)) == list(range(2000))
    text = on_node(duo, "edge-1", "ping", "-c", "50", "-i", "0.01", address(duo, family))
    assert "DUP!" in text
    assert "0% packet loss" in text


@FAMILIES
def test_a_damaged_packet_is_seen_by_its_checksum(duo: Paths, family: int) -> None:
    shape(duo, Quality(corrupt=0.1))

    seen, refused = datagrams(duo, family)

    # A bit of the ports sends a packet elsewhere, one of the length may make it too short: but
    # each bit that is flipped is seen.
    assert within(0.1, 2000, 2000 - len(seen))
    assert refused >= 0.7 * (2000 - len(seen))


def test_a_stream_gets_over_a_link_that_does_everything(duo: Paths) -> None:
    shape(duo, Quality(delay=0.002, jitter=0.001, loss=0.02, corrupt=0.02, duplicate=0.05))

    with taking(duo, STREAM, "take") as taker:
        on_node(duo, "edge-1", sys.executable, "-c", STREAM, address(duo, 4))
        size, digest = taker.stdout.readline().split()

    sent = bytes(range(256)) * 4096
    assert (int(size), digest) == (len(sent), hashlib.sha256(sent).hexdigest())
    status = channel.call(duo.agent / delayclient.SOCKET, "status")
    assert min(status["lost"], status["doubled"], status["damaged"]) > 0


@FAMILIES
def test_a_share_overtakes_and_jitter_alone_does_not(duo: Paths, family: int) -> None:
    shape(duo, Quality(delay=0.02, jitter=0.005))
    seen, _ = datagrams(duo, family)
    assert seen == list(range(2000))

    shape(duo, Quality(delay=0.02, reorder=0.1))
    seen, _ = datagrams(duo, family)

    assert sorted(seen) == list(range(2000))
    ahead = sum(later < now for now, later in itertools.pairwise(seen))
    # Two in sequence that overtake together are one step back.
    assert within(0.09, 2000, ahead)


@pytest.mark.parametrize("distribution", ["normal", "uniform", "pareto", "measured"])
def test_round_trips_scatter_as_asked(duo: Paths, distribution: str) -> None:
    deviation = 0.004
    # Every share is seven standard errors and more from where the two values meet.
    measured = quality.standardised([0.01] * 62 + [0.02] * 38)
    shape(
        duo,
        Quality(
            delay=0.03,
            jitter=deviation,
            distribution=measured if distribution == "measured" else distribution,
        ),
    )
    expected = {
        "normal": stats.norm(),
        "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5),
        "pareto": stats.pareto(3, loc=-(3**0.5), scale=2 / 3**0.5),
        "measured": None,
    }[distribution]

    # So far apart that hardly any has to wait for the one before.
    seen = sorted(round_trips(duo, count=1000, gap=0.02))

    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        asked = expected.ppf(share) if expected else measured[round(share * (len(measured) - 1))]
        found = seen[round(share * (len(seen) - 1))]
        # Five standard errors of the least certain, pareto's last; and a machine is late at times.
        assert found == pytest.approx(0.03 + deviation * asked, abs=0.4 * deviation)


def test_pairs_are_read_back_and_what_the_kernel_lost_is_told(duo: Paths) -> None:
    path = duo.agent / delayclient.SOCKET
    asked = Quality(delay=0.01, loss=0.1)
    shape(duo, asked)
    with testbed.inside(duo, "cloud-1") as here:
        (first, *_), ends = links.pair_keys(here, "edge-1"), links.pair_ends(here)
    assert delayclient.pairs(path, ends)[first] == asked

    switch = str(duo.pins / ".switch" / "net")
    element = " . ".join(socket.inet_ntoa(each) for each in (first[:4], first[4:]))
    words = ["nft", "delete", "element", "inet", nftables.DELAYING, "copied", f"{{ {element} }}"]
    subprocess.run(["nsenter", f"--net={switch}", *words], check=True)

    time.sleep(0.15)  # as long as one reading serves
    assert delayclient.pairs(path, ends)[first] == Quality()
    with testbed.inside(duo, "cloud-1") as here:
        assert links.converge(here).changed
        assert not links.converge(here).changed
    assert delayclient.pairs(path, ends)[first] == asked


def test_many_pairs_are_set_node_by_node_and_forgotten_again(duo: Paths) -> None:
    path = duo.agent / delayclient.SOCKET
    ends = [nftables.key(f"10.99.0.{number}") for number in range(40)]
    before = channel.call(path, "status")["pairs"]
    for there in ends:
        delayclient.tell(path, [([here + there], Quality(delay=0.1)) for here in ends])
    assert channel.call(path, "status")["pairs"] == before + 1600
    assert len(delayclient.pairs(path, ends)) == 1600

    for there in ends:
        delayclient.tell(path, [([here + there], None) for here in ends])

    assert channel.call(path, "status")["pairs"] == before
    assert delayclient.pairs(path, ends) == {}


def test_no_garbage_ends_the_delay_line(duo: Paths) -> None:
    path = duo.agent / delayclient.SOCKET
    shape(duo, Quality(delay=0.01))
    pid = channel.call(path, "status")["pid"]
    before = on_switch(duo)
    for garbage in (b"\0" * 100, b"[" * 200_000, b'{"op":', os.urandom(5000), b"x" * (2 << 20)):
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.connect(str(path))
            client.sendall(garbage + b"\n")
            client.settimeout(5)
            assert not json.loads(client.makefile("rb").readline())["ok"]

    # One that stops in the middle of a request stays connected all the while.
    with socket.socket(socket.AF_UNIX) as half:
        half.connect(str(path))
        half.sendall(b'{"op": "status"')
        seen = min(statistics.median(round_trips(duo, count=30)) for _ in range(3))

    assert seen == pytest.approx(0.01, abs=1e-3)
    assert channel.call(path, "status")["pid"] == pid
    assert on_switch(duo) == before


def on_switch(place: Paths) -> str:
    """Return the switch's tables as nft lists them."""
    switch = str(place.pins / ".switch" / "net")
    words = ["nsenter", f"--net={switch}", "nft", "-j", "list", "ruleset"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_agent_comes_back_after_a_kill_and_runs_as_others_do(duo: Paths) -> None:
    path = duo.agent / "agent.sock"
    first = channel.call(path, "ping")["pid"]
    deadline = time.monotonic() + 240
    # The delay line looks once a second for an agent that it does not know yet.
    while not channel.call(duo.agent / delayclient.SOCKET, "status")["guards_agent"]:
        assert time.monotonic() < deadline, "nobody watches over the agent"
        time.sleep(0.05)

    subprocess.run(["kill", "-9", str(first)], check=True)

    while (fresh := pid_of_agent(str(path))) in (None, first):
        assert time.monotonic() < deadline, "the agent stays away"
        time.sleep(0.05)
    assert fresh is not None
    assert os.sched_getscheduler(fresh) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, fresh) == 0


def pid_of_agent(path: str) -> int | None:
    try:
        return int(channel.call(path, "ping")["pid"])
    except Exception:
        return None
