# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as machines: addresses that stay, seeds, the words for libvirt."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from pkgctl import topology
from pkgctl.errors import SpecError
from pkgctl.nodeside import identity
from testbed import domain, inventory, machines, record, seed, seeds, settings


@pytest.fixture
def wish(small):
    """The settings of a testbed, and its topology."""
    known = settings.read({"provider": "libvirt", "testbed": "lab"}.get)
    return known, topology.load(small)


def test_a_machine_knows_its_disks_by_their_serials(wish):
    server = machines.plan(*wish)["server"]

    assert server.disks == {"data": "vdc"}
    disk = identity.Disk("/dev/disk/by-id/virtio-vdc", "/data", 64 * 2**20)
    assert server.identity.disks == {"data": disk}
    assert (server.identity.interface, server.identity.cgroup) == ("data", "pkgctl.slice")


def test_cards_have_hardware_addresses_of_their_own(wish):
    planned = machines.plan(*wish).values()

    macs = [mac for machine in planned for mac in (machine.mac, machine.data_mac)]
    assert len(set(macs)) == 6
    assert all(machine.mac.startswith("52:54:00:") for machine in planned)
    assert all(machine.data_mac.startswith("02:00:0a:4d:") for machine in planned)


def test_nodes_keep_their_addresses_when_one_before_them_goes(wish):
    known, network = wish
    before = machines.plan(known, network)
    past = machines.record(known, network, before)["nodes"]
    fewer = replace(network, nodes=network.nodes[1:])

    after = machines.plan(known, fewer, past)

    assert {name: machine.management for name, machine in after.items()} == {
        name: before[name].management for name in after
    }
    assert after["device-1"].identity.address == before["device-1"].identity.address


def test_a_network_too_small_for_the_nodes_is_refused(wish):
    known, network = wish
    tight = settings.read({"network": "10.0.0.0/29"}.get).hosts
    nodes = tuple(replace(network.nodes[0], name=f"n{number}") for number in range(6))

    with pytest.raises(SpecError, match="has 5 addresses for nodes, and here gets 6"):
        machines.plan(replace(known, hosts=tight), replace(network, nodes=nodes))


def test_the_seed_says_what_the_image_reads_and_no_more_than_it(wish):
    server = machines.plan(*wish)["server"]
    said = seeds.content(server, ["ssh-ed25519 AAAA"])

    files = seeds.documents(said, "PRIVATE", "ssh-ed25519 HOST", testbed="lab")

    user = json.loads(files["user-data"].removeprefix("#cloud-config\n"))
    assert user["ssh_keys"] == {"ed25519_private": "PRIVATE", "ed25519_public": "ssh-ed25519 HOST"}
    cards = json.loads(files["network-config"])["ethernets"]
    assert cards["mgmt"]["addresses"] == ["192.168.177.2/24"]
    assert cards["data"]["addresses"] == ["10.77.0.1/16", "fd77:7067::1/64"]
    assert "PRIVATE" not in files["meta-data"]


def test_a_seed_that_says_something_else_is_another_instance(wish):
    server = machines.plan(*wish)["server"]

    def instance(keys):
        files = seeds.documents(seeds.content(server, keys), "P", "H", testbed="lab")
        return json.loads(files["meta-data"])["instance-id"]

    assert instance(["a"]) == instance(["a"])
    assert instance(["a"]) != instance(["b"])


def test_the_image_of_a_seed_is_the_volume_that_guests_look_for():
    data = seed.image({"user-data": "one", "meta-data": "two"})

    assert data[32769:32774] == b"CD001"
    assert data[32808:32840].rstrip() == b"cidata"


DOMAIN = """<domain><devices>
<disk><target dev="vda"/></disk><disk><target dev="vdb"/></disk>
<graphics type="spice"/><channel/><interface/></devices></domain>"""


def transformed(xslt: str, xml: str, folder) -> str:
    if shutil.which("xsltproc") is None:
        pytest.skip("xsltproc is missing (Debian package xsltproc)")
    (folder / "x.xslt").write_text(xslt)
    (folder / "x.xml").write_text(xml)
    command = ["xsltproc", str(folder / "x.xslt"), str(folder / "x.xml")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_disks_get_serials_and_the_console_a_log(tmp_path):
    said = transformed(domain.domain_xslt("/log/a & b"), DOMAIN, tmp_path)

    assert '<disk><target dev="vda"/><serial>vda</serial></disk>' in said
    assert '<disk><target dev="vdb"/><readonly/><serial>vdb</serial></disk>' in said
    assert said.count('<log file="/log/a &amp; b" append="on"/>') == 2
    assert "spice" not in said
    assert "<interface/>" in said


def test_a_network_gets_no_server_of_names_and_no_spanning_tree(tmp_path):
    xml = '<network><name>n</name><bridge name="b" stp="on"/></network>'

    said = transformed(domain.network_xslt(), xml, tmp_path)

    assert '<dns enable="no"/>' in said
    assert 'stp="off"' in said
    assert '<network ipv6="yes">' in said


def test_a_seeds_volume_is_private(tmp_path):
    xml = "<volume><target><permissions><mode>644</mode></permissions></target></volume>"

    assert "<mode>0600</mode>" in transformed(domain.private_xslt(), xml, tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ro", "root=/dev/vda", "quiet"], [{"root": "/dev/vda"}, {"_": "quiet ro"}]),
        (
            ["console=tty0", "console=ttyS0", "a=1"],
            [{"a": "1", "console": "tty0"}, {"console": "ttyS0"}],
        ),
        (["ro"], [{"_": "ro"}]),
    ],
)
def test_the_kernels_words_are_as_the_provider_reads_them_back(words, expected):
    # It splits what it joined of the sorted words: utils_domain_def.go, splitKernelCmdLine.
    said = domain.cmdlines(words)

    joined = [
        f"{key}={value}" if key != "_" else value for each in said for key, value in each.items()
    ]
    assert sorted(" ".join(joined).split()) == sorted(words)
    if expected:
        assert len(said) == len(expected)


def test_bridges_have_names_that_the_kernel_takes():
    assert len(domain.bridge("0123abcd", "mgmt")) <= 15
    assert domain.bridge("0123abcd", "mgmt") != domain.bridge("0123abcd", "data")


def test_a_host_behind_ssh_is_jumped_through(wish):
    known, network = wish
    hosts = json.dumps([{"name": "far", "uri": "qemu+ssh://root@192.0.2.2:2222/system"}])
    far = replace(known, hosts=settings.read({"hosts": hosts}.get).hosts)
    state = record.complete(
        machines.record(far, network, machines.plan(far, network)), {"far": "kvm"}
    )

    found = inventory.inventory(state)["all"]["children"]["nodes"]["hosts"]["server"]

    assert "ProxyJump=root@192.0.2.2:2222" in found["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=yes" in found["ansible_ssh_common_args"]
    assert "HostKeyAlias=server" in found["ansible_ssh_common_args"]
