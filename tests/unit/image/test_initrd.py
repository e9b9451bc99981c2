# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.errors import PkgctlError
from pkgctl.image import initrd

DEPENDENCIES = """\
kernel/fs/isofs/isofs.ko: kernel/drivers/cdrom/cdrom.ko
kernel/drivers/cdrom/cdrom.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/ring.ko
kernel/drivers/virtio/ring.ko:
kernel/drivers/net/virtio-net.ko: kernel/drivers/virtio/virtio.ko
"""


@pytest.fixture
def tree(tmp_path):
    shelf = tmp_path / "usr/lib/modules/6.1.0-9-cloud-amd64"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(b"BUSYBOX")
    lines = []
    for name in initrd.MODULES:
        (shelf / "kernel").mkdir(parents=True, exist_ok=True)
        (shelf / f"kernel/{name}.ko").write_bytes(name.upper().encode())
        lines.append(f"kernel/{name}.ko:")
    (shelf / "modules.dep").write_text("\n".join(lines))
    return tmp_path


def test_each_module_comes_after_what_it_needs_and_once():
    order = initrd.needed(DEPENDENCIES, ["virtio_blk", "virtio_net", "isofs"])

    assert [path.rpartition("/")[2] for path in order] == [
        "ring.ko",
        "virtio.ko",
        "virtio_blk.ko",
        "virtio-net.ko",
        "cdrom.ko",
        "isofs.ko",
    ]


def test_a_module_that_the_kernel_lacks_is_named():
    with pytest.raises(PkgctlError, match="no module sch_netem"):
        initrd.needed(DEPENDENCIES, ["sch_netem"])


def test_the_archive_holds_the_shell_the_first_program_and_the_order(tree):
    made = initrd.make(tree, b"INIT")

    order = "".join(f"{name}.ko\n" for name in initrd.MODULES).encode()
    assert all(each in made for each in (b"BUSYBOX", b"INIT", b"ISOFS", b"dev/console", order))


@pytest.mark.parametrize("kernels", [[], ["6.1.0-9", "6.1.0-10"]])
def test_an_image_has_one_kernel(tmp_path, kernels):
    for name in kernels:
        (tmp_path / "usr/lib/modules" / name).mkdir(parents=True)

    with pytest.raises(PkgctlError, match=r"one kernel is wanted"):
        initrd.kernel_version(tmp_path)
