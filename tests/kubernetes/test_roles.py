# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of K3s end to end on local nodes: installed, upgraded twice, taken off."""

from __future__ import annotations

import json
import os
import secrets as drawn
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pkgctl import playbook, topology
from pkgctl.local import removal, testbed
from pkgctl.local.paths import STORE
from pkgctl.nodeside import cgroups
from tests.waiting import soon

from .roles import DATA, LEFT, Lab, command, environment, settings
from .secrecy import Holder, Watch, holders
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]

NODES = ("cloud-1", "edge-1")
BOTH = "changed: cloud-1, edge-1"
OLD = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}}
BIN = "/run/pkgctl/disks/k3s/bin"
TAKEN = 7443
# Where a node keeps secrets, and where nothing of it may be read by others.
KEPT = ("/etc/rancher/", f"{DATA}/", "/var/lib/kubelet/", "/run/pkgctl/disks/k3s/kubelet/")
ROOTS = ("/etc", "/run", "/tmp", "/var", "/usr/local", "/root/.ansible", "/opt", "/dev/shm")
OWN = """\
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:
- {name: work, cluster: {server: "https://a:1", tls-server-name: x}}
- {name: home, cluster: {server: "https://b:2", extensions: [{name: e, extension: {k: [1, 2]}}]}}
users:
- {name: me, user: {token: "1e5", exec: {command: login, args: [a, b], apiVersion: v1}}}
contexts:
- {name: work, context: {cluster: work, user: me, namespace: "n"}}
- {name: home, context: {cluster: home, user: me}}
current-context: home
"""


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with Watch() as watch:
        yield watch


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, watch: Watch) -> Iterator[Lab]:
    made = Lab(f"roles-{os.getpid()}", tmp_path_factory.mktemp("bundles"))
    before = settings()
    try:
        testbed.up(topology.load("duo"), made.place)
        give_secrets(made)
        assert made.changed("install") == BOTH
        yield made
    finally:
        removal.down(made.place)
    assert settings() == before


def give_secrets(lab: Lab) -> None:
    """Have secrets where the roles look for them, so that they are known from the beginning."""
    folder = lab.place.run / "k3s"
    folder.mkdir(mode=0o700)
    for name in ("token", "agent-token"):
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(f"{drawn.token_hex(24)}\n")


def secrets(lab: Lab) -> list[str]:
    """Return the tokens, and the keys of the administrator."""
    folder = lab.place.run / "k3s"
    found = [(folder / name).read_text().strip() for name in ("token", "agent-token")]
    users = yaml.safe_load((folder / "kubeconfig").read_text())["users"]
    found += [str(each["user"]["client-key-data"]) for each in users]
    assert len(found) == 3 and all(len(each) >= 32 for each in found)
    return found


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, tuple[str, str, int, str]]:
    lab.start_pods(*NODES)
    return lab.pods()


def test_all_nodes_are_ready_with_what_the_topology_gives_them(lab: Lab):
    nodes = lab.nodes()

    assert {name: (each["ready"], each["role"]) for name, each in nodes.items()} == {
        "cloud-1": ("yes", "server"),
        "edge-1": ("yes", "agent"),
    }
    assert {each["version"] for each in nodes.values()} == {lab.releases.version()}
    assert {each["site"] for each in nodes.values()} == {"cloud", "edge"}
    assert {(each["cpu"], each["memory"]) for each in nodes.values()} == {("1", "256Mi")}


def test_a_second_run_changes_nothing(lab: Lab):
    before = lab.started()

    assert lab.changed("install") == "nothing to change"
    assert lab.started() == before


def test_pods_reach_one_another_and_count_against_their_nodes(lab: Lab, pods):
    url = f"http://{pods['web-edge-1'][0]}/"

    assert "web-edge-1" in lab.on("cloud-1", f"curl -s -m 20 {url}")
    assert "web-edge-1" in lab.kubectl("exec", "web-cloud-1", "--", "/busy", "fetch", url)
    own = cgroups.group(f"{lab.place.cgroup}/nodes/edge-1/kubepods")
    pids = [pid for group in own.descend() for pid in group.processes()]
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    assert any(name.startswith(b"/busy\0serve") for name in names)


