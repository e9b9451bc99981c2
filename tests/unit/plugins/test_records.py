# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import identity, links
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality
from ansible_collections.pkgctl.testbed.plugins.plugin_utils import records
from pkgctl import nodeplan, nodeside
from pkgctl.local import paths

from .recorded import QUALITY, UNSHAPED, record

HOME = Path("/home/user")


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({}, "/home/user/.local/state/pkgctl"),
        ({"XDG_STATE_HOME": "/elsewhere"}, "/elsewhere/pkgctl"),
        ({"XDG_STATE_HOME": "not/absolute"}, "/home/user/.local/state/pkgctl"),
        ({"XDG_STATE_HOME": "/elsewhere", "PKGCTL_STATE": "/given"}, "/given"),
    ],
)
def test_a_record_is_looked_for_in_run_first_and_then_with_the_user(environment, root):
    assert records.places("lab", environment, HOME) == (
        paths.Paths("lab").state,
        Path(root, "lab", "state.json"),
    )


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "x" * 33, "-a", "a\n"])
def test_what_no_testbed_can_be_called_is_refused(name):
    with pytest.raises(records.RecordError, match="is no name of a testbed"):
        records.places(name, {}, HOME)


def test_the_first_record_that_is_there_is_read(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    second.write_text(json.dumps(record()))

    assert records.read(first, second) == (second, record())

    first.write_text(json.dumps(record("other")))
    assert records.read(first, second)[0] == first


def test_no_record_at_all_is_told_with_all_places(tmp_path):
    with pytest.raises(records.RecordError) as caught:
        records.read(tmp_path / "a", tmp_path / "b")

    assert str(caught.value) == (
        f"no testbed is up: run pkgctl up (there is no {tmp_path}/a and no {tmp_path}/b)"
    )


def test_the_door_of_pkgctl_gives_the_same_module():
    assert nodeside.records is records


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "is not a testbed's state: Expecting"),
        ("[" * 100_000, "is not a testbed's state: maximum recursion"),
        ("[]", "is not a testbed's state of format 1"),
        ('{"format": 2, "nodes": {}}', "is not a testbed's state of format 1"),
        ('{"format": 1}', "is not a testbed's state of format 1"),
        ('{"format": 1, "nodes": {}}', "is not a testbed's state: it has no testbed"),
    ],
)
def test_a_text_that_is_no_record_is_named(text, error):
    with pytest.raises(records.RecordError) as caught:
        records.check(Path("/state.json"), text)

    assert str(caught.value).startswith(f"/state.json {error}")
    assert "\n" not in str(caught.value)


def spoilt(*path: str, value: object) -> str:
    made = record()
    place = made
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(made)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (spoilt("provider", value="cloud"), "provider is 'cloud', not local or libvirt"),
        (spoilt("access", value=None), "it has no access"),
        (spoilt("access", "port", value="22"), "the port of access cannot be '22'"),
        (spoilt("access", "port", value=0), "access cannot be 'root' at port 0"),
        (spoilt("access", "user", value="-oProxyCommand=x"), "access cannot be '-oProxyCommand=x'"),
        (spoilt("access", "key", value="key"), "the key of access is no path: 'key'"),
        (spoilt("access", "known_hosts", value='/a"b'), "the known_hosts of access is no path"),
        (spoilt("nodes", "edge-1", value=3), "node edge-1 is no mapping"),
        (spoilt("nodes", "-x", value={}), "'-x' is no name of a node"),
        (spoilt("nodes", "a/../b", value={}), "'a/../b' is no name of a node"),
        (spoilt("nodes", "edge-1", "host", value=None), "node edge-1 has no host"),
        (spoilt("nodes", "edge-1", "host", value="-oX=y"), "the host of node edge-1: Expected 4"),
        (spoilt("nodes", "edge-1", "domain", value="--help"), "the domain of node edge-1 cannot"),
        (spoilt("nodes", "edge-1", "uri", value="-c"), "the uri of node edge-1 is none of"),
        (spoilt("nodes", "edge-1", "memory", value=True), "the memory of node edge-1 cannot be"),
        (spoilt("nodes", "edge-1", "disks", "data", value=1), "disk data of node edge-1 is no map"),
        (spoilt("links", "edge-1", value=[]), "the links of edge-1 are no mapping of qualities"),
    ],
)
def test_what_is_wrong_with_a_record_is_told_in_one_line(text, error):
    with pytest.raises(records.RecordError) as caught:
        records.check(Path("/state.json"), text)

    assert str(caught.value).startswith(f"/state.json is not a testbed's state: {error}")
    assert "\n" not in str(caught.value)


def test_a_machine_is_told_who_it_is(tmp_path):
    told = records.identity(record(), "edge-1")

    (tmp_path / "node.json").write_text(json.dumps(told))
    known = identity.load(tmp_path / "node.json")
    assert (known.name, known.testbed, known.interface) == ("edge-1", "lab", "data")
    assert (known.address, known.address6) == ("10.77.0.1", "fd77:7067::1")
    assert known.network == str(nodeplan.NETWORK)
    assert known.peers == {"cloud-1": "10.77.0.2"}
    assert known.peers6 == {"cloud-1": "fd77:7067::2"}
    assert (known.access, known.access_down) == (10_000_000, 40_000_000)
    assert known.cgroup == "pkgctl.slice"
    assert {name: (disk.image, disk.mount) for name, disk in known.disks.items()} == {
        "data": ("/dev/disk/by-id/virtio-vdc", "/data"),
        "cache": ("/dev/disk/by-id/virtio-vdd", "/cache"),
    }


@pytest.mark.parametrize(("number", "target"), [(0, "c"), (23, "z"), (24, "aa"), (50, "ba")])
def test_disks_beyond_the_alphabet_have_targets_too(number, target):
    assert records.image(number) == f"/dev/disk/by-id/virtio-vd{target}"


def test_a_machine_is_told_its_base_as_a_local_node_is():
    node = "cloud-1"

    told = records.base(record(), node)

    both = links.body(
        {"edge-1": Quality.from_dict(QUALITY)}, {"edge-1": Quality.from_dict(UNSHAPED)}
    )
    assert {way: told[way] for way in ("egress", "ingress")} == both
    assert told["limits"] == {"cpu": 1.0, "memory": 1 << 28, "pids": 256}


def test_a_machine_on_another_host_is_reached_through_that_host():
    made = record()
    made["nodes"]["edge-1"]["uri"] = "qemu+ssh://root@far.example:2222/system"

    words = records.variables(made, "edge-1", Path("/state/lab"))["ansible_ssh_common_args"]

    assert "ProxyJump=root@far.example:2222" in shlex.split(words)
    near = records.variables(made, "cloud-1", Path("/state/lab"))["ansible_ssh_common_args"]
    assert "ProxyJump" not in near


def test_paths_with_spaces_and_percents_are_for_ssh_what_they_are():
    made = record()
    made["access"]["known_hosts"] = "/home/a b/100%/known_hosts"
    records.check(Path("/x"), json.dumps(made))

    words = shlex.split(records.variables(made, "edge-1", Path("/s"))["ansible_ssh_common_args"])

    assert words[1] == 'UserKnownHostsFile="/home/a b/100%%/known_hosts"'


def test_a_shared_connection_is_not_that_of_another_testbed_at_the_same_address():
    other = record()
    other["access"]["known_hosts"] = "/state/other/known_hosts"
    paths_of = [
        records.variables(made, "edge-1", Path("/s"))["ansible_control_path"]
        for made in (record(), other)
    ]

    assert len(set(paths_of)) == 2
    assert all(path.startswith("%(directory)s/") for path in paths_of)
