# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a testbed of two virtual machines."""

from __future__ import annotations

from typing import Any

QUALITY = {"rate": 20_000_000, "delay": 0.012, "jitter": 0.0, "loss": 0.0}
UNSHAPED = {"rate": None, "delay": 0.0, "jitter": 0.0, "loss": 0.0}


def record(testbed: str = "lab") -> dict[str, Any]:
    """Return a record, to be changed at will."""
    return {
        "format": 1,
        "testbed": testbed,
        "provider": "libvirt",
        "topology": {"name": "duo"},
        "registry": "cloud-1",
        "nodes": {
            "cloud-1": machine("cloud-1", 2, "cloud", {}, testbed),
            "edge-1": machine(
                "edge-1",
                1,
                "edge-a",
                {
                    "data": {"size": 1 << 26, "mount": "/data"},
                    "cache": {"size": 1 << 25, "mount": "/cache"},
                },
                testbed,
            ),
        },
        "links": {
            "cloud-1": {"edge-1": dict(QUALITY)},
            "edge-1": {"cloud-1": dict(UNSHAPED)},
        },
        "access": {
            "user": "root",
            "port": 22,
            "key": "/state/lab/id_ed25519",
            "known_hosts": "/state/lab/known_hosts",
        },
        "hypervisors": {"here": {"uri": "qemu:///system", "type": "qemu"}},
    }


def machine(
    name: str, number: int, site: str, disks: dict[str, Any], testbed: str
) -> dict[str, Any]:
    """Return what a record says of one node."""
    return {
        "site": site,
        "kind": "tiny",
        "role": "edge",
        "labels": {"rack": "3"},
        "address": f"10.77.0.{number}",
        "address6": f"fd77:7067::{number}",
        "interface": "data",
        "cpu": 1.0,
        "memory": 1 << 28,
        "pids": 256,
        "access_up": 10_000_000,
        "access_down": 40_000_000,
        "disks": disks,
        "cgroup": "pkgctl.slice",
        "directory": "/run/pkgctl",
        "host": f"192.168.177.1{number}",
        "domain": f"pkgctl.{testbed}.{name}",
        "uri": "qemu:///system",
        "hypervisor": "here",
        "console": f"/var/log/{name}.log",
    }
