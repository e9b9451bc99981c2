# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import multiprocessing
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.plugin_utils import bundles
from tests import releases

SUM = "a" * 64
ENTRY = {"arch": "amd64", "kind": "binary", "file": "amd64/k3s", "sha256": SUM, "size": 5}
IMAGES = {**ENTRY, "kind": "images", "file": "amd64/images.tar.zst"}
GOOD = {"format": 1, "version": releases.VERSION, "files": [ENTRY, IMAGES]}


@pytest.fixture
def folder(tmp_path):
    return releases.bundle(tmp_path / "bundle")


def test_a_lock_is_read_and_written_as_it_was(folder):
    found = bundles.load(folder)
    before = (folder / bundles.LOCK).read_text()

    bundles.write(folder, found)

    assert found.version == releases.VERSION
    assert [each.kind for each in found.of("amd64")] == ["binary", "images"]
    assert found.of("arm64") == ()
    assert json.loads((folder / bundles.LOCK).read_text()) == json.loads(before)
    assert sorted(path.name for path in folder.iterdir()) == ["amd64", bundles.LOCK]


def test_what_was_never_downloaded_has_no_source():
    assert bundles.parse(json.dumps(GOOD)).files[0].source == ""


def changed(path: list, value: object) -> dict:
    """Return the good lock with one value changed; None takes it away."""
    lock = copy.deepcopy(GOOD)
    place = lock
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return lock


@pytest.mark.parametrize(
    ("lock", "error"),
    [
        ("{", "it is no JSON: "),
        ("[" * 100_000, "it is no JSON: "),
        ([], "format must be 1, not []"),
        (changed(["format"], 2), "format must be 1, not 2"),
        (changed(["format"], None), "format must be 1, not None"),
        (changed(["more"], 1), "the lock has the unknown key 'more'"),
        (changed(["version"], None), "None is no version of K3s; write one such as v1.34.4+k3s1"),
        (changed(["version"], "v1.34.4"), "'v1.34.4' is no version of K3s"),
        (changed(["version"], "v1.34.4+k3s1/.."), "'v1.34.4+k3s1/..' is no version of K3s"),
        (changed(["files"], None), "files must be a list of at least one file"),
        (changed(["files"], []), "files must be a list of at least one file"),
        (changed(["files", 0], "k3s"), "files[0] is no mapping"),
        (changed(["files", 0, "mode"], 7), "files[0] has the unknown key 'mode'"),
        (changed(["files", 0, "file"], None), "files[0].file must be a text, not None"),
        (changed(["files", 0, "source"], 1), "files[0].source must be a text, not 1"),
        (changed(["files", 0, "arch"], "x86_64"), "files[0].arch must be one of amd64, arm64, arm"),
        (changed(["files", 0, "kind"], "script"), "files[0].kind must be one of binary, images"),
        (changed(["files", 0, "sha256"], "a" * 63), "files[0].sha256 must be 64 small hexadecimal"),
        (changed(["files", 0, "sha256"], "A" * 64), "files[0].sha256 must be 64 small hexadecimal"),
        (changed(["files", 0, "size"], "5"), "files[0].size must be a number of bytes, not '5'"),
        (changed(["files", 0, "size"], True), "files[0].size must be a number of bytes, not True"),
        (changed(["files", 0, "size"], 0), "files[0].size must be a number of bytes, not 0"),
        (changed(["files", 0, "size"], None), "files[0].size must be a number of bytes, not None"),
        (changed(["files", 0, "file"], "../k3s"), "files[0].file must be a path in the folder"),
        (changed(["files", 0, "file"], "a/../../k3s"), "files[0].file must be a path in the fold"),
        (changed(["files", 0, "file"], "/etc/shadow"), "files[0].file must be a path in the fold"),
        (changed(["files", 0, "file"], "a//k3s"), "files[0].file must be a path in the folder"),
        (changed(["files", 0, "file"], ""), "files[0].file must be a path in the folder, not ''"),
        (changed(["files", 0, "file"], "a/k3s\n"), "files[0].file must be a path in the folder"),
        (changed(["files", 1, "file"], "images.zip"), "files[1].file: K3s imports no 'images.zip'"),
        (changed(["files", 1], ENTRY), "there are two files for amd64 called binary"),
        (
            changed(["files"], [ENTRY, IMAGES, {**IMAGES, "file": "more/images.tar.zst"}]),
            "there are two files for amd64 called images.tar.zst",
        ),
        (changed(["files"], [IMAGES]), "there is no binary for amd64"),
    ],
)
def test_a_lock_that_cannot_be_used_is_refused_in_one_line(tmp_path, lock, error):
    text = lock if isinstance(lock, str) else json.dumps(lock)
    (tmp_path / bundles.LOCK).write_text(text)

    with pytest.raises(bundles.BundleError) as caught:
        bundles.load(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / bundles.LOCK}: {error}")
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*ENTRY, *GOOD, "x"]), inner, max_size=4)
    ),
)


