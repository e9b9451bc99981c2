# SPDX-License-Identifier: GPL-3.0-or-later
"""One data network over several hosts: on each a bridge and a VXLAN device to all others."""

from __future__ import annotations

import hashlib
import ipaddress
import subprocess
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, UpdateResult

from pkgctl.errors import MissingCapability, TestbedError
from pkgctl.remote import ssh
from testbed.hypervisor import is_here
from testbed.provider import Props, Provider

PORT = 4789
# Of 1500 bytes what a packet that carries another leaves to it.
_INSIDE = {4: 1450, 6: 1430}
_PATIENCE = 60.0
_CREATE = """\
set -e
ip link show {bridge} >/dev/null 2>&1 || ip link add {bridge} type bridge stp_state 0
if ip link show {device} >/dev/null 2>&1; then ip link del {device}; fi
ip link add {device} type vxlan id {number} local {local} dstport {port}
ip link set {device} mtu {mtu} master {bridge} up
ip link set {bridge} mtu {mtu} up
for peer in {peers}; do bridge fdb append 00:00:00:00:00:00 dev {device} dst $peer; done
"""
_DELETE = """\
for device in {device} {bridge}; do
    if ip link show $device >/dev/null 2>&1; then ip link del $device || exit; fi
done
"""


class OverlayProvider(Provider):
    """Makes a host's end of the network, by SSH or here; removes it at the end."""

    compared = ("local", "peers", "mtu")
    replaced = ("uri", "bridge", "device", "number")

    def create(self, props: Props) -> CreateResult:
        """Make the bridge and the device."""
        _run(props, _CREATE)
        return CreateResult(f"{props['host']}/{props['bridge']}", dict(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Make the device anew; the bridge and who is on it stay."""
        _run(_news, _CREATE)
        return UpdateResult(dict(_news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Return the end, or nothing if the host has lost it, as it does when it starts anew."""
        try:
            _run(props, "exec ip link show {device}")
        except TestbedError:
            return ReadResult("", {})
        return ReadResult(id_, dict(props))

    def delete(self, _id: str, _props: Props) -> None:
        """Remove both."""
        _run(_props, _DELETE)


class Overlay(pulumi.dynamic.Resource, module="testbed", name="Overlay"):
    """A host's end of the data network; ``bridge`` is what machines are on."""

    bridge: pulumi.Output[str]

    def __init__(
        self,
        host: str,
        uri: str,
        testbed: str,
        addresses: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare it.

        Args:
            host: the host's name.
            uri: where its libvirt answers, and it itself by SSH.
            testbed: whose network it is.
            addresses: the host's own address, and then those of the others.
            opts: the resource's.
        """
        props = {"host": host, "uri": uri, **plan(testbed, addresses)}
        super().__init__(OverlayProvider(), host, props, opts)


def plan(testbed: str, addresses: Sequence[str]) -> dict[str, Any]:
    """Return what a host's end is.

    Args:
        testbed: whose network it is; its name makes the others.
        addresses: the host's own address, and then those of the others.
    """
    digest = hashlib.sha256(testbed.encode()).hexdigest()
    return {
        "bridge": f"pkgctl-{digest[:8]}",
        "device": f"pkx-{digest[:8]}",
        "number": 1 + int(digest[:6], 16) % (2**24 - 1),
        "local": addresses[0],
        "peers": sorted(addresses[1:]),
        "mtu": mtu(addresses),
    }


def mtu(addresses: Sequence[str]) -> int:
    """Return how large the packets of nodes may be, between hosts with these addresses."""
    return min(_INSIDE[ipaddress.ip_address(address).version] for address in addresses)


def script(props: Props, text: str) -> str:
    """Return the commands for a host's shell; all that goes in was checked before."""
    # Pulumi's numbers are floats, which ip does not take.
    numbers = {"number": int(props["number"]), "mtu": int(props["mtu"]), "port": PORT}
    return text.format(**{**props, **numbers, "peers": " ".join(props["peers"])})


def command(uri: str) -> list[str]:
    """Return what runs a script of standard input on a host, as its own user of libvirt."""
    if is_here(uri):
        return ["sh", "-s"]
    parts = urlsplit(uri)
    if not ssh.jump(uri):
        raise TestbedError(f"{uri} names no machine for SSH: write qemu+ssh://root@host/system")
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    return ["ssh", *options, f"ssh://{user}{parts.hostname}{port}", "sh -s"]


def _run(props: Props, text: str) -> None:
    host = props["host"]
    try:
        done = subprocess.run(
            command(props["uri"]),
            input=script(props, text),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingCapability("ssh is missing: apt-get install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"host {host} did not answer within {_PATIENCE:g} s") from error
    if done.returncode:
        raise TestbedError(f"host {host}: overlay: {ssh.last_words(done.stderr)}")