def test_a_users_own_kubeconfig_gets_our_context_and_keeps_the_rest(lab: Lab, tmp_path: Path):
    own, link = tmp_path / "own", tmp_path / "link"
    own.write_text(OWN)
    own.chmod(0o644)
    link.symlink_to(own)
    context = f"pkgctl-{lab.name}"

    for _ in range(2):
        assert lab.said("cluster", "kubeconfig", "--merge", str(link)) == context

    merged, before = yaml.safe_load(own.read_text()), yaml.safe_load(OWN)
    assert own.stat().st_mode & 0o777 == 0o600 and link.is_symlink()
    assert {key: merged[key] for key in before if not isinstance(before[key], list)} == {
        key: value for key, value in before.items() if not isinstance(value, list)
    }
    for key in ("clusters", "users", "contexts"):
        assert merged[key][:-1] == before[key]
        assert merged[key][-1]["name"] == context
    words = [f"--kubeconfig={own}", f"--context={context}", "get", "nodes", "-o", "name"]
    assert lab.kubectl(*words).split() == [f"node/{node}" for node in NODES]

    done = lab.pkgctl("cluster", "reset", "--dry-run", "--kubeconfig", str(own))
    assert done.returncode == 0 and yaml.safe_load(own.read_text()) == merged


@pytest.fixture
def wrong(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Path:
    """A bundle of the next release with something wrong in it, which the parameter names."""
    folder = shutil.copytree(lab.releases.bundle(1), tmp_path / "bundle")
    archive = next((folder / "amd64").glob("*images*.tar*"))
    if request.param == "corrupted":
        archive.write_bytes(b"x" * archive.stat().st_size)
    elif request.param == "missing":
        archive.unlink()
    else:
        lock = json.loads((folder / "bundle.lock.json").read_text())
        entry = next(each for each in lock["files"] if each["kind"] == "binary")
        entry["sha256"] = entry["sha256"][::-1]
        (folder / "bundle.lock.json").write_text(json.dumps(lock))
    return folder


@pytest.mark.parametrize(
    ("wrong", "named"),
    [("corrupted", r"images.*sha256"), ("missing", "images"), ("sum", "k3s.*sha256")],
    indirect=["wrong"],
)
def test_a_bundle_that_is_wrong_fails_before_any_service_is_touched(lab: Lab, wrong, named):
    with untouched(lab):
        refused(lab, "upgrade", str(wrong), named)


def test_a_full_disk_fails_before_any_service_is_touched(lab: Lab):
    lab.on("edge-1", f"mount -t tmpfs -o size=4m tmpfs {BIN}")
    try:
        with untouched(lab):
            named = rf"edge-1.*no room below {BIN}: \d+ MiB are needed, \d MiB are free"
            refused(lab, "upgrade", str(lab.releases.bundle(1)), named)
    finally:
        lab.on("edge-1", f"umount {BIN}")


def test_a_taken_port_fails_before_any_service_is_touched(lab: Lab):
    with testbed.inside(lab.place, "cloud-1"):
        taken = socket.create_server(("0.0.0.0", TAKEN))
    with taken, untouched(lab):
        named = rf"cloud-1.*port {TAKEN}/tcp is taken by \S+ \(process {os.getpid()}\)"
        refused(lab, "upgrade", str(lab.releases.bundle(1)), named, "-e", f"api_port={TAKEN}")


def test_another_version_than_asked_for_is_refused(lab: Lab):
    with untouched(lab):
        asked = ("-e", "k3s_version=v1.33.0+k3s1")
        refused(lab, "install", str(lab.releases.bundle(1)), r"v1\.33\.0\+k3s1", *asked)


class untouched:  # noqa: N801 - a context, read as a word
    """Whatever happens within, services and releases are the same afterwards."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def _seen(self):
        versions = {name: each["version"] for name, each in self._lab.nodes().items()}
        links = [self._lab.on(node, "readlink -f /usr/local/bin/k3s") for node in NODES]
        return self._lab.started(), versions, links

    def __enter__(self) -> None:
        self._before = self._seen()

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            assert self._seen() == self._before


def refused(lab: Lab, does: str, bundle: str, named: str, *words: str) -> None:
    """Have a command fail with one line that names the cause."""
    done = lab.pkgctl("cluster", does, "--bundle", bundle, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert_named(named, done.stderr)


def assert_named(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), text


def test_an_upgrade_whose_command_is_killed_ends_with_it(lab: Lab):
    def plays() -> list[Path]:
        return list(lab.place.run.glob("pkgctl-play-*"))

    bundle = str(lab.releases.bundle(1))
    with untouched(lab):
        asker = subprocess.Popen(
            command("cluster", "upgrade", "--bundle", bundle), env=environment(lab.name)
        )
        try:
            assert soon(lambda: below(asker.pid, b"ansible-playbook"))
            assert plays()
            doomed = below(asker.pid)
        finally:
            asker.send_signal(signal.SIGKILL)
            asker.wait()
        assert soon(lambda: not any(line(pid) for pid in doomed))
        assert soon(lambda: not plays())


def below(root: int, name: bytes = b"") -> list[int]:
    """Return the processes below one, of a name if one is given."""
    found, level = [], [root]
    while level:
        level = [int(each) for pid in level for each in children(pid)]
        found += [pid for pid in level if name in line(pid)]
    return found


def children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    try:
        return [each for task in tasks for each in task.read_text().split()]
    except OSError:
        return []


def line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_two_upgrades_keep_pods_running(lab: Lab, pods, tmp_path: Path):
    before = lab.started()

    with untouched(lab):
        assert lab.changed("upgrade", 1, "--dry-run") == BOTH.replace("changed", "would change")
    assert lab.changed("upgrade", 1) == BOTH

    assert {each["version"] for each in lab.nodes().values()} == {lab.releases.version(1)}
    assert all(lab.started()[node] != before[node] for node in NODES)
    assert lab.pods() == pods
    assert lab.on("edge-1", f"ls {BIN}").split() == [f"k3s-{lab.releases.version(1)}"]

    # By the door to Ansible itself, to have its record of what it did.
    given = {"airgap_dir": str(lab.releases.bundle(2))}
    record = tmp_path / "record"
    played = playbook.play("k3s/upgrade.yml", given, testbed=lab.name, artifacts=record)
    assert set(played.stats) == set(NODES)
    assert {each["version"] for each in lab.nodes().values()} == {lab.releases.version(2)}
    assert lab.pods() == pods
    assert list(record.rglob("job_events/*.json"))
    assert holders(secrets(lab), [record], 0.0) == []


def test_an_older_release_is_refused(lab: Lab, pods):
    version = {each["version"] for each in lab.nodes().values()}.pop()
    if version == lab.releases.version():
        lab.changed("upgrade", 1)
        version = lab.releases.version(1)

    with untouched(lab):
        for does in ("upgrade", "install"):
            refused(lab, does, str(lab.releases.bundle()), f"node has {pattern(version)}")
    assert lab.pods() == pods


def pattern(version: str) -> str:
    return version.replace(".", r"\.").replace("+", r"\+")


def test_a_node_made_anew_is_let_in_under_its_old_name(lab: Lab):
    asked = ("get", "node", "edge-1", "-o", "jsonpath={.metadata.uid}")
    before = lab.kubectl(*asked)
    assert lab.said("cluster", "reset", "--node", "edge-1") == "changed: edge-1"
    assert set(lab.nodes()) == {"cloud-1"}
    # What a node leaves there that went without a word.
    lab.kubectl("create", "-f", "-", given=json.dumps(OLD))
    old = lab.kubectl(*asked)

    assert "edge-1" in lab.changed("install", newest(lab))

    assert lab.ready() == set(NODES)
    assert lab.kubectl(*asked) not in ("", before, old)


def newest(lab: Lab) -> int:
    """Return the number of the release that the server has."""
    version = lab.nodes()["cloud-1"]["version"]
    return next(number for number in range(3) if lab.releases.version(number) == version)


def test_a_reset_leaves_nothing_and_no_secret_was_ever_seen(lab: Lab, watch: Watch, tmp_path):
    words = secrets(lab)
    assert watch.saw(f"PKGCTL_TESTBED={lab.name}")

    for node in NODES:
        found = on_node(lab, node, words, watch.since)
        assert any(each.path.startswith("/etc/rancher/k3s/") for each in found)
        assert [each for each in found if each.is_open or not each.path.startswith(KEPT)] == []
    ours = on_controller(lab, words, watch.since)
    kept = [f"{lab.place.run}/k3s/", *(f"{lab.place.disks(node)}/k3s/data/" for node in NODES)]
    assert all(any(each.path.startswith(place) for each in ours) for place in kept[:2])
    assert [each for each in ours if each.is_open or not each.path.startswith((*kept,))] == []

    own = tmp_path / "own"
    own.write_text(OWN)
    lab.said("cluster", "kubeconfig", "--merge", str(own))
    assert lab.groups_of_pods()
    assert lab.said("cluster", "reset", "--kubeconfig", str(own)) == BOTH

    assert yaml.safe_load(own.read_text()) == yaml.safe_load(OWN)
    assert {node: lab.on(node, LEFT) for node in NODES} == dict.fromkeys(NODES, "")
    assert lab.groups_of_pods() == []
    assert not (lab.place.run / "k3s").exists()
    assert [on_node(lab, node, words, watch.since) for node in NODES] == [[], []]
    assert on_controller(lab, words, watch.since) == []
    assert not any(watch.saw(word) for word in words)
    assert lab.said("cluster", "reset") == "nothing to change"


def test_what_looks_for_secrets_finds_them():
    word, other = drawn.token_hex(16), drawn.token_hex(16)
    with tempfile.TemporaryDirectory() as name, Watch() as watch:
        folder = Path(name)
        places = {"open": (0o755, 0o644), "own": (0o755, 0o600), "apart": (0o700, 0o644)}
        for each, (above, mode) in places.items():
            (folder / each).mkdir()
            (folder / each / "file").write_text(f"token: {word}\n")
            (folder / each / "file").chmod(mode)
            (folder / each).chmod(above)
        folder.chmod(0o755)
        with subprocess.Popen(["sleep", "60"], env={"WORD": word}) as shown:
            assert soon(lambda: watch.saw(word))
            shown.kill()

        found = {Path(each.path).parent.name: each.is_open for each in holders([word], [name], 0.0)}

    assert found == {"open": True, "own": False, "apart": False}
    assert not watch.saw(other)


def on_node(lab: Lab, node: str, words: list[str], since: float) -> list[Holder]:
    within = command("exec", "--name", lab.name, node, "--")
    # A node sees the machine's own folders too, with the disks of all nodes.
    skipped = [STORE, "/run/pkgctl/agent", *Path(tempfile.gettempdir()).glob("pytest-of-*")]
    return holders(words, ROOTS, since, within=within, skipped=skipped)


def on_controller(lab: Lab, words: list[str], since: float) -> list[Holder]:
    """Return who holds a secret among the testbed's files, Ansible's, and passing ones."""
    temporary = Path(tempfile.gettempdir())
    own = [lab.place.run, lab.place.images]
    roots = [*own, Path.home() / ".ansible", temporary, "/var/log"]
    return holders(words, roots, since, skipped=temporary.glob("pytest-of-*"))


def test_a_port_that_is_taken_is_named_before_anything_is_installed(lab: Lab):
    lab.said("cluster", "reset")
    with testbed.inside(lab.place, "cloud-1"):
        taken = socket.create_server(("0.0.0.0", 6443))
    with taken:
        refused(lab, "install", str(lab.releases.bundle()), "port 6443/tcp is taken by")
    assert {node: lab.on(node, LEFT) for node in NODES} == dict.fromkeys(NODES, "")
