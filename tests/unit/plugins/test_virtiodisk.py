# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import blockdisk
from ansible_collections.pkgctl.testbed.plugins.module_utils.backing import Mount
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    DisturbanceError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.virtiodisk import BY_ID, VirtioDisk


class Machine:
    """A tree like /sys, with virtio disks that a test takes from their driver and gives back."""

    def __init__(self, root):
        self.sysfs = root / "sys"
        self.driver = self.sysfs / "bus/virtio/drivers/virtio_blk"
        self.driver.mkdir(parents=True)
        for word in ("bind", "unbind"):
            (self.driver / word).write_text("")
        for folder in ("block", "class/block", "dev/block"):
            (self.sysfs / folder).mkdir(parents=True)
        self.folder = root / "devices"

    def plug(self, block, serial, number, device="virtio2", driver="virtio_blk"):
        place = self.sysfs / "devices" / device
        place.mkdir(parents=True, exist_ok=True)
        target = self.sysfs / "bus/virtio/drivers" / driver
        target.mkdir(exist_ok=True)
        (place / "driver").unlink(missing_ok=True)
        (place / "driver").symlink_to(target)
        found = self.sysfs / "block" / block
        found.mkdir()
        (found / "serial").write_text(f"{serial}\n")
        (found / "dev").write_text(f"{number}\n")
        (found / "device").symlink_to(place)
        (self.sysfs / "class/block" / block).symlink_to(found)
        (self.sysfs / "dev/block" / number).symlink_to(found)

    def pull(self, block):
        found = self.sysfs / "block" / block
        number = (found / "dev").read_text().strip()
        (found / "device").resolve().joinpath("driver").unlink()
        for file in found.iterdir():
            file.unlink()
        found.rmdir()
        (self.sysfs / "class/block" / block).unlink()
        (self.sysfs / "dev/block" / number).unlink()

    def disk(self, serial="vdc"):
        return VirtioDisk(serial, self.folder / serial, self.sysfs, by_id="/nowhere")

    def block(self, serial="vdc"):
        return blockdisk.Block(f"{BY_ID}{serial}", self.folder, self.sysfs)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.plug("vda", "vda", "254:0", "virtio0")
    made.plug("vde", "vdc", "254:64")
    return made


def test_a_disk_is_found_by_its_serial_whatever_the_kernel_calls_it(machine):
    assert machine.disk().block() == "vde"
    assert machine.disk("vdx").block() == ""


@pytest.mark.parametrize("named", ["../../vde", "../../vda"])
def test_udevs_link_is_only_a_hint(machine, tmp_path, named):
    link = tmp_path / "virtio-vdc"
    link.symlink_to(named)

    assert VirtioDisk("vdc", machine.folder, machine.sysfs, by_id=str(link)).block() == "vde"


def test_udev_may_remove_its_link_while_it_is_read(machine, tmp_path, monkeypatch):
    def remove_first(path, **options):
        if Path(path) == link:
            link.unlink()
        return read(path, **options)

    read = os.readlink
    link = tmp_path / "virtio-vdc"
    link.symlink_to("../../vde")
    monkeypatch.setattr(os, "readlink", remove_first)

    assert VirtioDisk("vdc", machine.folder, machine.sysfs, by_id=str(link)).block() == "vde"
    assert not link.is_symlink()


def test_where_a_disk_was_is_remembered_while_it_is_away(machine):
    disk = machine.disk()

    disk.doom()
    disk.unplug()

    assert disk.is_doomed
    assert disk.memory.readlink() == machine.sysfs / "devices/virtio2"
    assert (machine.driver / "unbind").read_text() == "virtio2"


def test_a_disk_that_was_taken_away_is_given_back_to_its_driver_from_memory(machine, monkeypatch):
    disk = machine.disk()
    disk.doom()
    machine.pull("vde")
    assert disk.block() == ""
    monkeypatch.setattr(VirtioDisk, "_await", lambda _: machine.plug("vdc", "vdc", "254:32"))

    assert disk.plug() == "vdc"

    assert (machine.driver / "bind").read_text() == "virtio2"
    disk.forgive()
    assert not disk.is_doomed


def test_a_disk_that_is_there_is_not_given_to_its_driver_again(machine):
    disk = machine.disk()
    disk.doom()

    assert disk.plug() == "vde"

    assert (machine.driver / "bind").read_text() == ""


def test_a_disk_that_the_machine_does_not_have_is_named(machine):
    machine.pull("vde")

    with pytest.raises(DisturbanceError, match="no virtio disk with the serial vdc: whoever"):
        machine.disk().plug()


def test_what_is_no_virtio_disk_is_not_taken_away(tmp_path):
    machine = Machine(tmp_path)
    machine.plug("vdc", "vdc", "8:0", driver="sd")

    with pytest.raises(CapabilityError, match="disk vdc cannot be taken away"):
        machine.disk().doom()
    with pytest.raises(CapabilityError, match="/dev/loop7 cannot be taken away: it is no virtio"):
        blockdisk.Block("/dev/loop7", tmp_path).doom()


def mount(number, root="/", what="ext4 (/dev/vde)"):
    return Mount(number, root, what, read_only=False, shut_down=False)


def test_a_mount_is_the_disks_by_its_number(machine):
    block = machine.block()

    assert block.behind(mount("254:64")) == ("/dev/vde", False)
    assert block.behind(mount("254:0")) is None
    assert block.behind(mount("254:64", root="/part")) is None
    assert block.behind(mount("0:55", what="tmpfs (guest)")) is None
    assert block.numbers("") == ["254:64"]


def test_a_disk_that_was_doomed_is_dead_where_it_is_still_mounted(machine):
    machine.disk().doom()

    assert machine.block().behind(mount("254:64")) == ("/dev/vde", True)
    assert machine.block().lingers(spared=True, gone=False)


def test_a_mount_whose_disk_went_from_under_it_is_dead(machine):
    machine.pull("vde")

    assert machine.block().behind(mount("254:64")) == ("", True)
    assert machine.block().behind(mount("254:64", what="xfs (/dev/sdb)")) is None
    assert machine.block().numbers("") == []


def test_a_disk_that_should_be_gone_lingers_while_it_is_there(machine):
    assert machine.block().lingers(spared=False, gone=True)
    machine.pull("vde")
    assert not machine.block().lingers(spared=False, gone=True)


def test_a_disk_that_is_not_there_holds_no_one_back(tmp_path):
    block = blockdisk.Block(str(tmp_path / "nothing"), tmp_path)

    assert (block.in_use(), block.numbers("")) == ("", [])
    assert not block.lingers(spared=False, gone=False)
    with pytest.raises(DisturbanceError, match="is no block device, or not there"), block.fresh():
        pass
