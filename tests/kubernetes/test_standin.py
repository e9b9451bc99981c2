# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in for K3s keeps K3s's contract: a server and an agent on two local nodes."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pkgctl.local import paths, removal
from tests import controlgroups
from tests.local.conftest import processes_with
from tests.waiting import soon

from . import images, places
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]
SERVER, AGENT = "cloud-1", "edge-1"
ADDRESSES = {SERVER: "10.77.0.1", AGENT: "10.77.0.2"}
DATA = "/run/pkgctl/disks/k3s"
K3S = "/usr/local/bin/k3s"
LATER = "v1.34.4+k3s2"
TOKEN, AGENT_TOKEN = f"server{uuid.uuid4().hex}", f"agent{uuid.uuid4().hex}"


@dataclass
class Cluster:
    """Two nodes, and what runs on them."""

    place: paths.Paths
    folder: Path
    services: dict[str, places.Service]

    def on(self, node: str, *command: str, given: str | None = None) -> str:
        return places.on(self.place, node, *command, given=given)

    def start(self, node: str) -> places.Service:
        word = "server" if node == SERVER else "agent"
        command = [K3S, word]
        service = places.Service(self.place, node, self.folder / f"{node}.log", command)
        self.services[node] = service
        return service

    def kubectl(self, *words: str, given: str | None = None) -> Any:
        return places.kubectl(self.place, SERVER, *words, given=given)

    def pods(self) -> dict[str, Any]:
        found = self.kubectl("get", "pods", "-o", "json")["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def node(self, name: str) -> Any:
        return self.kubectl("get", "node", name, "-o", "json")

    def wait_for(self, there: Any, what: str) -> Any:
        """Return what is there in the end; a command in it may fail until then."""
        found = soon(there)
        assert found, f"no {what}"
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("standin")
    release = pack.cached()
    pack.cached(LATER)  # now, for what appears below nodes that are up is not seen there
    here = paths.paths(f"t{uuid.uuid4().hex[:10]}")
    made = Cluster(here, folder, {})
    try:
        places.up(here, folder)
        for node in (SERVER, AGENT):
            made.on(node, "mkdir", "-p", f"{DATA}/agent/images", "/etc/rancher/k3s")
            archive = release / "k3s-airgap-images-amd64.tar"
            made.on(node, "cp", str(archive), f"{DATA}/agent/images/")
            made.on(node, "ln", "-s", str(release / "k3s"), K3S)
            _settle(made, node, _settings(here, node))
        for node in (SERVER, AGENT):
            made.start(node).wait_for("NOTIFIED READY=1")
        for node in (SERVER, AGENT):
            made.wait_for(lambda node=node: _is_ready(made, node), f"{node} Ready")
        made.kubectl("apply", "-f", "-", given=json.dumps(_pods()))
        made.wait_for(lambda: _both_run(made.pods()), "running pods")
        yield made
    finally:
        removal.down(here)
        for service in made.services.values():
            service.over()


def test_nodes_are_what_they_were_told_to_be(cluster):
    server, agent = cluster.node(SERVER), cluster.node(AGENT)

    assert server["status"]["nodeInfo"]["kubeletVersion"] == pack.VERSION
    assert server["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] == "true"
    assert agent["metadata"]["labels"]["pkgctl.dev/site"] == "edge"
    addresses = {each["type"]: each["address"] for each in agent["status"]["addresses"]}
    assert addresses["InternalIP"] == ADDRESSES[AGENT]


def test_it_says_that_it_is_no_k3s(cluster):
    first, *_ = cluster.on(SERVER, K3S, "--version").splitlines()

    assert first == f"k3s version {pack.VERSION} (standin)"


def test_pods_reach_one_another_across_nodes_and_are_reached_from_nodes(cluster):
    address = {name: pod["status"]["podIP"] for name, pod in cluster.pods().items()}

    for here, there in ((SERVER, AGENT), (AGENT, SERVER)):
        url = f"http://{address[there]}:8080"
        assert cluster.kubectl("exec", here, "--", "/busy", "fetch", url).strip() == there
    cluster.on(SERVER, "ping", "-c", "1", "-W", "5", address[AGENT])


def test_pods_live_below_the_control_group_of_their_node(cluster):
    uid = cluster.pods()[AGENT]["metadata"]["uid"]

    found = controlgroups.below(f"pkgctl/{cluster.place.name}/nodes/{AGENT}")
    assert [each for each in found if uid in each]


def test_secrets_are_in_no_readable_file_and_in_no_process_list(cluster):
    modes = cluster.on(
        SERVER,
        "stat",
        "-L",
        "-c",
        "%a %n",
        "/etc/rancher/k3s/k3s.yaml",
        "/etc/rancher/node/password",
        f"{DATA}/server/token",
        f"{DATA}/server/node-token",
        f"{DATA}/server/agent-token",
    )

    assert {line.split()[0] for line in modes.splitlines()} == {"600"}
    for token in (TOKEN, AGENT_TOKEN):
        assert processes_with(token) == []
        assert not [each for each in cluster.services.values() if token in each.said()]


def test_tokens_have_k3ss_form_and_agents_have_one_of_their_own(cluster):
    server = cluster.on(SERVER, "cat", f"{DATA}/server/token")
    agent = cluster.on(SERVER, "cat", f"{DATA}/server/agent-token")

    assert re.fullmatch(rf"K10[0-9a-f]{{64}}::server:{TOKEN}\n", server)
    assert re.fullmatch(rf"K10[0-9a-f]{{64}}::node:{AGENT_TOKEN}\n", agent)


@pytest.mark.parametrize("token", ["wrong", f"K10{'0' * 64}::node:{AGENT_TOKEN}"])
def test_a_wrong_token_and_a_wrong_server_are_refused(cluster, token):
    answer = _try_to_join(cluster, token, name="stranger")

    assert "Failed to join" in answer and "401" in answer
    assert "stranger" not in cluster.kubectl("get", "nodes", "-o", "name")


def test_a_node_of_a_known_name_is_refused_until_the_old_one_is_deleted(cluster):
    full = cluster.on(SERVER, "cat", f"{DATA}/server/agent-token").strip()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "again"}}

    cluster.kubectl("create", "-f", "-", given=json.dumps(node))
    assert "Failed" not in _try_to_join(cluster, full, name="again", password="one")
    refused = _try_to_join(cluster, full, name="again", password="two")
    cluster.kubectl("delete", "node", "again")

    def admitted():
        return "Failed" not in _try_to_join(cluster, full, name="again", password="two")

    assert "Node password rejected" in refused
    cluster.wait_for(admitted, "node of that name")


