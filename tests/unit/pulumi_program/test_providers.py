# SPDX-License-Identifier: GPL-3.0-or-later
"""The program's own resources, without Pulumi around them: dictionaries in, files out."""

from __future__ import annotations

import json
import pickle
import stat

import dill
import pytest
from pulumi.dynamic import ConfigureRequest

from pkgctl.errors import SpecError, TestbedError
from pkgctl.remote import sweeping
from testbed import disks, hypervisor, record, stack
from testbed.access import AccessProvider
from testbed.disks import DisksProvider
from testbed.hypervisor import HypervisorProvider
from testbed.leftovers import LeftoversProvider
from testbed.overlay import OverlayProvider
from testbed.record import RecordProvider
from testbed.seed import SeedProvider
from testbed.settled import SettledProvider

PROVIDERS = [
    AccessProvider,
    DisksProvider,
    HypervisorProvider,
    LeftoversProvider,
    OverlayProvider,
    RecordProvider,
    SeedProvider,
    SettledProvider,
]


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_provider_is_kept_by_its_name_and_is_no_secret(kind):
    kept = dill.dumps(kind(), protocol=pickle.DEFAULT_PROTOCOL, recurse=True)

    assert len(kept) < 120
    assert kind.__module__.encode() in kept
    assert not kind.serialize_as_secret_always


def test_a_key_pair_is_its_owners_and_goes_with_its_folder(state):
    path = state / "lab" / "id_ed25519"

    made = AccessProvider().create({"path": str(path), "testbed": "lab"})

    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert made.outs["public"].startswith("ssh-ed25519 ")
    assert "PRIVATE" not in json.dumps(made.outs)
    AccessProvider().delete(made.id, made.outs)
    assert not path.parent.exists()


def test_a_key_pair_that_has_gone_is_missing_after_a_refresh(state):
    props = {"path": str(state / "id"), "testbed": "lab"}

    assert AccessProvider().read(props["path"], props).id == ""


def seed_props(state, **content):
    said = {"hostname": "n", "keys": [], "network": {}, **content}
    return {"path": str(state / "seeds" / "n.iso"), "testbed": "lab", "content": json.dumps(said)}


def test_a_seed_holds_the_private_key_and_its_outputs_do_not(state):
    made = SeedProvider().create(seed_props(state))

    path = state / "seeds" / "n.iso"
    assert mode(path) == 0o600
    assert b"OPENSSH PRIVATE KEY" in path.read_bytes()
    assert "PRIVATE" not in json.dumps(made.outs)
    assert made.outs["host_key"].startswith("ssh-ed25519 ")
    SeedProvider().delete(made.id, made.outs)
    assert not path.parent.exists()


def test_a_seed_is_written_anew_only_for_other_content(state):
    one, other = seed_props(state), seed_props(state, keys=["k"])

    assert not SeedProvider().diff("", {**one, "hash": "h"}, one).changes
    found = SeedProvider().diff("", one, other)
    assert found.changes
    assert not found.replaces
    before = SeedProvider().create(one).outs["hash"]
    assert SeedProvider().update("", one, other).outs["hash"] != before


def test_the_record_is_private_and_known_hosts_go_by_the_nodes_names(state):
    path = state / "lab" / "state.json"
    props = {"path": str(path), "state": "{}", "host_keys": {"b": "ssh-ed25519 B", "a": "x A"}}

    RecordProvider().create(props)

    assert mode(path) == 0o600
    assert (path.parent / "known_hosts").read_text() == "a x A\nb ssh-ed25519 B\n"
    RecordProvider().delete(str(path), props)
    assert not path.exists()
    assert not (path.parent / "known_hosts").exists()


def test_a_record_of_something_else_is_refused(tmp_path):
    path = tmp_path / "state.json"
    assert record.known(path) == {}
    path.write_text('{"format": 7}')

    with pytest.raises(SpecError, match="no record of a testbed of format 1"):
        record.known(path)


