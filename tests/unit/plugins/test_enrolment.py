# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import enrolment
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import DIRECTORY, Disk

GIVEN = {
    "name": "edge-1",
    "testbed": "lab",
    "interface": "data",
    "address": "10.77.0.2",
    "network": "10.77.0.0/16",
    "peers": {"cloud-1": "10.77.0.1", "edge-2": "10.77.0.3"},
    "access": None,
    "cgroup": "pkgctl.slice",
    "cpu": 2,
    "memory": 1 << 29,
    "pids": 512,
    "disks": {"data": {"image": "/dev/disk/by-id/virtio-vdc", "mount": "/data", "size": 1 << 26}},
    "address6": "fd77:7067::2",
    "peers6": {"cloud-1": "fd77:7067::1", "edge-2": "fd77:7067::3"},
}
SLOW = {"rate": 5_000_000, "delay": 0.02, "jitter": 0.0, "loss": 0.0}


def without(*keys):
    return {key: value for key, value in GIVEN.items() if key not in keys}


def test_an_identity_is_read_as_it_is_written_down():
    node = enrolment.read_identity(GIVEN)

    assert (node.name, node.interface, node.cpu) == ("edge-1", "data", 2)
    assert node.disks["data"] == Disk("/dev/disk/by-id/virtio-vdc", "/data", 1 << 26)
    assert node.directory == DIRECTORY


def test_what_a_node_need_not_have_may_be_left_out():
    node = enrolment.read_identity(without("disks", "address6", "peers6"))

    assert (node.disks, node.address6, node.peers6) == ({}, "", {})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"colour": "red"}, "identity: unknown key 'colour'; known are access, access_down, "),
        ({"cpu": "2"}, "identity.cpu: '2' is not a number above zero"),
        ({"cpu": True}, "identity.cpu: True is not a number above zero"),
        ({"memory": 1.5}, "identity.memory: 1.5 is not a whole number above zero"),
        ({"pids": 0}, "identity.pids: 0 is not a whole number above zero"),
        ({"access": -1}, "identity.access: -1 is not bits/s above zero"),
        ({"access_down": 0}, "identity.access_down: 0 is not bits/s above zero"),
        ({"peers": ["a"]}, r"identity.peers: \['a'\] is not a mapping"),
        ({"interface": None}, "identity.interface: None is not a text"),
        ({"name": "Edge 1"}, "identity.name: 'Edge 1' is no name"),
        ({"address": "10.78.0.2"}, "identity: 10.78.0.2 of edge-1 is not in 10.77.0.0/16"),
        ({"address": "here"}, "identity: 'here' does not appear to be an IPv4 or IPv6 address"),
        ({"peers6": {"cloud-1": "10.77.0.1"}}, "identity: .*'10.77.0.1'"),
        ({"peers": {"edge-1": "10.77.0.9"}}, "identity.peers: edge-1 is not a peer of itself"),
        ({"disks": {"data": "/dev/vdc"}}, "identity.disks.data: it needs image, mount"),
        ({"disks": {"data": {"image": "x"}}}, "identity.disks.data: it needs image, mount"),
    ],
)
def test_a_wrong_identity_is_refused_in_one_line_that_names_the_key(changes, error):
    with pytest.raises(DisturbanceError, match=error) as caught:
        enrolment.read_identity({**GIVEN, **changes})

    assert "\n" not in str(caught.value)


def test_what_an_identity_lacks_is_named():
    with pytest.raises(DisturbanceError, match="identity: it lacks 'cpu' and 'pids'"):
        enrolment.read_identity(without("cpu", "pids"))


def bodies(**options):
    return enrolment.read_bodies(enrolment.read_identity(GIVEN), {"links": {}, **options})


def test_the_base_of_links_is_kept_as_layers_keep_it():
    found = bodies(links={"egress": {"cloud-1": SLOW}, "ingress": None})

    assert found["link"] == {"egress": {"cloud-1": SLOW}, "ingress": {}}
    assert found["disk"] == {}


def test_limits_are_the_nodes_own_unless_others_are_given():
    assert bodies()["quota"] == {"cpu": 2, "memory": 1 << 29, "pids": 512}
    assert bodies(limits={"cpu": 0.5})["quota"] == {"cpu": 0.5}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"links": {"egress": {"moon-1": SLOW}}}, "edge-1 has no peer 'moon-1'"),
        ({"links": {"ingress": {"edge-2": {"rat": 1}}}}, "links.ingress.edge-2: rat: unknown qual"),
        ({"links": {"egress": {"edge-2": {"loss": 2}}}}, "links.egress.edge-2: loss must lie"),
        ({"links": {"egress": {"edge-2": {"delay": "1ms"}}}}, "links.egress.edge-2: delay: '1ms'"),
        ({"links": {"egress": {"edge-2": 5}}}, "links.egress.edge-2: "),
        ({"limits": {"mem": 1}}, "mem: unknown limit; known are cpu, memory"),
        ({"limits": {"cpu": "1"}}, "limits.cpu: '1' is not a number above zero"),
        ({"limits": {"memory": 1}}, "memory: must be a page"),
    ],
)
def test_a_wrong_base_is_refused_in_one_line(options, error):
    with pytest.raises((DisturbanceError, ValueError), match=error) as caught:
        bodies(**options)

    assert "\n" not in str(caught.value)


def test_all_nodes_have_names_and_ipv4_comes_first():
    assert enrolment.hosts(enrolment.read_identity(GIVEN)).splitlines() == [
        *("10.77.0.1 cloud-1", "10.77.0.2 edge-1", "10.77.0.3 edge-2"),
        *("fd77:7067::1 cloud-1", "fd77:7067::2 edge-1", "fd77:7067::3 edge-2"),
    ]
