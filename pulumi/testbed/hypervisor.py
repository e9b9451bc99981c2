# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt host of the testbed: what it can run."""

from __future__ import annotations

from urllib.parse import urlsplit

import pulumi
from pulumi.dynamic import CreateResult

from pkgctl.remote import kvm, names
from testbed.provider import Props, Provider, say, warn

KVM, QEMU = "kvm", "qemu"


class HypervisorProvider(Provider):
    """Tries what the host can run, once."""

    replaced = ("uri", "testbed")

    def create(self, props: Props) -> CreateResult:
        """Find out how the host runs guests."""
        uri = props["uri"]
        reason = kvm.trial(uri, names.domain(props["testbed"], "trial.kvm"))
        if reason:
            warn(f"host {props['name']}: KVM cannot run guests: emulated, slower")
            pulumi.log.debug(reason)
        else:
            say(f"host {props['name']}: KVM runs guests")
        return CreateResult(uri, {**props, "type": QEMU if reason else KVM})


class Hypervisor(pulumi.dynamic.Resource, module="testbed", name="Hypervisor"):
    """A libvirt host; ``type`` is the kind of its guests, kvm or qemu."""

    uri: pulumi.Output[str]
    type: pulumi.Output[str]

    def __init__(
        self, name: str, uri: str, testbed: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare the host.

        Args:
            name: the host's.
            uri: where its libvirt answers.
            testbed: whose machines it runs.
            opts: the resource's.
        """
        props = {"name": name, "uri": uri, "testbed": testbed, "type": None}
        super().__init__(HypervisorProvider(), name, props, opts)


def is_here(uri: str) -> bool:
    """Return whether a host is this machine."""
    parts = urlsplit(uri)
    return not parts.hostname and parts.scheme in ("qemu", "qemu+unix")
