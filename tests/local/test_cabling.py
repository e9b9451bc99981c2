# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch of a node that is a machine of its own, in namespaces that stand in for machines.

Two machines have a network card each, cabled to one another; ip and ping are the witnesses.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl import project

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ip"), reason="needs ip, an independent witness"),
]
_COLLECTIONS = project.PACKAGE.parent / "ansible" / "collections"
_BRING = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from ansible_collections.pkgctl.testbed.plugins.module_utils import cabling, identity
node = replace(identity.load(sys.argv[2] + "/node.json"), impairment=sys.argv[3])
node.save()
print("; ".join(cabling.bring(node)))
"""
PAGES = ("-o link", "-o addr", "route show table all", "-6 route show table all")


class Machine:
    """A machine with a card named data; what runs in it ends with it."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder
        command = ["unshare", "--net", "--mount", "sleep", "infinity"]
        self.process = subprocess.Popen(command)
        folder.mkdir()
        other = 3 - number
        known = {
            "name": f"n-{number}",
            "testbed": "t",
            "interface": "data",
            "address": f"10.77.0.{number}",
            "network": "10.77.0.0/16",
            "peers": {f"n-{other}": f"10.77.0.{other}"},
            "access": None,
            "cgroup": "none",
            "cpu": 1,
            "memory": 1 << 20,
            "pids": 10,
            "address6": f"fd77:7067::{number}",
            "peers6": {f"n-{other}": f"fd77:7067::{other}"},
            "disks": {},
        }
        (folder / "node.json").write_text(json.dumps(known))

    def run(self, *command: str, switch: bool = False) -> str:
        words = ["nsenter", "-t", str(self.process.pid), "-n", "-m"]
        if switch:
            words += ["nsenter", f"--net={self.folder}/ns/.switch/net"]
        done = subprocess.run(
            [*words, *command], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def bring(self, impairment: str) -> str:
        words = [sys.executable, "-c", _BRING, str(_COLLECTIONS), str(self.folder), impairment]
        return self.run(*words).strip()

    def picture(self) -> list[list[str]]:
        """Return its links, addresses and routes; indexes and the cable's far end may change."""
        pages = [self.run("ip", *page.split()).splitlines() for page in PAGES]
        return [
            sorted(line.split(": ", 1)[-1].split(" link-netns")[0] for line in page)
            for page in pages
        ]

    def pings(self, target: str) -> bool:
        return " 0% packet loss" in self.run("ping", "-c", "2", "-i", "0.2", "-W", "2", target)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[Machine]]:
    machines = [Machine(number, tmp_path / f"n-{number}") for number in (1, 2)]
    try:
        for each in machines:
            wait_for_namespaces(each)
        one, two = (str(each.process.pid) for each in machines)
        macs = [f"02:00:0a:4d:00:0{each.number}" for each in machines]
        cable = ["ip", "link", "add", "data", "address", macs[0], "netns", one, "type", "veth"]
        cable += ["peer", "name", "data", "address", macs[1], "netns", two]
        subprocess.run(cable, check=True)
        for each in machines:
            each.run("ip", "link", "set", "lo", "up")
            for address in (f"10.77.0.{each.number}/16", f"fd77:7067::{each.number}/64"):
                each.run("ip", "addr", "add", address, "dev", "data", *["nodad"] * (":" in address))
            each.run("ip", "link", "set", "data", "up")
        yield machines
    finally:
        for each in machines:
            each.process.kill()
            each.process.wait()


def wait_for_namespaces(machine: Machine) -> None:
    own = Path("/proc/self/ns/mnt").readlink()
    other = Path(f"/proc/{machine.process.pid}/ns/mnt")
    while other.readlink() == own:
        assert machine.process.poll() is None


def same_again(machine: Machine, before: list[list[str]]) -> None:
    """Check that a machine is what it was; a cable's carrier and an address take a moment."""
    deadline = time.monotonic() + 120
    while machine.picture() != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert machine.picture() == before


