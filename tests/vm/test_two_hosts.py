# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed over two libvirt hosts: the user's own, and another one that is reached by SSH.

Each has one node. Their data network goes from host to host in VXLAN.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.conformance.subjects import Run, Subject
from tests.conformance.test_conformance import goodput

from .bare import make_key
from .hypervisor import Hypervisor, hypervisor

pytestmark = pytest.mark.vm("pulumi", "libvirt", "qemu", "image", "ssh", "ssh-server")

HERE, THERE = "192.0.2.1", "192.0.2.2"
HOSTS = (f"qemu:///system,name=one,address={HERE}", f"qemu+ssh://root@{THERE}/system,name=two")
TOPOLOGY = """\
name: apart
sites: {here: {access: lan}}
kinds:
  device: {role: edge, cpu: 500m, memory: 64Mi}
nodes:
  - {name: near, site: here, kind: device, labels: {host: one}}
  - {name: far, site: here, kind: device, labels: {host: two}}
"""
# What VXLAN leaves to a packet of 1,500 bytes; a ping's own headers have 28.
MTU = 1450


@dataclass(frozen=True)
class Lab:
    """A user of two hosts.

    Attributes:
        one: the user's own host.
        two: the host that is reached by SSH.
        folder: the user's.
        subject: the testbed, which may not be up.
        bare: what the hosts have without it.
    """

    one: Hypervisor
    two: Hypervisor
    folder: Path
    subject: Subject
    bare: list[dict[str, list[str]]]

    def up(self) -> Run:
        hosts = [word for host in HOSTS for word in ("--host", host)]
        topology = str(self.folder / "apart.yaml")
        words = ("up", topology, "--provider", "libvirt", "-o", "json", *hosts)
        return self.subject.run("pkgctl", *words, timeout=900.0)

    def domain(self, node: str) -> str:
        return f"pkgctl.{self.subject.name}.{node}"

    def round_trip(self, source: str, target: str) -> float:
        """Return the shortest round trip of 15 packets in milliseconds, the first left out.

        Emulated processors wake up late, never early; on a busy machine most of them do.
        """
        shown = self.subject.inside(source, "ping", "-c", "16", "-i", "0.1", target)
        times = sorted(float(each) for each in re.findall(r"time=([\d.]+) ms", shown)[1:])
        assert len(times) == 15, shown
        return times[0]


