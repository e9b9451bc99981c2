# SPDX-License-Identifier: GPL-3.0-or-later
"""What a testbed of virtual machines takes of this machine, looked at before anything is made.

`pkgctl up`, `pkgctl doctor` and the Pulumi program by itself ask the same questions.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pkgctl.errors import MissingCapability, PkgctlError
from pkgctl.remote import virsh

PLUGIN_VERSION = "0.5.4"
PULUMI_PAGE = "https://www.pulumi.com/docs/install/"
DEFAULT_URI = "qemu:///system"
_SYSTEM = ("/usr/sbin", "/sbin")
_HOST_SECONDS = 15.0
_PACKAGES = {
    "virsh": virsh.PACKAGE,
    "xsltproc": "xsltproc",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_USES = {
    "virsh": "asks libvirt",
    "xsltproc": "writes what the plugin cannot say of a domain",
    "ssh": "reaches the nodes",
    "ssh-keygen": "makes the testbed's keys",
}
# What the program imports: module, and the package that has it.
_LIBRARIES = {
    "pulumi": "pulumi",
    "pulumi_libvirt": f"pulumi-libvirt=={PLUGIN_VERSION}",
    "pycdlib": "pycdlib",
}


@dataclass(frozen=True, slots=True)
class Need:
    """Something that is missing.

    Attributes:
        name: what it is.
        detail: what it would do, or what was found in its place.
        remedy: the official way to get it.
    """

    name: str
    detail: str
    remedy: str

    def show(self) -> str:
        """Return it as a part of a sentence."""
        return f"{self.name} ({self.detail}): {self.remedy}"


def check(hosts: Sequence[str] = (DEFAULT_URI,), image: str | None = "") -> None:
    """Refuse to begin where something is missing.

    Args:
        hosts: the libvirt hosts' addresses.
        image: what the nodes' disks begin as; None does not look for it.

    Raises:
        MissingCapability: naming all that is missing and how to get it, in one line.
    """
    if absent := lacking(hosts, image):
        raise MissingCapability(f"missing: {'; '.join(each.show() for each in absent)}")


def lacking(hosts: Sequence[str] = (DEFAULT_URI,), image: str | None = "") -> list[Need]:
    """Return what is missing for a testbed on some hosts."""
    found = [*_command(), *plugin(), *libraries(), *tools()]
    if image is not None:
        found += images(image)
    if which("virsh"):
        found += [need for uri in dict.fromkeys(hosts) for need in host(uri)]
    return found


def which(name: str) -> str | None:
    """Return where a program is: on the PATH, where the system's own are, or where Pulumi's is."""
    places = [os.environ.get("PATH", os.defpath), str(pulumi_home() / "bin"), *_SYSTEM]
    return shutil.which(name, path=os.pathsep.join(places))


def pulumi_home() -> Path:
    """Return the folder in which Pulumi keeps its plugins."""
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")


def _command() -> Iterator[Need]:
    if which("pulumi") is None:
        yield Need("pulumi", "declares the testbed", f"see {PULUMI_PAGE}")


def plugin_path() -> Path | None:
    """Return where Pulumi's plugin for libvirt is, in the program's version of it."""
    name = "pulumi-resource-libvirt"
    own = pulumi_home() / "plugins" / f"resource-libvirt-v{PLUGIN_VERSION}" / name
    if own.is_file():
        return own
    # A plugin on the PATH goes before all others, whatever its version.
    beside = shutil.which(name)
    return Path(beside) if beside else None


def plugin() -> Iterator[Need]:
    """Yield the plugin, if it is missing."""
    if plugin_path() is None:
        yield Need(
            f"the libvirt plugin {PLUGIN_VERSION} of pulumi",
            "talks to libvirt",
            f"pulumi plugin install resource libvirt {PLUGIN_VERSION}",
        )


def libraries() -> Iterator[Need]:
    """Yield the Python packages that are missing."""
    for module, package in _LIBRARIES.items():
        if not _is_installed(module):
            yield Need(f"Python's {module}", "the program imports it", f"pip install {package}")


def _is_installed(module: str) -> bool:
    found = importlib.util.find_spec(module)
    # A folder of that name without code, such as the one of the program, is no package.
    return found is not None and found.origin is not None


def tools() -> Iterator[Need]:
    """Yield the programs that are missing, those of Pulumi aside."""
    for name, package in _PACKAGES.items():
        if which(name) is None:
            yield Need(name, _USES[name], f"apt-get install {package}")


def host(uri: str) -> Iterator[Need]:
    """Yield a libvirt host, if it cannot be reached."""
    try:
        virsh.call(uri, "uri", timeout=_HOST_SECONDS)
    except PkgctlError as error:
        reason = str(error).removeprefix(f"{uri}: ")
        yield Need(f"the libvirt host {uri}", reason, _host_remedy(uri))


def _host_remedy(uri: str) -> str:
    if "+" in uri.partition(":")[0]:
        return f"try it with: virsh -c {uri} uri"
    return (
        "apt-get install libvirt-daemon-system qemu-system-x86 qemu-utils, then systemctl start"
        " libvirtd (without systemd: virtlogd -d; libvirtd -d), as a member of the group libvirt"
    )


def images(spec: str) -> Iterator[Need]:
    """Yield the image, if it is not there."""
    from pkgctl import image

    try:
        image.find(spec)
    except MissingCapability as error:
        yield Need("an image for the nodes", str(error), "pkgctl image build")


def version(command: str) -> str:
    """Return the version that a Pulumi command tells, in its own words."""
    done = subprocess.run(
        [command, "version"],
        env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip().removeprefix("v") or "of unknown version"
