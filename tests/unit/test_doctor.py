# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from pkgctl import doctor, probes
from pkgctl.doctor import MISSING, OK, UNTRIED, Finding
from pkgctl.errors import MissingCapability
from pkgctl.nodeside import syscalls
from pkgctl.remote.needs import Need
from tests import controlgroups
from tests.waiting import soon


def test_only_what_is_needed_and_known_to_be_missing_is_lacking():
    findings = [
        Finding("root", MISSING, "", needed=True),
        Finding("links", UNTRIED, "", needed=True),
        Finding("kernel", OK, "", needed=True),
        Finding("netem", MISSING, ""),
    ]

    assert [each.name for each in doctor.lacking(findings)] == ["root"]


def test_the_capabilities_of_a_process_are_read_from_its_status():
    status = "Name:\tbash\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n"

    assert doctor.effective_capabilities(status) == (1 << 41) - 1


def test_without_root_nothing_of_the_kernel_is_tried(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(probes, "attempt", lambda probe: pytest.fail("tried"))

    findings = {each.name: each for each in doctor.examine()}

    assert findings["root"].state == MISSING and "sudo" in findings["root"].remedy
    assert {findings[each.name].state for each in doctor.FEATURES} == {UNTRIED}
    assert [each.name for each in doctor.lacking(list(findings.values()))] == ["root"]


def test_what_a_probe_finds_missing_is_told_with_its_remedy(monkeypatch):
    def fail(probe):
        raise probes.ProbeError("no such thing")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(probes, "attempt", fail)

    findings = {each.name: each for each in doctor.examine()}

    assert findings["rates"].detail == "no such thing" and "sch_htb" in findings["rates"].remedy
    assert findings["delay backend"].detail == "none"


def test_a_missing_tool_is_told_with_its_package(monkeypatch):
    monkeypatch.setattr(doctor, "_which", lambda name: None)

    findings = {each.name: each for each in doctor.examine()}

    assert findings["mke2fs"].remedy == "apt-get install e2fsprogs"
    assert findings["disks"].state == UNTRIED


@pytest.mark.root
class TestProbes:
    @pytest.mark.parametrize(
        "probe", [each.probe for each in doctor.FEATURES if each.needed], ids=lambda p: p.__name__
    )
    def test_a_feature_is_tried_for_real_and_gives_a_detail(self, probe):
        try:
            detail = probes.attempt(probe)
        except probes.ProbeError as error:
            pytest.skip(f"this kernel lacks it: {error}")

        assert detail and "\n" not in detail

    def test_nothing_is_left_behind(self):
        before = self._world()

        doctor.examine()

        assert soon(lambda: self._world() <= before, 30.0)  # others may be trying the same

    def test_a_mistake_in_a_probe_ends_in_its_child(self):
        with pytest.raises(probes.ProbeError, match="ZeroDivisionError"):
            probes.attempt(lambda: str(1 / 0))

    def test_a_probe_that_dies_is_told(self):
        with pytest.raises(probes.ProbeError, match="without an answer"):
            probes.attempt(lambda: os._exit(1))

    def test_a_refusal_of_the_kernel_is_told_in_its_words(self):
        def probe():
            syscalls.mount("none", "/proc/self/nowhere", "tmpfs")

        with pytest.raises(probes.ProbeError, match="No such file"):
            probes.attempt(probe)

    @staticmethod
    def _world():
        """Return what of the kernel's a probe could leave."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return {
            *(line for line in mounts if "/tmp/view" in line or "/tmp/place" in line),
            str(Path("/proc/self/ns/net").readlink()),
            *(each for each in controlgroups.below("") if "/pkgctl-doctor" in each),
            *map(str, filter(_is_ours, Path("/sys/block").glob("loop*/loop/backing_file"))),
        }


def _is_ours(backing_file):
    with suppress(OSError):  # somebody else's, which has gone meanwhile
        return backing_file.read_text().strip().removesuffix(" (deleted)").endswith("/image")
    return False


class TestVirtualMachines:
    """What they take is told, and a local testbed needs none of it."""

    URI = "qemu:///system"

    @pytest.fixture
    def found(self, monkeypatch):
        """Examine a machine that has everything, but for what the test changes."""
        has = SimpleNamespace(host=[], plugin=[], trial="", image=SimpleNamespace(disk="/disk"))
        monkeypatch.setattr(doctor.needs, "which", lambda name: f"/bin/{name}")
        monkeypatch.setattr(doctor.needs, "version", lambda command: "3.260.0")
        monkeypatch.setattr(doctor.needs, "plugin", lambda: has.plugin)
        monkeypatch.setattr(doctor.needs, "plugin_path", lambda: "/plugin")
        monkeypatch.setattr(doctor.needs, "host", lambda uri: has.host)
        monkeypatch.setattr(doctor.virsh, "version", lambda uri: "QEMU 7.2.0")
        monkeypatch.setattr(doctor.kvm, "trial", lambda uri, name: has.trial)

        def find(spec):
            if has.image is None:
                raise MissingCapability("no image is built yet")
            return has.image

        has.image.fingerprint = "0123456789abcdef"
        monkeypatch.setattr(doctor.image, "find", find)

        def examine(**changes):
            vars(has).update(changes)
            return {each.name: each for each in doctor._virtual_machines()}

        return examine

    def test_what_is_there_is_told_in_its_version(self, found):
        findings = found()

        assert {each.state for each in findings.values()} == {OK}
        assert findings["pulumi"].detail == "3.260.0, /bin/pulumi"
        assert findings["libvirt"].detail == "qemu:///system, QEMU 7.2.0"
        assert findings["image"].detail == "0123456789ab, /disk"
        assert not any(each.needed for each in findings.values())

    def test_emulation_is_told_as_slower_and_not_as_an_obstacle(self, found):
        kvm = found(trial="paused")["KVM"]

        assert kvm.state == MISSING and "slower: paused" in kvm.detail and not kvm.needed

    def test_without_libvirt_kvm_is_not_tried(self, found):
        findings = found(host=[Need("libvirt", "no socket", "apt-get install it")])

        assert findings["libvirt"].remedy == "apt-get install it"
        assert findings["KVM"].state == UNTRIED

    def test_what_is_missing_has_its_official_way(self, found, monkeypatch):
        monkeypatch.setattr(doctor.needs, "which", lambda name: None)
        plugin = Need("the plugin", "talks", "pulumi plugin install resource libvirt 0.5.4")

        findings = found(plugin=[plugin], image=None)

        assert findings["pulumi"].remedy == "see https://www.pulumi.com/docs/install/"
        assert findings["libvirt plugin"].remedy == plugin.remedy
        assert findings["image"].remedy == "pkgctl image build"
