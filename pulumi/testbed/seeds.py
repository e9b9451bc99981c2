# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual machine is told at its first boot: the three documents of cloud-init's NoCloud."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from testbed.machines import INTERFACE, Machine

VOLUME = "cidata"
MANAGEMENT = "mgmt"
_DATA_SIZE = 16
_DATA_SIZE6 = 64


def content(machine: Machine, keys: Sequence[str], *, mtu: int | None = None) -> dict[str, Any]:
    """Return what a machine is told, but for its host key, which nobody but the seed may hold.

    Args:
        machine: the machine.
        keys: the public keys that open it.
        mtu: of its data card, where packets travel inside others.
    """
    return {
        "hostname": machine.node.name,
        "keys": list(keys),
        "network": {"version": 2, "ethernets": _cards(machine, mtu)},
    }


def _cards(machine: Machine, mtu: int | None) -> dict[str, Any]:
    known = machine.identity
    seconds = [f"{known.address6}/{_DATA_SIZE6}"] if known.address6 else []
    data = _card(machine.data_mac, INTERFACE, [f"{known.address}/{_DATA_SIZE}", *seconds])
    return {
        MANAGEMENT: _card(machine.mac, MANAGEMENT, [machine.management]),
        INTERFACE: {**data, **({"mtu": mtu} if mtu else {})},
    }


def _card(mac: str, name: str, addresses: list[str]) -> dict[str, Any]:
    return {
        "match": {"macaddress": mac},
        "set-name": name,
        "addresses": addresses,
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
    }


def documents(
    content: Mapping[str, Any], private: str, public: str, *, testbed: str
) -> dict[str, str]:
    """Return the seed's files by name.

    Args:
        content: what ``content`` returned.
        private: the host key.
        public: its public part.
        testbed: whose machine it is.
    """
    node = content["hostname"]
    user = {
        "hostname": node,
        "ssh_keys": {"ed25519_private": private, "ed25519_public": public},
        "ssh_authorized_keys": content["keys"],
        "disable_root": False,
        "ssh_deletekeys": True,
    }
    said = json.dumps([content, public], sort_keys=True).encode()
    instance = f"{testbed}-{node}-{hashlib.sha256(said).hexdigest()[:12]}"
    return {
        "user-data": "#cloud-config\n" + json.dumps(user),
        "meta-data": json.dumps({"instance-id": instance, "local-hostname": node}),
        "network-config": json.dumps(content["network"]),
    }
