# SPDX-License-Identifier: GPL-3.0-or-later
"""What `pkgctl up --provider libvirt` was asked for, as the program's settings."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pkgctl.errors import SpecError, nearest
from pkgctl.remote import ssh
from pkgctl.remote.needs import DEFAULT_URI

HERE = "here"
KEYS = ("name", "address", "cpu", "memory", "network", "folder")
# Settings that are meant for one change and not for the next.
_ONCE = ("replace_disks",)
Host = dict[str, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """A testbed of virtual machines as it is asked for; what is empty is as it was before.

    Attributes:
        topology: the whole path of its file.
        hosts: the libvirt hosts: name, uri, and what else is said of them.
        image: what the nodes' disks begin as: a fingerprint, or a path.
        network: the management network.
        ssh_key: the path of a public key that opens the nodes too.
        others: further settings of the program, as texts.
    """

    topology: str
    hosts: Sequence[Host] = ()
    image: str = ""
    network: str = ""
    ssh_key: str = ""
    others: Mapping[str, str] = field(default_factory=dict)

    def settings(self, testbed: str, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the program's settings.

        Args:
            testbed: its name.
            before: the settings that the testbed has; empty if it is new.
        """
        given = {
            "hosts": [dict(host) for host in self.hosts],
            "image": whole_path(self.image),
            "network": self.network,
            "ssh_key": whole_path(self.ssh_key),
            **self.others,
        }
        return {
            "hosts": [_host(DEFAULT_URI)],
            **{key: value for key, value in before.items() if key not in _ONCE},
            "provider": "libvirt",
            "testbed": testbed,
            "topology": self.topology,
            **{key: value for key, value in given.items() if value},
        }


def whole_path(text: str) -> str:
    """Return a path of a file as it is seen from everywhere; what is no file stays as it is."""
    path = Path(text).expanduser()
    return str(path.absolute()) if text and path.is_file() else text


def uris(settings: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the hosts that settings name."""
    return [str(host["uri"]) for host in settings["hosts"]]


def hosts(texts: Sequence[str]) -> list[Host]:
    """Return the hosts that ``--host`` names.

    Raises:
        SpecError: if one is not such as ``qemu+ssh://root@two/system,name=two``.
    """
    found = [_host(text) for text in texts]
    for index, host in enumerate(found):
        for key in ("name", "uri"):
            if host[key] in (each[key] for each in found[:index]):
                raise SpecError(f"--host: the {key} {host[key]} is given twice")
    if len(found) < 2:
        return found
    return [{**host, "address": host.get("address") or _address(host)} for host in found]


def _host(text: str) -> Host:
    uri, *rest = text.split(",")
    if not urlsplit(uri).scheme.startswith("qemu"):
        raise SpecError(
            f"--host {text!r} is no libvirt host; write such as {DEFAULT_URI} or"
            " qemu+ssh://root@host/system"
        )
    if wrong := ssh.nameless(uri):
        raise SpecError(f"--host {wrong}")
    host = {"name": _name(uri), "uri": uri}
    for part in rest:
        key, equals, value = part.partition("=")
        if key not in KEYS or not equals or not value:
            known = nearest(key, KEYS)
            raise SpecError(f"--host: {part!r} is no key=value after the address; {known}")
        host[key] = value
    return host


def _name(uri: str) -> str:
    """Return how a host is called unless somebody says it: by the first part of its own name."""
    name = urlsplit(uri).hostname or HERE
    if name.replace(".", "").isdigit() or ":" in name:
        return "host-" + name.replace(".", "-").replace(":", "-")
    return name.partition(".")[0].lower().replace("_", "-")


def _address(host: Host) -> str:
    """Return where the other hosts reach one.

    Raises:
        SpecError: if that does not follow from its URI.
    """
    name = urlsplit(host["uri"]).hostname
    if name is None:
        raise SpecError(
            f"--host {host['uri']}: say where the other hosts reach it:"
            f" {host['uri']},address=ADDRESS"
        )
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SpecError(f"--host {host['uri']}: {name} has no address: {error}") from error