def picture(host: Hypervisor) -> dict[str, list[str]]:
    """Return all that a host has which a testbed could have left."""
    kinds = ("list --all", "net-list --all", "pool-list --all")
    links = json.loads(host.run("ip", "-json", "link").stdout)
    images = host.run("find", "/var/lib/libvirt/images", "-mindepth", "1").stdout
    return {
        **{kind: host.virsh(*kind.split()).splitlines() for kind in kinds},
        "links": sorted(link["ifname"] for link in links),
        "images": images.splitlines(),
    }


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Have the hosts, whose SSH knows the user, and whose host key the user knows."""
    folder: Path = tmp_path_factory.mktemp("user")
    (folder / "apart.yaml").write_text(TOPOLOGY)
    (folder / ".ssh").mkdir(mode=0o700)
    make_key(folder / ".ssh" / "id_ed25519")
    key = (folder / ".ssh" / "id_ed25519.pub").read_text()
    with hypervisor() as one, hypervisor() as two:
        one.join(two, f"{HERE}/24", f"{THERE}/24")
        one.move_home(folder)
        subject = Subject(
            f"t{uuid.uuid4().hex[:8]}",
            "libvirt",
            dict.fromkeys(("near", "far"), "pkgctl.slice"),
            # Without a terminal nobody is asked whether a stranger's key is right.
            enter=[*one.enter, "setsid", "-w"],
            environment={
                "PATH": needs.path(),
                "HOME": str(folder),
                "SSH_AUTH_SOCK": "",
                "PULUMI_HOME": str(needs.PULUMI),
                "XDG_CACHE_HOME": str(needs.CACHE),
                "PKGCTL_STATE": str(folder / "state"),
            },
        )
        with two.ssh_server(THERE, key) as known:
            (folder / ".ssh" / "known_hosts").write_text(known)
            yield Lab(one, two, folder, subject, [picture(one), picture(two)])


@pytest.fixture(scope="module")
def lab(user: Lab) -> Iterator[Lab]:
    """Have the testbed up, and nothing of it afterwards."""
    try:
        up = user.up()
        assert up.status == 0, up.output + up.errors
        yield user
    finally:
        down = user.subject.run("pkgctl", "down", timeout=300.0)
        left = [picture(user.one), picture(user.two)]
    assert down.status == 0, down.output + down.errors
    assert left == user.bare
    assert not (user.folder / "state").exists()


def test_a_host_with_a_key_that_is_not_known_is_refused(user: Lab) -> None:
    known = user.folder / ".ssh" / "known_hosts"
    line = known.read_text()
    for words in ("", f"{THERE} {(user.folder / '.ssh' / 'id_ed25519.pub').read_text()}"):
        known.write_text(words)
        try:
            refused = user.up()
        finally:
            known.write_text(line)

        assert refused.status == 3
        assert "Host key verification failed" in refused.errors
        assert refused.errors.count("\n") == 1
        assert [picture(user.one), picture(user.two)] == user.bare
        assert not (user.folder / "state").exists()


def test_each_host_runs_its_own_node(lab: Lab) -> None:
    for host, node in ((lab.one, "near"), (lab.two, "far")):
        assert host.virsh("list", "--name").split() == [lab.domain(node)]
    shown = json.loads(lab.subject.run("pkgctl", "status", "-o", "json").output)
    assert {name: node["domain"] for name, node in shown["nodes"].items()} == {
        "near": "running",
        "far": "running",
    }
    assert shown["silent"] == {}


def test_nodes_hear_one_another_through_the_network_between_the_hosts(lab: Lab) -> None:
    def carried() -> int:
        links = json.loads(lab.two.run("ip", "-json", "-s", "link", "show", "type", "vxlan").stdout)
        return sum(link["stats64"]["rx"]["packets"] for link in links)

    before = carried()
    record = json.loads((lab.folder / "state" / lab.subject.name / "state.json").read_text())
    for source, target in (("near", "far"), ("far", "near")):
        for key in ("address", "address6"):
            assert lab.subject.is_reachable(source, record["nodes"][target][key])

    assert record["nodes"]["far"]["address"].startswith("10.77.")
    # Three packets each, there or back.
    assert carried() - before >= 12


def test_the_longest_packet_passes_and_a_longer_one_is_refused(lab: Lab) -> None:
    def ping(size: int) -> Run:
        words = ("ping", "-c", "3", "-W", "2", "-M", "do", "-s", str(size - 28), "far")
        return lab.subject.run("pkgctl", "exec", "near", "--", *words)

    assert ping(MTU).status == 0
    assert ping(MTU + 1).status != 0


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    again = lab.up()

    assert again.status == 0, again.output + again.errors
    assert json.loads(again.output)["changed"] is False


def test_a_delay_between_the_hosts_is_held_and_healed(lab: Lab) -> None:
    before, bare = lab.subject.picture(), lab.round_trip("near", "far")
    line = "perturb.yml -e src=near -e dst=far -e delay=40ms -e name=far-off -e lease=none"

    changed = lab.subject.play(line).changed
    late = [lab.round_trip("near", "far"), lab.round_trip("far", "near")]
    disturbed = lab.subject.picture()
    again = lab.subject.play(line).changed
    lab.subject.play("heal.yml -e name=far-off")

    assert any(changed.values()) and not any(again.values())
    # There and back, whoever asks, and not twice.
    assert all(80.0 <= each < 110.0 + 2 * bare for each in late)
    assert disturbed != before
    assert lab.round_trip("near", "far") < 30.0 + 2 * bare
    assert lab.subject.picture() == before


def test_a_bandwidth_between_the_hosts_is_held(lab: Lab) -> None:
    before = lab.subject.picture()

    lab.subject.play("perturb.yml -e bw=5mbit -e name=narrow -e lease=none")
    carried = goodput(lab.subject, "near", "far")
    lab.subject.play("heal.yml -e name=narrow")

    # What TCP can carry in frames of that size; emulated processors may not bring as much, but
    # more than an eighth, which is what bytes taken for bits would leave.
    most = 5e6 * (MTU - 52) / (MTU + 14)
    assert 0.2 * most <= carried <= 1.05 * most
    assert lab.subject.picture() == before


def test_a_node_on_the_other_host_is_paused_and_goes_on(lab: Lab) -> None:
    def states() -> list[str]:
        pairs = ((lab.one, "near"), (lab.two, "far"))
        return [host.virsh("domstate", lab.domain(node)) for host, node in pairs]

    lab.subject.play("perturb.yml -e node=far -e health=paused -e name=nap -e lease=none")
    paused = states()
    lab.subject.play("heal.yml -e name=nap")

    assert paused == ["running", "paused"]
    assert states() == ["running", "running"]
    assert lab.subject.is_reachable("near", "far")
