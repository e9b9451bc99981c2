# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on a testbed's nodes: who is what, what is played, and how its API is reached."""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pkgctl import playbook
from pkgctl.cli import cli
from pkgctl.cluster import gateway, installing, runtime
from pkgctl.errors import ClusterError, PlayError, SpecError
from pkgctl.local import paths

KEPT = {
    "apiVersion": "v1",
    "clusters": [
        {
            "name": "default",
            "cluster": {
                "server": "https://10.77.0.1:6443",
                "certificate-authority-data": "Q0E=",
            },
        }
    ],
    "users": [{"name": "default", "user": {"client-key-data": "S0VZ"}}],
    "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
    "current-context": "default",
}


def node(role, **labels):
    return {
        "site": "s",
        "kind": None,
        "role": role,
        "labels": labels,
        "address": "10.77.0.1",
        "disks": {},
        "cgroup": "g",
        "directory": "/d",
        "namespaces": "/n",
    }


@pytest.fixture
def testbed(tmp_path, monkeypatch):
    """A local testbed as far as it is files."""
    monkeypatch.setattr(paths, "RUN", tmp_path)
    place = paths.Paths("lab")
    (place.run / "agent").mkdir(parents=True)

    def of(**nodes):
        place.state.write_text(json.dumps({"format": 1, "testbed": "lab", "nodes": nodes}))
        return place

    return of


@pytest.mark.parametrize(
    ("nodes", "servers", "agents"),
    [
        ({"e": node("edge"), "c": node("cloud"), "d": node("cloud")}, ("c",), ("e", "d")),
        ({"e": node("edge"), "f": node("edge")}, ("e",), ("f",)),
        ({"e": node("edge", k3s="server"), "c": node("cloud")}, ("e",), ("c",)),
        ({"e": node("edge"), "c": node("cloud", k3s="none")}, ("e",), ()),
        ({"e": node("edge", k3s="agent"), "c": node("cloud", k3s="none")}, (), ("e",)),
    ],
)
def test_labels_say_who_is_what(testbed, nodes, servers, agents):
    assert installing.members(testbed(**nodes)) == installing.Cluster(servers, agents)


def test_a_label_that_says_something_else_is_refused(testbed):
    with pytest.raises(SpecError, match="node c has the label k3s: 'master'; it can be server"):
        installing.members(testbed(c=node("cloud", k3s="master")))


@pytest.fixture
def played(monkeypatch):
    found = []

    def play(name, variables, **options):
        found.append((name, variables, options["testbed"], options["check"]))
        return playbook.Play(name, {}, {}, ())

    monkeypatch.setattr(playbook, "play", play)
    image = runtime.Image("pkgctl.dev/runtime:1", Path("/cache/runtime.tar"))
    monkeypatch.setattr(runtime, "image", lambda: image)
    return found


IMAGES = {"extra_images": ["/cache/runtime.tar"]}


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.lock.json").write_text("{}")
    return folder


def test_an_installation_plays_the_playbook_with_the_bundle(testbed, played, bundle):
    installing.install(testbed(c=node("cloud")), bundle, {"k3s_patience": "9"}, print)

    variables = {"k3s_patience": "9", "airgap_dir": str(bundle), **IMAGES}
    assert played == [("k3s/site.yml", variables, "lab", False)]