def test_a_switch_comes_between_a_node_and_its_card_and_goes_again(pair: list[Machine]) -> None:
    one, two = pair
    assert two.pings("10.77.0.1")
    assert two.pings("fd77:7067::1")
    before = one.picture()

    assert one.bring("delay line") == ("make the switch; put the card behind it; lay a cable to it")

    assert one.bring("delay line") == ""
    assert one.run("ip", "-br", "link", "show", "wire", switch=True).startswith("wire")
    # The neighbour asks anew, and the switch answers for the node.
    two.run("ip", "neigh", "flush", "dev", "data")
    for target in ("10.77.0.1", "fd77:7067::1"):
        assert two.pings(target)
    for target in ("10.77.0.2", "fd77:7067::2"):
        assert one.pings(target)
    assert one.bring("netem") == "give the card back; remove the switch"
    assert one.bring("netem") == ""
    same_again(one, before)
    assert sorted(path.name for path in one.folder.iterdir()) == ["node.json", "ns"]
    assert list((one.folder / "ns").iterdir()) == []


def test_two_switches_need_no_question_and_answer(pair: list[Machine]) -> None:
    one, two = pair
    for each in pair:
        each.bring("delay line")

    assert one.pings("10.77.0.2")
    assert two.pings("fd77:7067::1")

    for each in pair:
        known = each.run("ip", "neigh") + each.run("ip", "neigh", switch=True)
        assert {line.split()[-1] for line in known.splitlines()} == {"PERMANENT"}


def test_a_switch_that_was_half_made_is_finished(pair: list[Machine]) -> None:
    one, _ = pair
    before = one.picture()
    one.bring("delay line")
    one.run("ip", "link", "delete", "data")

    assert one.bring("delay line") == "lay a cable to the switch"

    assert one.pings("10.77.0.2")
    one.run("ip", "link", "delete", "data")
    one.bring("netem")
    same_again(one, before)


def classes(machine: Machine) -> list[str]:
    """Return the rates of the classes at the switch's port to a machine, as tc shows them."""
    port = f"p0-{machine.number}"
    shown = machine.run("tc", "class", "show", "dev", port, switch=True)
    return re.findall(r"class htb \S+ root .* rate (\S+) ceil", shown)


def tell(machine: Machine, **known: object) -> None:
    path = machine.folder / "node.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **known}))


@pytest.mark.skipif(not shutil.which("tc"), reason="needs tc, an independent witness")
@pytest.mark.parametrize("impairment", ["delay line", "netem"])
def test_what_arrives_is_bounded_where_it_leaves_the_switch(
    pair: list[Machine], impairment: str
) -> None:
    one, two = pair
    before = one.picture()
    tell(one, access_down=8_000_000)
    assert one.bring(impairment) == "make the switch; put the card behind it; lay a cable to it"
    assert one.bring(impairment) == ""
    assert classes(one) == ["8Mbit"]
    assert two.pings("10.77.0.1")

    tell(one, access_down=2_000_000)
    assert one.bring(impairment) == "let arrive at 2mbit at the most"
    assert classes(one) == ["2Mbit"]
    one.run("tc", "qdisc", "delete", "dev", "p0-1", "root", switch=True)
    assert one.bring(impairment) == "let arrive at 2mbit at the most"
    assert (one.bring(impairment), classes(one)) == ("", ["2Mbit"])

    tell(one, access_down=None)
    told = {"netem": "give the card back; remove the switch", "delay line": "let arrive unbounded"}
    assert one.bring(impairment) == told[impairment]
    assert one.bring(impairment) == ""
    assert impairment == "netem" or classes(one) == []
    one.bring("netem")
    same_again(one, before)


def test_a_switch_learns_of_nodes_that_come_and_forgets_those_that_go(pair: list[Machine]) -> None:
    one, _ = pair
    one.bring("delay line")
    known = json.loads((one.folder / "node.json").read_text())
    (one.folder / "node.json").write_text(
        json.dumps({**known, "peers": {"n-3": "10.77.0.3"}, "peers6": {"n-3": "fd77:7067::3"}})
    )

    assert one.bring("delay line") == "tell the switch the other nodes"

    listed = one.run("ip", "neigh", "show", "dev", "wire", "nud", "permanent", switch=True)
    assert sorted(line.split()[0] for line in listed.splitlines()) == ["10.77.0.3", "fd77:7067::3"]
    assert one.bring("delay line") == ""
