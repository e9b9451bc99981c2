# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import fcntl
import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import layers
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import NodeError

STORED = {"base": {"cpu": 1}, "slow": {"cpu": 0.5}, "tight": {"memory": 5}}


def test_a_layer_is_set_over_the_others_and_the_given_store_stays():
    before = dict(STORED)

    fresh = layers.changed(STORED, "slow", {"cpu": 0.1})

    assert fresh == {**STORED, "slow": {"cpu": 0.1}}
    assert before == STORED


def test_a_layer_is_taken_away_alone_and_one_that_is_not_there_is_no_change():
    assert layers.changed(STORED, "slow", None) == {"base": {"cpu": 1}, "tight": {"memory": 5}}
    assert layers.changed(STORED, "nobody", None) == STORED


def test_healing_all_leaves_the_base():
    assert layers.changed(STORED, None, None) == {"base": {"cpu": 1}}


def test_a_store_comes_back_as_it_was_saved_in_its_order(tmp_path):
    path = tmp_path / "quota.json"

    layers.save(path, STORED)

    assert list(layers.load(path).items()) == list(STORED.items())
    assert [each.name for each in tmp_path.iterdir()] == ["quota.json"]


def test_a_store_that_is_not_there_is_empty(tmp_path):
    assert layers.load(tmp_path / "quota.json") == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\xff", "null"])
def test_a_broken_store_is_refused_with_its_path(tmp_path, text):
    path = tmp_path / "quota.json"
    path.write_text(text, encoding="latin-1")

    with pytest.raises(NodeError, match=r"quota\.json is not a store of layers"):
        layers.load(path)


def test_a_store_in_a_folder_is_refused_with_its_path(tmp_path):
    (tmp_path / "quota.json").mkdir()

    with pytest.raises(NodeError, match=r"quota\.json is not a store"):
        layers.load(tmp_path / "quota.json")


def test_a_save_that_fails_leaves_the_old_store(tmp_path):
    path = tmp_path / "quota.json"
    layers.save(path, STORED)

    with pytest.raises(TypeError):
        layers.save(path, {"base": {"cpu": object()}})

    assert layers.load(path) == STORED


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_store_and_is_an_error_in_words(tmp_path, monkeypatch):
    path = tmp_path / "quota.json"
    layers.save(path, STORED)
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(NodeError, match=r"quota\.json cannot be written: No space left"):
        layers.save(path, {"base": {}})

    assert layers.load(path) == STORED
    assert [each.name for each in tmp_path.iterdir()] == ["quota.json"]


def test_a_store_of_a_node_that_is_gone_cannot_be_held_or_marked(tmp_path):
    path = tmp_path / "gone" / "quota.json"

    for hold in (layers.locked, layers.working):
        with pytest.raises(NodeError, match="No such file"), hold(path):
            pytest.fail("it cannot be held")


def test_a_save_replaces_the_file_so_that_a_reader_keeps_the_whole_old_one(tmp_path):
    path = tmp_path / "quota.json"
    layers.save(path, STORED)

    with path.open() as reader:
        layers.save(path, {})
        assert "slow" in reader.read()


def test_while_one_holds_a_store_nobody_else_can(tmp_path):
    path = tmp_path / "quota.json"

    with layers.locked(path):
        other = os.open(path.with_suffix(".lock"), os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