def test_variables_that_are_lists_or_mappings_are_written_as_yaml(
    testbed, played, bundle, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = {
        "extra_images": "own.tar",
        "extra_manifests": "[a.yaml, b.yaml]",
        "k3s_node_labels": "{zone: north}",
        "server_config_yaml": "{debug: true}",
    }

    installing.install(testbed(c=node("cloud")), bundle, given, print)

    ((_, variables, _, _),) = played
    assert variables == {
        "airgap_dir": str(bundle),
        "extra_images": ["/cache/runtime.tar", str(tmp_path / "own.tar")],
        "extra_manifests": [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")],
        "k3s_node_labels": {"zone": "north"},
        "server_config_yaml": "{debug: true}",
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("k3s_left_out", "[traefik", "is no YAML"),
        ("k3s_left_out", "{a: b}", r"k3s_left_out=\[a, b\]"),
        ("k3s_node_labels", "north", "k3s_node_labels={zone: north}"),
    ],
)
def test_variables_of_another_kind_are_refused(testbed, played, bundle, name, text, said):
    with pytest.raises(SpecError, match=said):
        installing.install(testbed(c=node("cloud")), bundle, {name: text}, print)
    assert played == []


def test_what_a_cluster_was_made_with_holds_for_later_plays(testbed, played, bundle):
    place = testbed(c=node("cloud"))
    keep(place)
    given = {"k3s_data_dir": "/srv", "k3s_left_out": "[]", "k3s_patience": "9", "k3s_version": "v1"}
    installing.install(place, bundle, given, print)

    installing.upgrade(place, bundle, {"k3s_left_out": "[traefik]"}, print)
    installing.install(place, bundle, {"k3s_data_dir": ""}, print, dry_run=True)
    installing.install(place, bundle, {"k3s_data_dir": ""}, print)
    installing.install(place, bundle, {}, print)

    base = {"airgap_dir": str(bundle), **IMAGES}
    left = {"k3s_left_out": ["traefik"]}
    assert [variables for _, variables, _, _ in played[1:]] == [
        {**base, **left, "k3s_data_dir": "/srv"},
        *[{**base, **left}] * 3,
    ]
    kept = installing.kubeconfig_path(place).with_name("variables.json")
    assert json.loads(kept.read_text()) == left
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_came_to_nothing_is_not_remembered(testbed, monkeypatch, played, bundle, dry_run):
    def play(*_, **options):
        if not options["check"]:
            raise PlayError("k3s/site.yml", {"c": "no"})

    place = testbed(c=node("cloud"))
    monkeypatch.setattr(playbook, "play", play)

    with nullcontext() if dry_run else pytest.raises(PlayError):
        installing.install(place, bundle, {"api_port": "1"}, print, dry_run=dry_run)

    assert not (place.run / "k3s").exists()


def test_a_file_says_what_everybody_would_see_on_the_command_line(
    testbed, played, bundle, tmp_path
):
    place, file = testbed(c=node("cloud")), tmp_path / "registries.yaml"
    file.write_text("configs: {r: {auth: {password: x}}}\n")

    with pytest.raises(SpecError, match="would show in the process list; give it as @FILE"):
        installing.install(place, bundle, {"registries_config_yaml": file.read_text()}, print)
    with pytest.raises(SpecError, match="cannot be read"):
        installing.install(place, bundle, {"registries_config_yaml": "@/nowhere"}, print)
    installing.install(place, bundle, {"registries_config_yaml": f"@{file}"}, print)
    installing.install(place, bundle, {}, print)

    told = [variables["registries_config_yaml"] for _, variables, _, _ in played]
    assert told == [file.read_text()] * 2


@pytest.mark.parametrize(("name", "file"), [("token", "token"), ("agent_token", "agent-token")])
def test_a_secret_is_not_taken_from_the_command_line(testbed, played, bundle, name, file):
    place = testbed(c=node("cloud"))

    with pytest.raises(SpecError, match=f"{name} would show .* {place.run}/k3s/{file} instead"):
        installing.install(place, bundle, {name: "x"}, print)
    assert played == []


def test_without_a_bundle_or_a_server_nothing_is_played(testbed, played, bundle, tmp_path):
    with pytest.raises(SpecError, match=r"no bundle\.lock\.json"):
        installing.install(testbed(c=node("cloud")), tmp_path, {}, print)
    with pytest.raises(SpecError, match="no node is a server"):
        installing.install(testbed(c=node("cloud", k3s="agent")), bundle, {}, print)
    assert played == []


def test_only_what_is_there_is_upgraded(testbed, played, bundle):
    place = testbed(c=node("cloud"))
    with pytest.raises(ClusterError, match="no cluster to upgrade"):
        installing.upgrade(place, bundle, {}, print)

    keep(place)
    installing.upgrade(place, bundle, {}, print, dry_run=True)

    assert played == [("k3s/upgrade.yml", {"airgap_dir": str(bundle), **IMAGES}, "lab", True)]


def keep(place):
    path = installing.kubeconfig_path(place)
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(KEPT))


def test_the_kubeconfig_leads_through_the_gateway(testbed, monkeypatch):
    place = testbed(e=node("edge"), c=node("cloud"))
    keep(place)
    asked = []

    def ensure(*given):
        asked.append(given)
        return "https://127.0.0.1:4711"

    monkeypatch.setattr(gateway, "ensure", ensure)

    found = installing.kubeconfig(place)

    config = yaml.safe_load(found.read_text())
    assert asked == [(place, ("c",), 6443)]
    assert config["current-context"] == "pkgctl-lab"
    assert config["clusters"][0]["cluster"] == {
        "server": "https://127.0.0.1:4711",
        "certificate-authority-data": "Q0E=",
    }
    assert stat.S_IMODE(found.stat().st_mode) == 0o600


