# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.errors import SpecError
from pkgctl.remote import wish
from pkgctl.remote.wish import Wish


def test_a_new_testbed_is_on_this_machine():
    settings = Wish("/t.yaml").settings("lab", {})

    assert settings == {
        "hosts": [{"name": "here", "uri": "qemu:///system"}],
        "provider": "libvirt",
        "testbed": "lab",
        "topology": "/t.yaml",
    }


def test_what_is_not_given_is_as_it_was():
    before = {
        "hosts": [{"name": "two", "uri": "qemu+ssh://two/system"}],
        "image": "abc",
        "network": "10.9.0.0/24",
        "replace_disks": True,
    }

    settings = Wish("/t.yaml", network="10.8.0.0/24").settings("lab", before)

    assert wish.uris(settings) == ["qemu+ssh://two/system"]
    assert (settings["image"], settings["network"]) == ("abc", "10.8.0.0/24")


def test_what_allows_a_loss_is_not_remembered():
    before = {"replace_disks": True}

    assert "replace_disks" not in Wish("/t.yaml").settings("lab", before)
    asked = Wish("/t.yaml", others={"replace_disks": "true"})
    assert asked.settings("lab", {})["replace_disks"] == "true"


def test_a_file_is_found_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "own.qcow2").touch()
    monkeypatch.chdir(tmp_path)

    assert Wish("/t", image="own.qcow2").settings("lab", {})["image"] == f"{tmp_path}/own.qcow2"
    assert Wish("/t", image="0a1b2c").settings("lab", {})["image"] == "0a1b2c"


def test_a_host_is_named_by_its_address():
    assert wish.hosts(["qemu:///system"]) == [{"name": "here", "uri": "qemu:///system"}]
    assert wish.hosts(["qemu+ssh://root@Two.lab.org/system"])[0]["name"] == "two"
    assert wish.hosts(["qemu+ssh://root@192.0.2.7/system"])[0]["name"] == "host-192-0-2-7"


def test_more_can_be_said_of_a_host():
    host = wish.hosts(["qemu:///system,name=big,memory=8Gi"])[0]

    assert host == {"name": "big", "uri": "qemu:///system", "memory": "8Gi"}


def test_of_several_hosts_each_has_an_address_for_the_others():
    found = wish.hosts(["qemu+ssh://root@192.0.2.7/system", "qemu:///system,address=192.0.2.1"])

    assert [host["address"] for host in found] == ["192.0.2.7", "192.0.2.1"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["two"], "is no libvirt host; write such as qemu:///system"),
        (["qemu:///system,adress=1"], "did you mean address?"),
        (["qemu:///system", "qemu:///system"], "given twice"),
        (["qemu:///system", "qemu+ssh://a@192.0.2.7/system"], "say where the other hosts reach it"),
        (["qemu+ssh://two:22/system,name=b"], "names no user; write qemu+ssh://root@two:22/system"),
    ],
)
def test_a_host_that_cannot_be_meant_is_refused(texts, expected):
    with pytest.raises(SpecError) as error:
        wish.hosts(texts)

    assert expected in str(error.value)
