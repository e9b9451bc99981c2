# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.events import Events


class Later:
    """A loop that acts when the test says so."""

    def __init__(self):
        self._actions = []

    def at(self, _, action):
        self._actions.append(action)

    def run(self):
        for action in self._actions:
            action()
        self._actions.clear()


class Listener:
    def __init__(self):
        self.connected = True
        self.heard = []

    def send(self, event):
        self.heard.append(event["n"])


@pytest.fixture
def loop():
    return Later()


@pytest.fixture
def events(loop):
    return Events(loop)


def test_a_latecomer_hears_what_it_missed_in_its_order_and_nothing_twice(events, loop):
    client = Listener()
    events.tell({"n": 1})
    events.tell({"n": 2})

    assert events.stream(client, {"since": 1}) == {"seq": 2}
    events.tell({"n": 3})
    assert client.heard == []
    loop.run()
    events.tell({"n": 4})

    assert client.heard == [2, 3, 4]


def test_who_says_nothing_else_hears_what_is_to_come(events, loop):
    client = Listener()
    events.tell({"n": 1})
    events.stream(client, {})
    loop.run()
    events.tell({"n": 2})

    assert client.heard == [2]


def test_leases_are_renewed_while_one_listens_who_asked_for_it(events, loop):
    quiet, keen = Listener(), Listener()
    events.stream(quiet, {})
    loop.run()
    assert not events.is_renewing()

    events.stream(keen, {"renew": True})
    loop.run()
    assert events.is_renewing()

    keen.connected = False
    assert not events.is_renewing()
