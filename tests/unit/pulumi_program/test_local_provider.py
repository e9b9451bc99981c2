# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import pickle
import sys
import threading

import pytest
from pulumi.dynamic.dynamic import serialize_provider

from pkgctl.errors import TestbedError
from testbed.local import editor as editors
from testbed.local import provider as providers

PLACE = {"testbed": "lab", "name": "edge-1", "__provider": "gASV"}
NODE = {
    **PLACE,
    "number": 3.0,
    "site": "edge",
    "cpu": "500m",
    "pids": 512.0,
    "disks": {"data": {"size": "64Mi", "mount": "/data"}},
}
LINK = {**PLACE, "name": "edge->cloud", "from": "edge", "to": "cloud", "rate": "5mbit"}
ALL = [
    providers.TestbedProvider,
    providers.SiteProvider,
    providers.NodeProvider,
    providers.LinkProvider,
]


class Asked:
    """Stands for the process that changes testbeds."""

    def __init__(self, found=None):
        self.requests = []
        self.found = found

    def ask(self, op, **fields):
        self.requests.append({"op": op, **fields})
        if op == "look":
            return {"found": self.found}
        return {"address": "10.77.0.3"} if fields.get("kind") == "node" else {}


@pytest.fixture
def asked(monkeypatch):
    known = Asked()
    monkeypatch.setattr(providers, "editor", lambda: known)
    return known


@pytest.mark.parametrize("provider", ALL)
def test_a_stack_keeps_a_provider_by_its_name_and_no_secret(provider):
    kept = base64.b64decode(serialize_provider(provider()))

    assert b"testbed.local.provider" in kept
    assert len(kept) < 200
    assert type(pickle.loads(kept)) is provider
    assert provider.serialize_as_secret_always is False


def diff(provider, before, **changes):
    found = provider().diff("id", before, {**before, **changes})
    return found.changes, found.replaces


@pytest.mark.parametrize(
    ("change", "replaced"),
    [
        ({"cpu": "250m"}, []),
        ({"site": "cloud"}, []),
        ({"labels": {"a": "b"}}, []),
        ({"disks": {}}, ["disks"]),
        ({"access": {"up": "5mbit"}}, ["access"]),
        ({"testbed": "other"}, ["testbed"]),
    ],
)
def test_a_node_changes_in_place_but_for_its_disks_and_its_access(change, replaced):
    assert diff(providers.NodeProvider, NODE, **change) == (True, replaced)


def test_what_only_says_where_a_node_goes_or_is_learned_is_no_change():
    before = {**NODE, "address": "10.77.0.3", "address6": ""}

    assert diff(providers.NodeProvider, before, number=7) == (False, [])
    assert providers.NodeProvider().diff("id", before, NODE).changes is False


def test_a_link_changes_in_place():
    assert diff(providers.LinkProvider, LINK, rate="20mbit") == (True, [])
    assert diff(providers.LinkProvider, LINK, rate=None, down=True) == (True, [])
    assert diff(providers.LinkProvider, LINK) == (False, [])


def test_drift_that_was_seen_is_a_change_until_it_is_mended():
    seen = {**NODE, "drift": ["edge-1 -> edge-4: down, not 5mbit"]}

    assert providers.NodeProvider().diff("id", seen, NODE).changes is True


def test_a_node_is_made_of_plain_values_and_tells_its_address(asked):
    made = providers.NodeProvider().create({**NODE, "address": None})

    assert made.id == "lab/edge-1"
    assert made.outs["address"] == "10.77.0.3"
    assert "__provider" not in made.outs
    assert asked.requests == [
        {
            "op": "edit",
            "testbed": "lab",
            "kind": "node",
            "name": "edge-1",
            "values": {
                "number": 3,
                "site": "edge",
                "cpu": "500m",
                "pids": 512,
                "disks": {"data": {"size": "64Mi", "mount": "/data"}},
            },
        }
    ]


def test_a_piece_is_taken_away_by_its_name(asked):
    providers.LinkProvider().delete("lab/edge->cloud", LINK)

    assert asked.requests == [
        {"op": "edit", "testbed": "lab", "kind": "link", "name": "edge->cloud", "values": None}
    ]


def test_the_testbed_is_made_empty_and_removed_whole(asked):
    props = {"testbed": "lab", "topology": "duo", "registry": "cloud-1", "__provider": "gASV"}

    made = providers.TestbedProvider().create(props)
    providers.TestbedProvider().delete(made.id, props)

    assert made.id == "lab"
    assert asked.requests == [
        {"op": "make", "testbed": "lab", "values": {"topology": "duo", "registry": "cloud-1"}},
        {"op": "remove", "testbed": "lab"},
    ]


def test_what_is_gone_is_read_as_gone(asked):
    found = providers.NodeProvider().read("lab/edge-1", NODE)

    assert (found.id, found.outs) == ("", {})


def test_what_is_there_is_read_as_inputs_too_so_that_the_next_preview_shows_it(asked):
    asked.found = {"from": "edge", "to": "cloud", "rate": "1mbit"}

    found = providers.LinkProvider().read("lab/edge->cloud", LINK)

    assert found.id == "lab/edge->cloud"
    assert found.outs["rate"] == found.inputs["rate"] == "1mbit"
    assert found.outs["name"] == "edge->cloud"


def test_an_address_is_no_input(asked):
    asked.found = {"site": "edge", "address": "10.77.0.3", "address6": ""}

    found = providers.NodeProvider().read("lab/edge-1", NODE)

    assert "address" in found.outs
    assert "address" not in found.inputs


@pytest.fixture
def started(monkeypatch):
    """Start an editor whose process runs a program of the test's own."""
    made = []

    def start(program):
        whole = editors.subprocess.Popen
        monkeypatch.setattr(
            editors.subprocess,
            "Popen",
            lambda _words, **options: whole([sys.executable, "-S", "-c", program], **options),
        )
        made.append(editors.Editor())
        monkeypatch.setattr(editors.subprocess, "Popen", whole)
        return made[-1]

    yield start
    for each in made:
        each.close()


BACKWARDS = """
import json, sys
both = [json.loads(sys.stdin.readline()) for _ in range(2)]
for each in reversed(both):
    print(json.dumps({"number": each["number"], "result": {"name": each["name"]}}), flush=True)
"""


def test_each_thread_gets_its_own_answer(started):
    editor = started(BACKWARDS)
    found = {}

    def ask(name):
        found[name] = editor.ask("edit", name=name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("a", "b")]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=30)

    assert found == {"a": {"name": "a"}, "b": {"name": "b"}}


def test_a_refusal_is_one_line(started):
    refusing = """
import json, sys
number = json.loads(sys.stdin.readline())["number"]
print(json.dumps({"number": number, "error": "no such site"}), flush=True)
"""
    with pytest.raises(TestbedError, match=r"^no such site$"):
        started(refusing).ask("edit")


def test_a_process_that_ends_answers_whoever_waits(started):
    with pytest.raises(TestbedError, match="the process that changes testbeds ended"):
        started("import sys; sys.stdin.readline()").ask("edit")