def test_the_first_server_that_answers_is_asked():
    listener = socket.create_server(("127.0.0.2", 0))
    port = listener.getsockname()[1]
    with listener:
        assert installing._answering(["127.0.0.1", "127.0.0.2"], port) == "127.0.0.2"
    assert installing._answering(["127.0.0.1", "127.0.0.2"], port) == "127.0.0.1"


def test_a_testbed_without_a_cluster_is_told(testbed):
    with pytest.raises(ClusterError, match="testbed lab has no cluster"):
        installing.kubeconfig(testbed(c=node("cloud")))


@pytest.fixture
def own(tmp_path):
    """A user's kubeconfig with a cluster of theirs."""
    path = tmp_path / "own"
    theirs = yaml.safe_load(installing.renamed(yaml.safe_dump(KEPT), "theirs", "https://x:1"))
    path.write_text(yaml.safe_dump(theirs))
    return path


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "ours"
    path.write_text(installing.renamed(yaml.safe_dump(KEPT), "pkgctl-lab", "https://127.0.0.1:1"))
    return path


def test_our_context_goes_into_a_users_kubeconfig_and_out_again(own, ours):
    before = yaml.safe_load(own.read_text())

    assert installing.merge(own, ours) == "pkgctl-lab"
    assert installing.merge(own, ours) == "pkgctl-lab"

    merged = yaml.safe_load(own.read_text())
    assert [each["name"] for each in merged["contexts"]] == ["theirs", "pkgctl-lab"]
    assert merged["current-context"] == "theirs"
    assert stat.S_IMODE(own.stat().st_mode) == 0o600

    assert installing.withdraw(own, "pkgctl-lab") is True
    assert yaml.safe_load(own.read_text()) == before
    assert installing.withdraw(own, "pkgctl-lab") is False


@pytest.mark.parametrize("text", ["n", "Y", "1e5", "0x10", "-1", ".5", "on", "~", "1_0"])
def test_what_is_a_text_stays_one_for_other_readers_of_yaml(own, ours, text):
    config = yaml.safe_load(own.read_text())
    config["users"][0]["user"] = {"token": text}
    own.write_text(json.dumps(config))

    installing.merge(own, ours)

    line = next(each for each in own.read_text().splitlines() if "token: " in each)
    assert line.split("token: ")[1][0] in "'\""
    assert yaml.safe_load(own.read_text())["users"][0]["user"]["token"] == text


def test_a_link_to_a_users_kubeconfig_stays_one(own, ours, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(own)

    installing.merge(link, ours)
    installing.withdraw(link, "theirs")

    assert link.is_symlink()
    found = yaml.safe_load(own.read_text())
    assert [each["name"] for each in found["contexts"]] == ["pkgctl-lab"]


@pytest.mark.root
def test_a_users_kubeconfig_stays_theirs(own, ours, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    for path in (own, folder):
        os.chown(path, 1234, 1234)

    installing.merge(own, ours)
    installing.merge(folder / "config", ours)

    for path in (own, folder / "config"):
        seen = path.stat()
        assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (1234, 1234, 0o600)


def test_a_kubeconfig_that_is_not_there_yet_begins_with_ours(tmp_path, ours):
    fresh = tmp_path / "kube" / "config"

    installing.merge(fresh, ours)

    assert yaml.safe_load(fresh.read_text())["current-context"] == "pkgctl-lab"
    assert installing.withdraw(tmp_path / "nothing", "pkgctl-lab") is False


@pytest.mark.parametrize("text", ["[]", "a: [", "clusters: 5"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path, ours, text):
    path = tmp_path / "own"
    path.write_text(text)

    with pytest.raises(SpecError, match="is no kubeconfig"):
        installing.merge(path, ours)
    assert path.read_text() == text


def test_a_kubeconfig_keeps_the_context_of_a_cluster_that_only_loses_a_node(tmp_path):
    own = tmp_path / "config"
    own.write_text(yaml.safe_dump(KEPT))
    words = ["cluster", "reset", "--node", "edge-1", "--kubeconfig", str(own)]

    done = CliRunner().invoke(cli, words)

    assert done.exit_code == 2
    assert "leave it out beside --node" in done.output
    assert yaml.safe_load(own.read_text()) == KEPT