@pytest.mark.parametrize("node", [AGENT, SERVER])
def test_pods_go_on_while_it_is_stopped_and_started_again(cluster, node):
    before = _life_of(cluster.pods()[node])
    address = cluster.pods()[node]["status"]["podIP"]

    assert cluster.services[node].stop() == 0
    cluster.on(node, "ping", "-c", "1", "-W", "5", address)
    cluster.start(node).wait_for("k3s agent is up and running")

    cluster.wait_for(lambda: _is_ready(cluster, node), f"{node} Ready")
    assert _life_of(cluster.pods()[node]) == before
    other = AGENT if node == SERVER else SERVER
    cluster.kubectl("exec", other, "--", "/busy", "fetch", f"http://{address}:8080")


def test_manifests_are_applied_as_they_come(cluster):
    path = f"{DATA}/server/manifests/given.yaml"
    given = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: given}\n"
    cluster.on(SERVER, "sh", "-c", f"cat > {path}", given=given)

    def there():
        return "given" in cluster.kubectl("get", "configmaps", "-o", "name")

    cluster.wait_for(there, "the config map")


def test_a_setting_that_k3s_does_not_have_is_named(cluster):
    _settle(cluster, SERVER, {"nod-name": "x"}, path="/etc/other.yaml")

    done = places.attempt(cluster.place, SERVER, K3S, "server", "-c", "/etc/other.yaml")

    assert done.returncode == 1
    assert "unknown key nod-name" in done.stderr


