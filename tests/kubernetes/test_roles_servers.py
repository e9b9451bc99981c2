# SPDX-License-Identifier: GPL-3.0-or-later
"""Three servers and an agent by the roles: one may go down, or be made anew, even the first."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.cluster.client import connect
from pkgctl.errors import ClusterError
from pkgctl.local import removal, testbed
from pkgctl.nodeside import channel
from pkgctl.nodeside import errors as node_errors
from tests.waiting import soon

from .roles import DATA, LEFT, Lab
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]

SERVERS, AGENT = ("cloud-1", "cloud-2", "cloud-3"), "edge-1"
FIRST = SERVERS[0]
# Two of three servers choose a leader, and write again, within seconds; a busy machine takes more.
SILENCE_SECONDS = 45.0
ETCD = f"{DATA}/server/tls/etcd"
MEMBERS = (
    f"curl -s -m 120 --cacert {ETCD}/server-ca.crt --cert {ETCD}/client.crt "
    f"--key {ETCD}/client.key -d '{{}}' https://127.0.0.1:2379/v3/cluster/member/list"
)
# Places of one's own: the data on another disk, to which a link leads.
OWN = "/run/pkgctl/disks/own"
OWN_WORDS = [
    *("-e", f"k3s_data_dir={OWN}/data", "-e", f"k3s_bin_dir={OWN}/k3s/bin"),
    *("-e", f"k3s_kubelet_dir={OWN}/kubelet"),
]
AFTER = "{apiVersion: v1, kind: Namespace, metadata: {name: after}}"
TOPOLOGY = """
name: servers
sites: {cloud: {access: lan}, edge: {access: lan}}
kinds:
  server: {cpu: 1, memory: 512Mi, labels: {k3s: server}, disks: {data: {size: 16Mi, mount: /data}}}
  agent: {cpu: 1, memory: 256Mi, disks: {data: {size: 16Mi, mount: /data}}}
nodes:
SERVERS
  - {name: edge-1, site: edge, kind: agent}
links: [{from: cloud, to: edge, unshaped: true, symmetric: true}]
"""


def up(lab: Lab, folder: Path, *servers: str) -> None:
    """Bring a testbed up with some servers and an agent."""
    rows = "\n".join(f"  - {{name: {each}, site: cloud, kind: server}}" for each in servers)
    path = folder / "servers.yaml"
    path.write_text(TOPOLOGY.replace("SERVERS", rows))
    testbed.up(topology.load(str(path)), lab.place)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("servers")
    made = Lab(f"servers-{os.getpid()}", folder)
    try:
        up(made, folder, *SERVERS)
        made.changed("install")
        made.kubectl("create", "namespace", "kept")
        yield made
    finally:
        removal.down(made.place)


def members(lab: Lab, server: str) -> list[str]:
    """Return whose the members of etcd are, as one says; K3s puts a hash behind names."""
    found = [each["name"] for each in json.loads(lab.on(server, MEMBERS))["members"]]
    return sorted(next((node for node in SERVERS if name.startswith(node)), name) for name in found)


def namespace_seen_by(lab: Lab, server: str, name: str) -> bool:
    """Return whether a server's own API knows a namespace."""
    words = ["k3s", "kubectl", "--kubeconfig=/etc/rancher/k3s/k3s.yaml", "get", "namespace", name]
    return lab.pkgctl("exec", server, "--", *words).returncode == 0


def test_all_are_ready_and_the_servers_are_one_etcd(lab: Lab):
    roles = {name: each["role"] for name, each in lab.nodes().items()}

    assert roles == {**dict.fromkeys(SERVERS, "server"), AGENT: "agent"}
    assert lab.ready() == {*SERVERS, AGENT}
    assert [members(lab, each) for each in SERVERS] == [list(SERVERS)] * 3
    answer = lab.on(AGENT, "curl -s -k -m 120 https://10.77.0.1:6443/version")
    assert json.loads(answer)


