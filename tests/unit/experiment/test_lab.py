# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pkgctl.errors import ClusterError, PlayError
from pkgctl.experiment import disturb, lab


class Backend:
    """Stands in for a testbed's agent: which steps are armed on which timeline."""

    timelines: dict[str, list[str]]
    reach = SimpleNamespace(sampling=0.2)

    def __init__(self, *_, **__):
        self.jobs = {}

    def samples(self, _):
        return self

    def remove(self, _):
        pass

    def close(self):
        pass

    def drop_timeline(self, timeline):
        self.timelines.pop(timeline, None)


@pytest.fixture
def timelines(monkeypatch):
    made = {"experiment-1": ["of one that was killed"]}
    monkeypatch.setattr(Backend, "timelines", made, raising=False)
    monkeypatch.setattr(lab, "LocalBackend", Backend)
    monkeypatch.setattr(disturb, "words", lambda body: dict.fromkeys(body.active))
    monkeypatch.setattr(disturb, "in_force", lambda _: [])
    monkeypatch.setattr(disturb, "heal", lambda *_: None)

    def arm(body, timeline, *_):
        for name in body.active:
            if name == "refused":
                raise PlayError("perturb.yml", {"edge-1": "no"})
            made.setdefault(timeline, []).append(name)

    monkeypatch.setattr(disturb, "arm", arm)
    return made


def test_a_run_meets_only_what_its_own_cell_has_armed(timelines):
    here = lab.Lab(None, Path())
    one, other, broken = body("one"), body("other"), body("early", "refused")

    assert timelines[here.arm(one)] == ["one"]
    with pytest.raises(PlayError):
        here.arm(broken)
    here.recover()
    assert timelines == {}
    assert timelines[here.arm(other)] == ["other"]
    with pytest.raises(PlayError):
        here.arm(broken)
    here.close()

    assert timelines == {}


def test_without_its_cluster_a_testbed_is_left_as_it_was(timelines):
    """The first backend is had, and no other."""
    backends = [Backend()]

    def backend(*_, **__):
        if not backends:
            raise ClusterError("the API server does not answer")
        return backends.pop()

    here = lab.Lab(None, Path(), SimpleNamespace(backend=backend))
    assert timelines[here.arm(body("one"))] == ["one"]

    with pytest.raises(ClusterError):
        here.recover()
    here.close()

    assert timelines == {}


def test_pods_that_cannot_be_removed_keep_nothing_else_from_being_left(timelines, monkeypatch):
    healed = []
    monkeypatch.setattr(disturb, "heal", lambda *_: healed.append("healed"))
    here = lab.Lab(None, Path())
    here.arm(body("one"))

    def refuse(_):
        raise ClusterError("pods do not go")

    monkeypatch.setattr(here.backend, "remove", refuse)

    with pytest.raises(ClusterError):
        here.close()

    assert healed == ["healed"] and timelines == {}


def body(*active):
    return SimpleNamespace(active=active)


@pytest.mark.parametrize(("keep", "left"), [(False, 1), (True, 0)])
def test_a_cluster_that_was_used_is_left_as_it_was(keep, left):
    calls = []
    cluster = SimpleNamespace(leave=lambda: calls.append("leave"))
    wishes = SimpleNamespace(paths=None, maker=None, cluster=cluster, keep=keep, force=False)

    with pytest.raises(KeyError), lab.testbed_of(None, wishes, None):
        raise KeyError

    assert len(calls) == left
