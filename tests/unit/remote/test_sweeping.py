# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.errors import MissingCapability, TestbedError
from pkgctl.remote import sweeping, virsh

URI = "qemu:///system"
WORLD = {
    "domains": {
        "pkgctl.lab.one": "running",
        "pkgctl.lab.two": "shut off",
        "pkgctl.lab-2.one": "running",
        "mine": "running",
    },
    "networks": {"pkgctl.lab.mgmt": "active", "default": "active"},
    "pools": {"pkgctl.lab": "active", "default": "active"},
    "volumes": {"pkgctl.lab": ["base", "one.root"], "default": ["mine"]},
}
OTHERS = {
    "domains": {"pkgctl.lab-2.one": "running", "mine": "running"},
    "networks": {"default": "active"},
    "pools": {"default": "active"},
    "volumes": {"pkgctl.lab": [], "default": ["mine"]},
}


def test_what_has_the_testbeds_name_goes_and_nothing_else(libvirt):
    libvirt.write(**WORLD)

    gone = sweeping.remove(URI, "lab")

    assert libvirt.read() == OTHERS
    assert gone == [
        "- domain pkgctl.lab.one",
        "- domain pkgctl.lab.two",
        "- network pkgctl.lab.mgmt",
        "- volume pkgctl.lab/base",
        "- volume pkgctl.lab/one.root",
        "- pool pkgctl.lab",
    ]


def test_what_somebody_knows_of_stays(libvirt):
    libvirt.write(**WORLD)
    keep = {("domain", "pkgctl.lab.one"), ("pool", "pkgctl.lab"), ("volume", "pkgctl.lab/base")}

    sweeping.remove(URI, "lab", keep)

    left = libvirt.read()
    assert left["domains"]["pkgctl.lab.one"] == "running"
    assert "pkgctl.lab.two" not in left["domains"]
    assert left["volumes"]["pkgctl.lab"] == ["base"] and "pkgctl.lab" in left["pools"]


def test_where_nothing_is_nothing_is_done(libvirt):
    assert sweeping.remove(URI, "lab") == []
    assert libvirt.calls == ["list --all", "net-list --all", "pool-list --all"]


def test_what_does_not_go_is_named_in_libvirts_words(libvirt):
    libvirt.write(domains={}, networks={"pkgctl.lab.stuck": "active"}, pools={}, volumes={})

    with pytest.raises(TestbedError, match=r"qemu:///system: it is in use"):
        sweeping.remove(URI, "lab")


def test_the_state_of_each_domain_is_read(libvirt):
    libvirt.write(**WORLD)

    assert virsh.state(URI, "pkgctl.lab.two") == "shut off"
    assert virsh.state(URI, "nobody") == ""
    assert virsh.version(URI) == "QEMU 7.2.0"


def test_a_host_that_does_not_answer_is_an_error_in_its_words(libvirt):
    with pytest.raises(TestbedError, match="qemu:///else: Failed to connect socket"):
        virsh.states("qemu:///else")


def test_without_virsh_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingCapability, match="apt-get install libvirt-clients"):
        virsh.states(URI)
