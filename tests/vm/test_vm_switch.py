# SPDX-License-Identifier: GPL-3.0-or-later
"""The delay line of nodes that are virtual machines, in a switch between each and its card.

ping is the witness; what it shows without a delay is the emulation's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import bare, plain
from tests.vm.bare import Machine

PAGES = (
    "ip -o link; ip -o addr; ip route show table all; ip -6 route show table all; nft list tables"
)
SET = """
path = Path("/run/pkgctl/agent", delayclient.SOCKET)
daemon.ensure("delayline", Path("/run/pkgctl"), path)
peer = next(iter(node.peers))
asked = {{peer: quality.Quality(**{0})}} if {0} else {{}}
done = links.change(node, layer="test", egress=asked, ingress=asked, present=bool(asked))
again = links.converge(node, dry_run=True)
print(json.dumps([done.actions, again.actions]))
"""


pytestmark = pytest.mark.vm("qemu", "image", "ssh")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    base = bare.built()
    assert base is not None
    folder: Path = tmp_path_factory.mktemp("machines")
    with bare.machines(folder, ["n-1", "n-2"], base) as machines:
        for each in machines:
            plain.lay_out(each, machines)
        yield machines


def bring(machine: Machine, impairment: str) -> list[str]:
    words = f"import dataclasses; node = dataclasses.replace(node, impairment={impairment!r})"
    actions = "print(json.dumps(cabling.bring(node)))"
    found: list[str] = plain.python(machine, f"{words}\nnode.save()\n{actions}")
    return found


def ask(machines: list[Machine], **numbers: float) -> list[object]:
    return [plain.python(each, SET.format(numbers)) for each in machines]


def shortest(machine: Machine, target: str, *words: str) -> float:
    told = machine.ssh(f"ping -c 15 -i 0.3 {' '.join(words)} {target}")
    times = sorted(float(each) for each in re.findall(r"time=([\d.]+)", told))
    assert len(times) == 15, told
    return times[0]


def picture(machine: Machine) -> list[str]:
    """Return links, addresses, routes and tables, without what counts up."""
    lines = machine.ssh(f"sleep 3; {PAGES}").splitlines()
    return sorted(re.sub(r"^\d+: | valid_lft.*", "", line) for line in lines)


def test_ping_shows_the_whole_delay_and_nothing_is_left_of_it(pair: list[Machine]) -> None:
    one, two = pair
    before = [picture(each) for each in pair]
    for each in pair:
        assert bring(each, "delay line")
        assert bring(each, "delay line") == []
    bare_time = {target: shortest(one, target) for target in (two.address, "fd77:7067::2")}

    assert ask(pair, delay=0.05) == [[[f"delay line from {n}: set"], []] for n in ("n-2", "n-1")]

    for target, without in bare_time.items():
        # Emulated processors wake up late, never early; on a busy machine most of them do.
        assert 100 <= shortest(one, target) < 130 + without
    # The longest packet passes, a longer one does not.
    assert shortest(one, two.address, "-M", "do", "-s", "1472") >= 100
    assert "100% packet loss" in one.ssh(f"ping -c 1 -M do -s 1473 {two.address} 2>&1 || true")
    ask(pair)
    assert shortest(one, two.address) < 30 + 2 * bare_time[two.address]
    for each in pair:
        assert bring(each, "netem") == ["give the card back", "remove the switch"]
    assert [picture(each) for each in pair] == before
    for each in pair:
        assert each.ssh(
            "lsns -n -t net | wc -l; pgrep -fc '[d]elayline import' || true"
        ).split() == [*("1", "0")]


def test_packets_are_lost_in_the_switch(pair: list[Machine]) -> None:
    one, two = pair
    for each in pair:
        bring(each, "delay line")
    ask(pair, loss=0.3)

    told = one.ssh(f"ping -q -c 300 -i 0.02 {two.address}")

    # Lost on either way: 1 − 0.7².
    (lost,) = re.findall(r"([\d.]+)% packet loss", told)
    assert 38 <= float(lost) <= 64
    ask(pair)
    for each in pair:
        bring(each, "netem")


def test_a_node_with_a_switch_and_one_without_hear_each_other(pair: list[Machine]) -> None:
    one, two = pair
    bring(one, "delay line")

    two.ssh("ip neigh flush dev data")
    for target in (one.address, "fd77:7067::1"):
        assert shortest(two, target) > 0
    bring(one, "netem")
