# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests with virtual machines or Kubernetes need, by name, and what this machine lacks."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from tests.kubernetes import assets

# Set to anything, it makes what is missing a failure.
INSIST = "PKGCTL_TESTS_INSIST"
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"
PULUMI = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_PLUGIN = PULUMI / "plugins" / "resource-libvirt-v0.5.4"
_PROGRAMS = {
    "qemu": {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils"},
    "libvirt": {
        "libvirtd": "libvirt-daemon-system",
        "virsh": "libvirt-clients",
        "xsltproc": "xsltproc",
    },
    "image": {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"},
    "ssh": {"ssh": "openssh-client", "iperf3": "iperf3"},
    "ssh-server": {"sshd": "openssh-server"},
}


@cache
def lacking(*needs: str) -> str:
    """Return what this machine lacks of some needs, for people; nothing if it has all.

    Args:
        needs: some of qemu, libvirt, image, ssh, ssh-server, pulumi; each also needs root.
    """
    missing = [] if os.geteuid() == 0 else ["root"]
    for need in needs:
        missing += _pulumi() if need == "pulumi" else _programs(_PROGRAMS[need])
    return f"needs {', '.join(missing)}" if missing else ""


@cache
def lacking_kubernetes(*needs: str) -> str:
    """Return what this machine lacks of a Kubernetes, for people; nothing if it has all.

    What takes minutes to build is built where a machine is asked for everything, and only there.

    Args:
        needs: some of control-plane, kwok, node.
    """
    missing = assets.lacking(*needs)
    if not missing and not assets.ready() and not (os.environ.get(INSIST) or os.environ.get("CI")):
        missing = ["the programs of Kubernetes, which ./run test kubernetes builds once"]
    return f"needs {', '.join(missing)}" if missing else ""


def path() -> str:
    """Return the search path of programs, with the usual places that a user's may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), _SYSTEM, str(PULUMI / "bin")])


def _programs(packages: dict[str, str]) -> list[str]:
    return [
        f"{program} (Debian package {package})"
        for program, package in packages.items()
        if shutil.which(program, path=path()) is None
    ]


def _pulumi() -> list[str]:
    missing = []
    if shutil.which("pulumi", path=path()) is None:
        missing.append("the pulumi command (https://www.pulumi.com/docs/install/)")
    if not _PLUGIN.is_dir():
        missing.append("its plugin (pulumi plugin install resource libvirt 0.5.4)")
    return missing