@given(
    path=st.sampled_from([(key,) for key in GOOD] + [("files", 0, key) for key in ENTRY]), to=VALUES
)
def test_whatever_a_lock_holds_it_is_read_or_refused(path, to):
    try:
        found = bundles.parse(json.dumps(changed(list(path), to)))
    except bundles.BundleError as error:
        assert "\n" not in str(error)
    else:
        assert bundles.parse(json.dumps(found.as_dict())) == found


def test_a_folder_without_a_lock_says_how_to_make_one(tmp_path):
    with pytest.raises(bundles.BundleError, match="make one by pkgctl cluster bundle"):
        bundles.load(tmp_path)


def test_a_lock_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / bundles.LOCK).mkdir()

    with pytest.raises(bundles.BundleError, match="cannot be read: Is a directory"):
        bundles.load(tmp_path)


def test_another_version_than_the_one_asked_for_is_refused(folder):
    lock = bundles.load(folder)

    bundles.wanted(lock, None)
    bundles.wanted(lock, releases.VERSION)
    with pytest.raises(bundles.BundleError) as caught:
        bundles.wanted(lock, releases.LATER)

    assert str(caught.value) == "the bundle holds v1.34.4+k3s1, not v1.35.1+k3s1"


def test_no_lock_that_could_not_be_read_again_is_written(folder):
    lock = bundles.load(folder)
    before = (folder / bundles.LOCK).read_text()

    with pytest.raises(bundles.BundleError):
        bundles.write(folder, bundles.Lock("v1", lock.files))

    assert (folder / bundles.LOCK).read_text() == before


def test_files_that_are_as_their_lock_says_pass(folder):
    bundles.verify(folder, bundles.load(folder).files)


def refused(folder) -> str:
    with pytest.raises(bundles.BundleError) as caught:
        bundles.verify(folder, bundles.load(folder).files)
    return str(caught.value)


def test_a_file_that_is_missing_short_or_another_is_named_with_what_was_found(folder):
    images = folder / "amd64" / "k3s-airgap-images-amd64.tar.zst"
    good = images.read_bytes()
    said = releases.lock(folder)["files"][1]["sha256"]

    images.write_bytes(good[:-1])
    assert refused(folder) == f"{images} has 999 bytes; its lock says 1000"
    images.write_bytes(good[:-1] + b"!")
    found = releases.sha256(images.read_bytes())
    assert refused(folder) == f"{images} has the sha256 {found}; its lock says {said}"
    images.unlink()
    assert refused(folder) == f"{images} is not there; its lock names it"
    images.mkdir()
    assert refused(folder) == f"{images} is no file"


def test_a_size_that_is_wrong_costs_no_reading(folder, monkeypatch):
    (folder / "amd64" / "k3s").write_bytes(b"short")
    monkeypatch.setattr(bundles, "hash_of", lambda path: pytest.fail("it was read"))

    assert "has 5 bytes" in refused(folder)


@pytest.fixture
def readings(monkeypatch):
    """Return the paths that are hashed from now on."""
    found = []
    real = bundles.hash_of
    monkeypatch.setattr(bundles, "_known", {})
    monkeypatch.setattr(bundles, "hash_of", lambda path: found.append(path.name) or real(path))
    return found


def test_a_file_is_hashed_once_until_it_changes(tmp_path, readings):
    path = tmp_path / "file"
    path.write_bytes(b"one")

    first = [bundles.sum_of(path) for _ in range(3)]
    seen = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert first == [releases.sha256(b"one")] * 3
    assert bundles.sum_of(path) == releases.sha256(b"two")
    assert readings == ["file", "file"]


def test_processes_leave_their_sums_to_one_another(tmp_path, readings, monkeypatch):
    path, store = tmp_path / "file", tmp_path / "store"
    path.write_bytes(b"one")
    bundles.sum_of(path, store)
    for _ in range(2):  # As in another process, which knows nothing yet.
        monkeypatch.setattr(bundles, "_known", {})
        assert bundles.sum_of(path, store) == releases.sha256(b"one")
    path.write_bytes(b"another")
    monkeypatch.setattr(bundles, "_known", {})

    assert bundles.sum_of(path, store) == releases.sha256(b"another")
    assert readings == ["file", "file"]


def read_in_a_process(path, store, readings):
    real = bundles.hash_of

    def hash_of(each):
        with readings.open("a") as file:
            file.write("x")
        time.sleep(0.3)  # The others have come by then.
        return real(each)

    bundles.hash_of = hash_of
    bundles._known.clear()
    bundles.sum_of(path, store)


def test_of_processes_that_come_at_once_one_reads(tmp_path):
    path, readings = tmp_path / "file", tmp_path / "readings"
    path.write_bytes(b"x" * 2**20)
    fork = multiprocessing.get_context("fork")
    workers = [
        fork.Process(target=read_in_a_process, args=(path, tmp_path / "store", readings))
        for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 8
    assert readings.read_text() == "x"
