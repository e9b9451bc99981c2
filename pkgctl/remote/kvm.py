# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host's processor runs guests, found out by running one."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator

from pkgctl.errors import TestbedError
from pkgctl.remote import virsh

# A guest that cannot run is paused by then; one that can has begun to look for a disk.
_TRIAL_SECONDS = 1.0
_STEP_SECONDS = 0.1
_TRIAL = """\
<domain type="kvm"><name>{name}</name><memory unit="MiB">32</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><features><acpi/></features><cpu mode="host-passthrough"/>
<devices><controller type="usb" model="none"/><memballoon model="none"/></devices></domain>
"""


def trial(uri: str, name: str) -> str:
    """Return nothing if a guest runs by KVM, else why not, in a few words.

    A file /dev/kvm proves nothing: in a machine that is one itself, guests may stop at once.

    Args:
        uri: the host's address.
        name: how the guest is called meanwhile.

    Raises:
        TestbedError: if the host does not answer.
    """
    virsh.call(uri, "version")
    with contextlib.suppress(TestbedError):
        virsh.call(uri, "destroy", name)  # of a trial that was killed
    try:
        with tempfile.NamedTemporaryFile("w", prefix="pkgctl-trial-", suffix=".xml") as file:
            file.write(_TRIAL.format(name=name))
            file.flush()
            virsh.call(uri, "create", file.name)
    except TestbedError as error:
        return str(error).removeprefix(f"{uri}: ")
    try:
        return next((state for state in _states(uri, name) if state != "running"), "")
    finally:
        with contextlib.suppress(TestbedError):
            virsh.call(uri, "destroy", name)


def _states(uri: str, name: str) -> Iterator[str]:
    deadline = time.monotonic() + _TRIAL_SECONDS
    while time.monotonic() < deadline:
        yield virsh.state(uri, name) or "the guest ended"
        time.sleep(_STEP_SECONDS)