def test_the_machine_keeps_its_own_settings(cluster):
    seen = {path: cluster.on(AGENT, "cat", f"/proc/sys/{path}") for path in places.TUNABLES}

    assert seen == {path: f"{value}\n" for path, value in places.TUNABLES.items()}
    mounted = cluster.on(AGENT, "cat", "/proc/self/mounts")
    assert all(f" /proc/sys/{path} " in mounted for path in places.TUNABLES)


def test_another_version_takes_over_and_pods_go_on(cluster):
    before = _life_of(cluster.pods()[AGENT])
    cluster.on(AGENT, "ln", "-sfn", str(pack.cached(LATER) / "k3s"), K3S)

    cluster.services[AGENT].stop()
    cluster.start(AGENT).wait_for("NOTIFIED READY=1")

    def version():
        return cluster.node(AGENT)["status"]["nodeInfo"]["kubeletVersion"] == LATER

    cluster.wait_for(version, "new version")
    assert _life_of(cluster.pods()[AGENT]) == before


def _settings(place: paths.Paths, node: str) -> dict[str, Any]:
    own = {
        "data-dir": DATA,
        "node-name": node,
        "node-ip": ADDRESSES[node],
        "flannel-iface": "eth0",
        "kubelet-arg": [f"cgroup-root=/pkgctl/{place.name}/nodes/{node}"],
    }
    if node == SERVER:
        return {**own, "token": TOKEN, "agent-token": AGENT_TOKEN, "tls-san": [ADDRESSES[SERVER]]}
    url = f"https://{ADDRESSES[SERVER]}:6443"
    return {**own, "token": AGENT_TOKEN, "server": url, "node-label": ["pkgctl.dev/site=edge"]}


def _settle(
    cluster: Cluster,
    node: str,
    settings: Mapping[str, Any],
    path: str = "/etc/rancher/k3s/config.yaml",
) -> None:
    write = f"umask 077; cat > {path}"
    cluster.on(node, "sh", "-c", write, given=json.dumps(settings))


def _pods() -> dict[str, Any]:
    container = {"name": "main", "image": images.BUSY, "command": ["/busy", "serve", "8080"]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    items = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": node},
            "spec": {**spec, "nodeName": node, "hostname": node},
        }
        for node in (SERVER, AGENT)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _both_run(pods: Mapping[str, Any]) -> bool:
    return [pod["status"].get("phase") for pod in pods.values()] == ["Running", "Running"]


def _is_ready(cluster: Cluster, node: str) -> bool:
    words = ["get", "node", node, "--ignore-not-found", "-o"]
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    done = places.attempt(cluster.place, SERVER, K3S, "kubectl", *words, path)
    return done.stdout == "True"


def _life_of(pod: Mapping[str, Any]) -> tuple[str, int]:
    status = pod["status"]["containerStatuses"][0]
    return status["containerID"], status["restartCount"]


_JOIN = """
import sys
sys.path.insert(0, "/usr/local/bin/k3s")
from k3sstandin.server import joined
url, token, name, password = sys.stdin.read().split()
try:
    client = joined(url, token, "node")
    client.ask("POST", "/v1-k3s/join", {"name": name, "ip": "10.77.0.9", "password": password})
except OSError as error:
    print(f"Failed to join: {getattr(error, 'status', '')}: {error}")
"""


def _try_to_join(cluster: Cluster, token: str, *, name: str, password: str = "mine") -> str:
    """Ask the server as an agent of that name would."""
    words = f"https://{ADDRESSES[SERVER]}:6443 {token} {name} {password}"
    return cluster.on(AGENT, "python3", "-c", _JOIN, given=words)
