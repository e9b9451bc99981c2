# SPDX-License-Identifier: GPL-3.0-or-later
"""What the image is made of: packages, our files, and what of Debian is left out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pkgctl.errors import SpecError

FORMAT = 1  # of what the builder does beyond the recipe: a new number is a new image
SUITE, ARCHITECTURE = "bookworm", "amd64"
# Kernel and init first; then what nodes, jobs and disturbances call.
PACKAGES = (
    "linux-image-cloud-amd64",
    # The kernel wants some maker of initial archives. Ours is made from outside.
    "tiny-initramfs",
    "busybox-static",
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "openssh-server",
    "python3",
    "iproute2",
    "nftables",
    "e2fsprogs",
    "iputils-ping",
    "iperf3",
    "stress-ng",
    "kmod",
    "procps",
    "util-linux",
)
CMDLINE = ("root=LABEL=pkgctl-root", "rw", "console=ttyS0", "net.ifnames=0", "audit=0")
LABEL = "pkgctl-root"
SIZE = "2G"

# Each takes an emulated processor between a tenth of a second and two at every start, or wakes
# it at times of its own, which an experiment would see.
UNITS_OFF = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    # Logins of people, and passwords asked for at the console.
    "getty@.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-logind.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-user-sessions.service",
    # Disks that are encrypted, grown by tables of partitions, or checked: the root is one file
    # system with a journal.
    "cryptsetup.target",
    "integritysetup.target",
    "systemd-fsck-root.service",
    "systemd-remount-fs.service",
    "systemd-repart.service",
    "veritysetup.target",
    "remote-fs.target",
    # The rest of a first boot, of hardware, and of views into the kernel.
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-initctl.socket",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-machine-id-commit.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-setup-dev.service",
)
UNITS_ON = ("pkgctl-seed.service", "pkgctl-power.service", "serial-getty@ttyS0.service")
# Programs that run at every start and at every reload; only what reads fstab is left.
GENERATORS = (
    "cryptsetup",
    "debug",
    "getty",
    "gpt-auto",
    "hibernate-resume",
    "integritysetup",
    "rc-local",
    "run",
    "system-update",
    "sysv",
    "veritysetup",
)
TMPFILES_OFF = (
    "home",
    "journal-nocow",
    "legacy",
    "provision",
    "systemd-network",
    "systemd-nologin",
    "systemd-pstore",
    "x11",
)
# Rules of udev: the names of disks, drivers of what is plugged in later, and systemd's own.
RULES_ON = (
    "50-udev-default.rules",
    "60-block.rules",
    "60-persistent-storage.rules",
    "80-drivers.rules",
    "99-systemd.rules",
)
# What the packages leave and no guest may share or needs: keys, logs, links to the kernel.
REMOVED = (
    "boot",
    "etc/modules-load.d/modules.conf",
    "etc/systemd/system/getty.target.wants",
    "etc/systemd/system/sysinit.target.wants",
    "etc/systemd/system/timers.target.wants",
    "initrd.img",
    "initrd.img.old",
    "usr/lib/systemd/system/multi-user.target.wants/dbus.service",
    "vmlinuz",
    "vmlinuz.old",
    "var/log/journal",
)
UNREAD = ("doc", "info", "locale", "man")  # folders of usr/share that no program reads

_FILES = Path(__file__).parent / "files"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True)
class Recipe:
    """All that decides what an image is.

    Attributes:
        packages: what is installed, with all that it depends on.
        files: our files by their path in the image.
        init: the first program, which mounts the root.
    """

    packages: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=False)
    init: bytes = field(repr=False)

    def fingerprint(self) -> str:
        """Return the first 16 digits of the SHA-256 of all that the image is made from."""
        lists = (UNITS_OFF, UNITS_ON, GENERATORS, TMPFILES_OFF, RULES_ON, REMOVED, UNREAD)
        content = [
            (FORMAT, SUITE, ARCHITECTURE, SIZE, LABEL, *CMDLINE),
            lists,
            sorted(self.packages),
            sorted((path, _digest(content)) for path, content in self.files.items()),
            _digest(self.init),
        ]
        return _digest(json.dumps(content).encode())[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(extra: Sequence[str] = ()) -> Recipe:
    """Return the recipe of today's image.

    Args:
        extra: more Debian packages.

    Raises:
        SpecError: if one of them cannot be a package's name.
    """
    for name in extra:
        if not _PACKAGE.fullmatch(name):
            raise SpecError(f"{name!r} is no name of a Debian package", key="--package")
    root = _FILES / "root"
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    seed = Path(__file__).with_name("seed.py").read_bytes()
    files["usr/local/lib/pkgctl-seed/seed.py"] = seed
    return Recipe(tuple(dict.fromkeys([*PACKAGES, *extra])), files, (_FILES / "init").read_bytes())


def install(recipe: Recipe, tree: Path, mirror: str | None = None) -> list[str]:
    """Return the command that installs the packages in a folder.

    Args:
        recipe: what to install.
        tree: the folder, which must not be there yet.
        mirror: where Debian is taken from, instead of where the tool takes it.
    """
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        f"--architectures={ARCHITECTURE}",
        f"--include={','.join(recipe.packages)}",
        '--aptopt=Apt::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD),
        SUITE,
        str(tree),
        *([mirror] if mirror else []),
    ]