def test_a_second_run_changes_nothing(lab: Lab):
    assert lab.differences() == []


def test_the_api_answers_without_the_first_server(lab: Lab):
    lab.said("perturb", f"node={FIRST}", "health=crashed", "--name", "gone", "--lease", "none")
    try:
        assert soon(lambda: lab.attempt("apply", "-f", "-", given=AFTER).returncode == 0)
        assert "namespace/kept" in lab.kubectl("get", "namespaces", "-o", "name").split()
        assert set(lab.nodes()) == {*SERVERS, AGENT}
    finally:
        lab.said("heal", "gone")

    assert soon(lambda: namespace_seen_by(lab, FIRST, "after"))
    assert soon(lambda: lab.ready() == {*SERVERS, AGENT})
    assert lab.differences() == []


def test_the_first_server_made_anew_joins_the_others(lab: Lab):
    secrets = sorted((lab.place.run / "k3s").iterdir())
    uid = lab.kubectl("get", "node", FIRST, "-o", "jsonpath={.metadata.uid}")

    assert lab.said("cluster", "reset", "--node", FIRST) == f"changed: {FIRST}"
    assert lab.on(FIRST, "ls -d /etc/rancher 2>/dev/null || true") == ""
    assert sorted((lab.place.run / "k3s").iterdir()) == secrets
    assert soon(lambda: set(lab.nodes()) == {*SERVERS[1:], AGENT})

    assert FIRST in lab.changed("install")

    assert soon(lambda: lab.ready() == {*SERVERS, AGENT})
    assert lab.kubectl("get", "node", FIRST, "-o", "jsonpath={.metadata.uid}") != uid
    assert [members(lab, each) for each in SERVERS] == [list(SERVERS)] * 3
    assert namespace_seen_by(lab, FIRST, "kept")
    assert lab.on(FIRST, "ls /etc/rancher/k3s/config.yaml.d") == ""
    assert lab.differences() == []


def test_an_upgrade_takes_one_after_the_other_and_the_api_answers_all_the_while(lab: Lab):
    nodes = (*SERVERS, AGENT)
    lab.start_pods(*nodes)
    pods, started = lab.pods(), lab.started()
    kubeconfig = Path(lab.said("cluster", "kubeconfig", "--path"))

    with asking(lab, kubeconfig) as (answered, ready):
        assert lab.changed("upgrade", 1) == f"changed: {', '.join(nodes)}"

    assert {each["version"] for each in lab.nodes().values()} == {lab.releases.version(1)}
    assert all(lab.started()[node] != started[node] for node in nodes)
    assert lab.pods() == pods
    assert [members(lab, each) for each in SERVERS] == [list(SERVERS)] * 3
    assert max(then - before for before, then in itertools.pairwise(answered)) < SILENCE_SECONDS
    # However slow it is: they were never all down, as they are when all begin anew together.
    assert 0 < min(map(len, ready)) < len(SERVERS)
    assert lab.differences(1) == []


def ready_servers(lab: Lab) -> set[str]:
    """Return the servers whose service runs and has said that it is ready."""
    units = channel.call(lab.place.agent / "agent.sock", "unit-list")["units"]
    return {each["node"] for each in units if each["name"] == "k3s" and each["ready"]}


@contextlib.contextmanager
def asking(lab: Lab, kubeconfig: Path) -> Iterator[tuple[list[float], list[set[str]]]]:
    """Ask the API for a namespace again and again.

    Yields when it answered, and the beginning; and which servers were ready at each look.
    """
    answered, ended = [time.monotonic()], threading.Event()
    ready: list[set[str]] = []

    def ask() -> None:
        while not ended.wait(0.2):
            with contextlib.suppress(node_errors.AgentError):
                ready.append(ready_servers(lab))
            with contextlib.suppress(ClusterError):
                api.get("/api/v1/namespaces/kept", within=10.0)
                answered.append(time.monotonic())

    api = connect(kubeconfig)
    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answered, ready
        answered.append(time.monotonic())
    finally:
        ended.set()
        asker.join()
        api.close()


