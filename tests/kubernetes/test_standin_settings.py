# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stand-in for K3s is told follows K3s's rules, and its plans follow from that."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from .standin.program import network, plainyaml, settings, tokens
from .standin.program.containers import configuration, full_name

CONFIG = """\
# a comment
token-file: /etc/rancher/k3s/token   # another
cluster-init: true
https-listen-port: 7443
node-label:
- "pkgctl.dev/site=edge"
- a=b
tls-san: [10.0.0.1, 'name.example']
node-name: "a \\"name\\""
write-kubeconfig-mode: '0600'
kubelet-arg:
  - cgroup-root=/pkgctl
data-dir: ''
"""


def test_plain_yaml_is_read_as_yaml():
    assert plainyaml.load(CONFIG) == yaml.safe_load(CONFIG)


words = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=20)
values = st.one_of(words, st.booleans(), st.integers(0, 99999))


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(-[a-z]{1,8})?\+?", fullmatch=True),
        st.one_of(values, st.lists(values, min_size=1, max_size=4)),
        max_size=5,
    )
)
def test_whatever_a_role_writes_is_read_as_it_was_meant(document):
    for text in (yaml.safe_dump(document, width=9999), json.dumps(document)):
        if document:
            assert plainyaml.load(text) == document


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  b: c\n",
        "- a\n",
        "a: &x b\n",
        "a: |\n  text\n",
        "a: {b: c}\n",
        "a: 1\na: 2\n",
        "a: b: c",
    ],
)
def test_yaml_of_another_kind_is_refused(text):
    with pytest.raises(plainyaml.NotPlainError):
        plainyaml.load(text)


def test_the_command_line_holds_before_the_files_and_these_before_the_environment(tmp_path):
    main = tmp_path / "config.yaml"
    main.write_text("node-name: filed\ntoken: filed\nnode-label: [a=1]\nnode-taint: [x]\n")
    beside = tmp_path / "config.yaml.d"
    beside.mkdir()
    (beside / "1.yaml").write_text("node-label+: [b=2]\nnode-taint: [y]\n")
    (beside / "2.yaml").write_text("token: later\n")
    around = {"K3S_TOKEN": "around", "K3S_URL": "https://around:6443", "K3S_CONFIG_FILE": str(main)}

    told = settings.read("agent", ["--node-name=given", "--kubelet-arg", "v=2"], around)

    assert told.text("node-name") == "given"
    assert told.text("token") == "later"
    assert told.text("server") == "https://around:6443"
    assert told.many("node-label") == ["a=1", "b=2"]
    assert told.many("node-taint") == ["y"]
    assert told.many("kubelet-arg") == ["v=2"]


def test_a_list_on_the_command_line_takes_the_place_of_that_in_the_files(tmp_path):
    main = tmp_path / "config.yaml"
    main.write_text("node-label: [a=1]\n")

    told = settings.read("agent", ["-c", str(main), "--node-label", "b=2"], {})

    assert told.many("node-label") == ["b=2"]


@pytest.mark.parametrize(
    ("command", "text", "reason"),
    [
        ("server", "nod-name: x", "unknown key nod-name"),
        ("agent", "tls-san: [x]", "unknown key tls-san"),
        ("server", "datastore-endpoint: x", "does not have datastore-endpoint"),
        ("server", "cluster-init: perhaps", "true or false"),
        ("server", "https-listen-port: high", "a number"),
        ("server", "node-name: [a, b]", "not a list"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, command, text, reason):
    main = tmp_path / "config.yaml"
    main.write_text(text)

    with pytest.raises(settings.UsageError, match=reason):
        settings.read(command, ["--config", str(main)], {})


def test_an_unknown_flag_is_named():
    with pytest.raises(settings.UsageError, match="not defined: -nod-name"):
        settings.read("server", ["--nod-name", "x"], {"K3S_CONFIG_FILE": "/dev/null"})


def test_a_full_token_is_bound_to_its_cluster_and_a_short_one_is_not():
    full = tokens.parse(tokens.format_token("certificate", "node", "secret"))

    assert full.secret == "secret"
    assert full.trusts("certificate") and not full.trusts("another")
    assert tokens.parse("secret").trusts("another")


def test_a_token_file_that_is_not_there_or_empty_is_named(tmp_path):
    (tmp_path / "empty").write_text("\n")

    for name, reason in (("none", "cannot read"), ("empty", "is empty")):
        told = settings.Settings({"token-file": str(tmp_path / name)})
        with pytest.raises(settings.UsageError, match=reason):
            tokens.given(told, "token")


def test_a_nodes_password_is_kept_as_a_hash_of_its_own():
    kept = tokens.hashed("password")

    assert "password" not in kept and kept != tokens.hashed("password")
    assert tokens.matches("password", kept) and not tokens.matches("other", kept)


def test_a_tunnels_end_follows_from_its_node():
    object_ = {
        "metadata": {"name": "edge-1"},
        "spec": {"podCIDR": "10.42.3.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.77.0.2"}]},
    }

    node = network.node_of(object_)

    assert node is not None
    assert (node.gateway, node.mac) == ("10.42.3.0", "02:77:0a:4d:00:02")
    assert network.node_of({**object_, "spec": {}}) is None


def test_containerd_is_told_of_the_snapshotter_and_the_image_of_pods(tmp_path):
    told = settings.Settings({"snapshotter": "native", "data-dir": str(tmp_path)})

    text = configuration(told, tmp_path / "bin")

    assert 'snapshotter = "native"' in text
    assert 'sandbox_image = "docker.io/rancher/mirrored-pause:3.6"' in text
    assert full_name("busybox:1") == "docker.io/library/busybox:1"
    assert full_name("pkgctl.test/busy:1") == "pkgctl.test/busy:1"
