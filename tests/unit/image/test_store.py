# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
import os

import pytest
from click.testing import CliRunner

from pkgctl import cli
from pkgctl.errors import MissingCapability, PkgctlError, SpecError
from pkgctl.image import find, store

SOME, OTHER = "0123456789abcdef", "0123aaaaaaaaaaaa"


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/pkgctl/images"


def put(shelf, fingerprint, age=0):
    folder = shelf / fingerprint
    folder.mkdir(parents=True)
    files = {}
    for name in store.FILES:
        content = f"{name} of {fingerprint}".encode()
        (folder / name).write_bytes(content)
        files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {
        "format": 1,
        "date": "2026-01-02T03:04:05+00:00",
        "kernel": "6.1.0-9-cloud-amd64",
        "cmdline": ["root=LABEL=x", "rw"],
        "packages": {"bash": "5"},
        "files": files,
    }
    (folder / store.MANIFEST).write_text(json.dumps(manifest))
    os.utime(folder / store.MANIFEST, (1e9 - age, 1e9 - age))
    return folder


def invoke(*arguments):
    return CliRunner().invoke(cli.cli, ["image", *arguments])


def test_without_an_image_it_is_said_how_to_get_one():
    with pytest.raises(MissingCapability, match="run pkgctl image build"):
        find("")
    with pytest.raises(MissingCapability, match="run pkgctl image build"):
        find(SOME)


def test_the_newest_is_found_or_the_one_that_is_named(shelf):
    put(shelf, SOME, age=0)
    put(shelf, OTHER, age=100)

    assert find("").fingerprint == SOME
    found = find(OTHER[:6])
    assert found.fingerprint == OTHER
    assert found.disk == shelf / OTHER / "disk.qcow2" and found.disk.is_file()
    assert found.kernel == shelf / OTHER / "vmlinuz"
    assert found.initrd == shelf / OTHER / "initrd.img"
    assert found.cmdline == ("root=LABEL=x", "rw") and found.format == "qcow2"


@pytest.mark.parametrize("spec", ["0123", "0", "ffff", "0123456789abcdee"])
def test_what_means_none_or_several_is_refused(shelf, spec):
    put(shelf, SOME)
    put(shelf, OTHER)

    with pytest.raises(SpecError, match="image"):
        find(spec)


@pytest.mark.parametrize("name", [*store.FILES, store.MANIFEST])
def test_an_image_that_is_not_whole_is_none(shelf, name):
    folder = put(shelf, SOME)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])

    assert store.built() == []

    (folder / name).unlink()
    assert store.built() == [] and store.get(SOME) is None


def test_work_in_progress_is_no_image(shelf):
    put(shelf, f".build-{SOME}-x")

    assert store.built() == []


def test_a_byte_that_has_changed_is_found(shelf):
    folder = put(shelf, SOME)
    store.verify(store.select(SOME))
    content = bytearray((folder / "vmlinuz").read_bytes())
    content[0] ^= 1
    (folder / "vmlinuz").write_bytes(content)

    with pytest.raises(PkgctlError, match=r"damaged: vmlinuz .* --force") as caught:
        store.verify(store.select(SOME))
    assert "\n" not in str(caught.value)


def test_a_users_own_qcow2_boots_by_itself(tmp_path):
    path = tmp_path / "mine.img"
    path.write_bytes(b"QFI\xfb" + bytes(600))

    found = find(str(path))

    assert (found.disk, found.kernel, found.initrd, found.format) == (path, None, None, "qcow2")
    path.write_bytes(b"QFI\xfb" + bytes(700))
    assert find(str(path)).fingerprint != found.fingerprint


def test_a_users_own_raw_disk_has_the_mark_of_a_boot_sector(tmp_path):
    path = tmp_path / "mine.raw"
    path.write_bytes(bytes(510) + b"\x55\xaa" + bytes(512))

    assert find(str(path)).format == "raw"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither a qcow2 image nor a raw disk"),
        (b"PK\x03\x04" + bytes(600), "neither a qcow2 image nor a raw disk"),
        (b"QFI\xfb\0\0\0\3" + b"\0\0\0\0\0\0\1\0" + bytes(600), "backing file"),
    ],
)
def test_a_file_that_is_no_whole_image_is_refused(tmp_path, content, words):
    path = tmp_path / "mine"
    path.write_bytes(content)

    with pytest.raises(SpecError, match=words):
        find(str(path))


@pytest.mark.parametrize("spec", ["/no/such.qcow2", "/"])
def test_a_path_that_is_no_file_is_refused_in_one_line(spec):
    with pytest.raises(SpecError, match="no image") as caught:
        find(spec)
    assert "\n" not in str(caught.value)


def test_images_are_listed_verified_and_removed_from_the_command_line(shelf):
    put(shelf, SOME)
    put(shelf, OTHER, age=5)

    listed = invoke("list")
    assert [line.split()[0] for line in listed.output.splitlines()[1:]] == [SOME, OTHER]
    assert [each["folder"] for each in json.loads(invoke("list", "-o", "json").output)] == [
        str(shelf / SOME),
        str(shelf / OTHER),
    ]
    assert invoke("verify").output.count("as it was built") == 2
    assert invoke("rm", OTHER[:8]).exit_code == 0
    assert [each.fingerprint for each in store.built()] == [SOME]
    assert [each.name for each in shelf.iterdir()] == [SOME]


@pytest.mark.parametrize("words", [["rm", SOME], ["verify"], ["verify", SOME]])
def test_commands_about_no_image_end_with_3(words):
    result = invoke(*words)

    assert result.exit_code == 3
    assert result.stderr == "pkgctl: no image is built yet; run pkgctl image build\n"