def test_a_node_is_taken_out_and_forgotten_while_the_first_server_is_down(lab: Lab):
    lab.said("perturb", f"node={FIRST}", "health=crashed", "--name", "gone", "--lease", "none")
    try:
        assert soon(lambda: lab.attempt("get", "nodes").returncode == 0)
        assert lab.said("cluster", "reset", "--node", AGENT) == f"changed: {AGENT}"
        assert set(lab.nodes()) == set(SERVERS)
    finally:
        lab.said("heal", "gone")

    assert soon(lambda: lab.ready() == set(SERVERS))


def test_a_reset_takes_it_off_all_of_them_and_keeps_the_secrets_until_it_has(lab: Lab):
    secrets = sorted((lab.place.run / "k3s").iterdir())
    lab.said("perturb", f"node={FIRST}", "health=crashed", "--name", "gone", "--lease", "none")
    try:
        done = lab.pkgctl("cluster", "reset")
        kept = sorted((lab.place.run / "k3s").iterdir())
    finally:
        lab.said("heal", "gone")
    assert (done.returncode, kept) == (1, secrets)
    assert FIRST in done.stderr and done.stderr.count("\n") == 1

    assert lab.said("cluster", "reset") == f"changed: {FIRST}"

    assert [lab.on(node, LEFT) for node in (*SERVERS, AGENT)] == [""] * 4
    assert lab.groups_of_pods() == []
    assert not (lab.place.run / "k3s").exists()


def test_two_servers_are_refused_before_anything_is_done(tmp_path: Path):
    lab = Lab(f"even-{os.getpid()}", tmp_path)
    try:
        up(lab, tmp_path, *SERVERS[:2])
        done = lab.cluster("install")
        left = [lab.on(each, LEFT) for each in (*SERVERS[:2], AGENT)]
    finally:
        removal.down(lab.place)
    assert (done.returncode, done.stdout) == (1, "")
    assert left == [""] * 3
    assert "2 hosts; a cluster needs 1, 3 or 5 servers" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_is_where_it_was_told_to_be_and_is_found_there_later(tmp_path: Path):
    lab = Lab(f"own-{os.getpid()}", tmp_path)
    nodes = (SERVERS[0], AGENT)
    try:
        up(lab, tmp_path, SERVERS[0])
        for node in nodes:
            lab.on(node, f"mkdir -p {OWN}/disk && ln -s {OWN}/disk {OWN}/data")
        assert lab.changed("install", 0, *OWN_WORDS) == f"changed: {', '.join(nodes)}"
        lab.start_pods(*nodes)
        again = lab.changed("install")
        refused = lab.cluster("install", 0, "-e", f"k3s_data_dir={DATA}")
        assert lab.said("cluster", "reset") == f"changed: {', '.join(nodes)}"
        left = [lab.on(node, f"{LEFT} find {OWN} | sort") for node in nodes]
        kept = (lab.place.run / "k3s").exists()
    finally:
        removal.down(lab.place)
    assert (again, refused.returncode, refused.stdout) == ("nothing to change", 1, "")
    assert f"it has K3s in {OWN}/data, and would have it in {DATA}" in refused.stderr
    assert left == [f"{OWN}\n{OWN}/data\n{OWN}/disk\n"] * 2
    assert not kept


def test_a_dry_run_of_an_installation_says_who_would_change_and_leaves_nothing(tmp_path: Path):
    lab = Lab(f"dry-{os.getpid()}", tmp_path)
    try:
        up(lab, tmp_path, SERVERS[0])
        done = lab.cluster("install", 0, "--dry-run")
        left = [lab.on(each, LEFT) for each in (SERVERS[0], AGENT)]
        kept = (lab.place.run / "k3s").exists()
    finally:
        removal.down(lab.place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"would change: {SERVERS[0]}, {AGENT}\n"
    assert (left, kept) == (["", ""], False)