KEPT = {"a": {"root": "image 1 on here", "data": "64Mi on here"}}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"a": {"root": "image 1 on here", "data": "1Gi on here"}}, "a's data (64Mi on here → 1Gi"),
        ({"a": {"root": "image 1 on here"}}, "a's data (64Mi on here → gone)"),
        ({"a": {**KEPT["a"], "root": "image 2 on here"}}, "a's root (image 1 on here → image 2"),
        ({}, "a's data"),
    ],
)
def test_losing_a_disk_is_refused_in_one_line(after, words):
    checked = DisksProvider().check(
        {"testbed": "lab", "disks": KEPT}, {"testbed": "lab", "disks": after, "replace": False}
    )

    (failure,) = checked.failures
    assert words in failure.reason
    assert "replace_disks true" in failure.reason
    assert "\n" not in failure.reason


def test_another_name_for_the_testbed_loses_its_disks():
    news = {"testbed": "other", "disks": KEPT, "replace": False}

    assert DisksProvider().check({"testbed": "lab", "disks": KEPT}, news).failures


@pytest.mark.parametrize("olds", [{}, {"testbed": "lab", "disks": KEPT}])
def test_nothing_is_refused_where_nothing_is_lost(olds):
    more = {**KEPT, "b": {"root": "image 1 on here"}}

    assert (
        not DisksProvider()
        .check(olds, {"testbed": "lab", "disks": more, "replace": False})
        .failures
    )


def test_what_is_allowed_is_done():
    news = {"testbed": "lab", "disks": {}, "replace": True}

    assert not DisksProvider().check({"testbed": "lab", "disks": KEPT}, news).failures


def test_the_root_of_a_node_that_goes_is_no_loss():
    assert disks.lost({"a": {"root": "image 1 on here"}}, {}) == []


EXPORT = {
    "deployment": {
        "resources": [
            {"type": "pulumi:pulumi:Stack"},
            {"type": "libvirt:index/domain:Domain", "outputs": {"name": "pkgctl.lab.a"}},
            {"type": "libvirt:index/volume:Volume", "outputs": {"pool": "pkgctl.lab", "name": "v"}},
        ]
    }
}


def test_the_stacks_things_are_known_by_the_names_that_virsh_has():
    assert set(stack.known(EXPORT)) == {("domain", "pkgctl.lab.a"), ("volume", "pkgctl.lab/v")}
    assert set(stack.known({"deployment": {}})) == set()


def test_what_no_state_knows_calls_for_an_update(monkeypatch):
    props = {"uri": "qemu:///system", "testbed": "lab", "stack": "s", "name": "here"}
    left = [("domain", "pkgctl.lab.a"), ("domain", "pkgctl.lab.b")]
    monkeypatch.setattr(sweeping, "left", lambda uri, testbed: left)
    monkeypatch.setattr(stack, "things", lambda name: {left[0], left[1]})
    assert not LeftoversProvider().diff("", props, props).changes

    monkeypatch.setattr(stack, "things", lambda name: {left[0]})
    assert LeftoversProvider().diff("", props, props).changes


def test_a_host_with_a_testbed_of_that_name_is_refused(monkeypatch):
    monkeypatch.setattr(sweeping, "left", lambda uri, testbed: [("pool", "pkgctl.lab")])
    props = {"uri": "qemu:///system", "testbed": "lab", "stack": "s", "name": "here"}

    with pytest.raises(TestbedError, match=r"has a testbed .*lab.* already: pool"):
        LeftoversProvider().create(props)


@pytest.mark.parametrize(
    ("uri", "here"),
    [
        ("qemu:///system", True),
        ("qemu+unix:///system?socket=/x", True),
        ("qemu+ssh://root@a/system", False),
    ],
)
def test_a_hosts_address_says_whether_it_is_this_machine(uri, here):
    assert hypervisor.is_here(uri) is here


def test_a_failure_that_is_expected_is_told_in_one_line(monkeypatch):
    import sys
    import types

    from testbed import provider

    main = types.ModuleType("__main__")
    main.DynamicResourceProviderServicer = object
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(provider, "_connect", lambda: None)
    DisksProvider().configure(ConfigureRequest(None))

    try:
        raise TestbedError("no room")
    except TestbedError:
        assert main.traceback.format_exc() == "no room"
    try:
        raise ValueError("a bug")
    except ValueError:
        assert "Traceback" in main.traceback.format_exc()
