# SPDX-License-Identifier: GPL-3.0-or-later
"""Three servers of the stand-in for K3s are one cluster, which one of them may leave."""

from __future__ import annotations

import json
import uuid

import pytest

from pkgctl.local import paths, removal
from tests.waiting import soon

from . import places
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]
SERVERS = {"cloud-1": "10.77.0.1", "edge-1": "10.77.0.2", "edge-2": "10.77.0.3"}
FIRST, SECOND, _ = SERVERS
DATA, K3S = "/run/pkgctl/disks/k3s", "/usr/local/bin/k3s"
LOCAL = {"disable-agent": True, "data-dir": DATA, "token": "shared"}
CONFIG = "umask 077; mkdir -p /etc/rancher/k3s; cat > /etc/rancher/k3s/config.yaml"


def test_two_of_three_servers_go_on_without_the_third(tmp_path):
    release = pack.cached()
    place = paths.paths(f"t{uuid.uuid4().hex[:10]}")
    services = {}
    try:
        places.up(place, tmp_path, tuple(SERVERS))
        for name, address in SERVERS.items():
            places.on(place, name, "ln", "-s", str(release / "k3s"), K3S)
            own = {"node-name": name, "node-ip": address}
            first = {"cluster-init": True}
            joins = first if name == FIRST else {"server": f"https://{SERVERS[FIRST]}:6443"}
            given = json.dumps({**LOCAL, **own, **joins})
            places.on(place, name, "sh", "-c", CONFIG, given=given)
            services[name] = places.Service(place, name, tmp_path / f"{name}.log", [K3S, "server"])
            services[name].wait_for("NOTIFIED READY=1")
        places.kubectl(place, FIRST, "create", "namespace", "kept")
        assert "kept" in places.kubectl(place, SECOND, "get", "namespaces", "-o", "name")

        services[FIRST].stop()

        assert soon(lambda: _make_namespace(place, SECOND, "after"))
        assert "kept" in places.kubectl(place, "edge-2", "get", "namespaces", "-o", "name")

        services[FIRST] = places.Service(place, FIRST, tmp_path / "again.log", [K3S, "server"])
        services[FIRST].wait_for("NOTIFIED READY=1")
        assert "after" in places.kubectl(place, FIRST, "get", "namespaces", "-o", "name")
    finally:
        removal.down(place)
        for service in services.values():
            service.over()


def test_a_server_without_cluster_init_lets_no_other_join(tmp_path):
    release = pack.cached()
    place = paths.paths(f"t{uuid.uuid4().hex[:10]}")
    services = []
    try:
        places.up(place, tmp_path)
        for name, more in ((FIRST, {}), (SECOND, {"server": f"https://{SERVERS[FIRST]}:6443"})):
            places.on(place, name, "ln", "-s", str(release / "k3s"), K3S)
            given = json.dumps({**LOCAL, "node-ip": SERVERS[name], **more})
            places.on(place, name, "sh", "-c", CONFIG, given=given)
        services.append(places.Service(place, FIRST, tmp_path / "first.log", [K3S, "server"]))
        services[0].wait_for("NOTIFIED READY=1")

        done = places.attempt(place, SECOND, K3S, "server")

        assert done.returncode == 1
        assert "no cluster-init" in done.stderr
    finally:
        removal.down(place)
        for service in services:
            service.over()


def _make_namespace(place, node, name):
    done = places.attempt(place, node, K3S, "kubectl", "create", "namespace", name)
    return done.returncode == 0
