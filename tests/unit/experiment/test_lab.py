# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pkgctl.errors import PlayError
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


def body(*active):
    return SimpleNamespace(active=active)
