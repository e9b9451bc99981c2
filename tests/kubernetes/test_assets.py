# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs are built once, whole or not at all, and what is lacking is named."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import needs

from . import assets

GO = """#!/bin/sh
[ "$1" = env ] && { echo "go1.30.1"; exit; }
echo called >>"$CALLS"
[ -n "$BROKEN" ] && { echo "no such module" >&2; exit 1; }
while [ "$1" != -o ]; do shift; done
echo program >"$2/hyperkube"
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A Go that takes no time, an empty cache, and the file with a line for each build."""
    go = tmp_path / "go"
    go.write_text(GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv(assets.GIVEN, raising=False)
    monkeypatch.setattr(assets, "CACHE", tmp_path / "cache")
    return tmp_path / "calls"


def test_those_who_come_together_build_once(calls):
    with ThreadPoolExecutor(4) as several:
        found = set(several.map(assets.path, ["kubelet"] * 4))

    assert {path.read_text() for path in found} == {"program\n"}
    assert calls.read_text() == "called\n"


def test_a_build_that_fails_says_why_and_leaves_nothing(calls, monkeypatch):
    monkeypatch.setenv("BROKEN", "1")

    with pytest.raises(RuntimeError, match="no such module"):
        assets.path("kubelet")

    assert [path.name for path in assets.CACHE.iterdir()] == ["build.lock"]


def test_what_a_killed_build_left_goes_with_the_next(calls):
    left = assets.CACHE / "part-dead"
    left.mkdir(parents=True)

    assert assets.path("kubelet").is_file()
    assert not left.exists()


def test_whoever_cannot_build_is_told_what_is_lacking(calls, monkeypatch):
    monkeypatch.setattr(assets, "which", lambda program: None)

    lacking = assets.lacking("node")

    assert any("Go 1.24 or newer" in each for each in lacking)
    assert any("Debian package containerd" in each for each in lacking)
    assert any("Debian package runc" in each for each in lacking)


def test_nobody_waits_for_a_build_that_was_not_asked_for(calls, monkeypatch):
    monkeypatch.setattr(assets, "lacking", lambda *_: [])
    needs.lacking_kubernetes.cache_clear()
    for name in ("CI", needs.INSIST):
        monkeypatch.delenv(name, raising=False)
    try:
        assert "./run test kubernetes" in needs.lacking_kubernetes("control-plane")
        needs.lacking_kubernetes.cache_clear()
        monkeypatch.setenv("CI", "true")
        assert needs.lacking_kubernetes("control-plane") == ""
    finally:
        needs.lacking_kubernetes.cache_clear()
