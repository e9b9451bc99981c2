# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import bundling, landing, stamp
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from tests import releases
from tests.releases import LATER, VERSION

IMAGES = "k3s-airgap-images-amd64.tar.zst"


class Node:
    """A node whose folders are in a test's own, and the controller that sends what it lacks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.images = root / "var" / "images"
        self.link = self.bin / "k3s"
        self.sent: list[str] = []
        self.bundle = Path()

    def options(self, **more):
        known = bundling.BUNDLE["argument_spec"]
        options = {name: each.get("default") for name, each in known.items()}
        places = {"bin_dir": self.bin, "images_dir": self.images, "link": self.link}
        lock = releases.lock(self.bundle) if more.get("state") != "absent" else None
        return {**options, **{key: str(path) for key, path in places.items()}, "lock": lock, **more}

    def step(self, step, *, dry_run=False, **more):
        return bundling.bring(self.options(step=step, **more), dry_run=dry_run)

    def bring(self, bundle: Path, **more):
        """Do all steps, as the action does them."""
        self.bundle = bundle
        seen = self.step(bundling.LOOK, **more)
        self.sent = [each["file"] for each in seen["lacking"]]
        if seen["todo"]:
            self.step(bundling.PREPARE, **more)
            self.send(seen)
            self.step(bundling.INSTALL, **more)
        return seen

    def send(self, seen):
        for each in seen["lacking"]:
            shutil.copyfile(self.bundle / each["file"], each["part"])

    def there(self) -> dict[str, str]:
        """Return all that is there: what links point to, and the modes of files."""
        return {
            str(path.relative_to(self.root)): f"-> {path.readlink()}"
            if path.is_symlink()
            else f"{path.stat().st_mode & 0o777:o}"
            for path in sorted(self.root.rglob("*"))
            if path.is_symlink() or path.is_file()
        }


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(bundling, "_PATH", str(tmp_path / "usr"))
    machine(monkeypatch, "x86_64")
    return Node(tmp_path / "node")


def machine(monkeypatch, name: str) -> None:
    monkeypatch.setattr(bundling.os, "uname", lambda: SimpleNamespace(machine=name))


@pytest.fixture
def one(tmp_path):
    return releases.bundle(tmp_path / "one")


@pytest.fixture
def two(tmp_path):
    return releases.bundle(tmp_path / "two", LATER)


def refused(call) -> str:
    with pytest.raises(DisturbanceError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


STAGED = {
    f"bin/k3s-{VERSION}": "755",
    f"var/images/{VERSION}-{IMAGES}": "644",
    "bin/.k3s-bundle.json": "644",
}
ACTIVE = {
    **STAGED,
    "bin/k3s": f"-> k3s-{VERSION}",
    **{f"bin/{name}": "-> k3s" for name in ("kubectl", "crictl", "ctr")},
}


# What comes of it


def test_a_release_is_staged_without_being_used(node, one):
    told = node.bring(one)

    assert told["changed"] and not told["active"]
    assert told["actions"] == [
        f"put {node.images}/{VERSION}-{IMAGES}",
        f"put {node.bin}/k3s-{VERSION}",
    ]
    assert node.there() == STAGED


def test_the_report_names_the_release_and_each_file_with_its_sum(node, one):
    told = node.bring(one, activate=True)
    files = releases.lock(one)["files"]

    assert (told["version"], told["arch"], told["active"]) == (VERSION, "amd64", True)
    assert (told["binary"], told["sha256"]) == (f"{node.bin}/k3s-{VERSION}", files[0]["sha256"])
    assert [(each["kind"], each["sha256"], each["size"]) for each in told["files"]] == [
        ("images", files[1]["sha256"], 1000),
        ("binary", files[0]["sha256"], files[0]["size"]),
    ]


def test_an_active_release_has_its_links_and_the_second_time_nothing_differs(node, one):
    first = node.bring(one, activate=True)
    before = {path: os.lstat(path).st_ino for path in node.root.rglob("*")}
    second = node.bring(one, activate=True)

    assert first["changed"]
    assert node.there() == ACTIVE
    assert (second["changed"], second["todo"], second["actions"]) == (False, False, [])
    assert {path: os.lstat(path).st_ino for path in node.root.rglob("*")} == before
    assert (second["files"], second["active"]) == (first["files"], True)
    assert (node.bin / "k3s").read_bytes() == (one / "amd64" / "k3s").read_bytes()


def test_in_check_mode_the_same_is_told_and_nothing_done(node, one):
    node.bundle = one
    foreseen = node.step(bundling.LOOK, dry_run=True, activate=True)
    node.step(bundling.PREPARE, dry_run=True, activate=True)
    assert not node.root.exists()

    assert foreseen == node.bring(one, activate=True)
    assert node.step(bundling.INSTALL, dry_run=True, activate=True)["changed"] is False


def test_the_diff_has_files_by_their_sums_and_links_by_their_ends(node, one, two):
    node.bring(one, activate=True)
    shown = node.bring(two, activate=True)["diff"]

    assert shown[1]["after"] == f"sha256 {releases.lock(two)['files'][0]['sha256']}\n"
    assert (shown[2]["before"], shown[2]["after"]) == (
        f"{node.bin}/k3s-{VERSION}\n",
        f"{node.bin}/k3s-{LATER}\n",
    )


def test_a_later_release_lies_beside_until_it_is_activated_and_going_back_sends_nothing(
    node, one, two
):
    node.bring(one, activate=True)
    node.bring(two)
    assert (node.bin / "k3s").readlink() == Path(f"k3s-{VERSION}")

    told = node.bring(two, activate=True)
    assert (told["actions"], node.sent) == ([f"link {node.link} to {node.bin}/k3s-{LATER}"], [])
    node.bring(one, activate=True)

    assert node.sent == []
    assert (node.bin / "k3s").readlink() == Path(f"k3s-{VERSION}")
    assert len(list(node.images.iterdir())) == 2


def test_a_link_elsewhere_names_the_whole_path(node, one):
    node.link = node.root / "sbin" / "k3s"

    node.bring(one, activate=True)

    assert node.link.readlink() == node.bin / f"k3s-{VERSION}"
    assert node.link.with_name("ctr").readlink() == Path("k3s")
    assert not node.bring(one, activate=True)["changed"]


def test_names_that_others_have_taken_stay_theirs(node, one, tmp_path):
    node.bin.mkdir(parents=True)
    (node.bin / "kubectl").write_text("theirs")
    (node.bin / "crictl").symlink_to("/opt/gone/crictl")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "ctr").touch(0o755)

    node.bring(one, activate=True)

    assert (node.bin / "kubectl").read_text() == "theirs"
    assert (node.bin / "crictl").readlink() == Path("/opt/gone/crictl")
    assert not (node.bin / "ctr").exists()
    assert not node.bring(one, activate=True)["changed"]


def test_a_binary_that_is_no_link_is_not_touched(node, one):
    node.bin.mkdir(parents=True)
    node.link.write_text("an installation of somebody else's")
    node.bundle = one

    assert refused(lambda: node.bring(one, activate=True)) == (
        f"{node.link} is no link; move it away, or name another link"
    )
    assert node.there() == {"bin/k3s": "644"}
    assert node.bring(one)["changed"]


# What is there already


def test_files_that_are_right_are_taken_over_and_remembered(node, one):
    (node.bin).mkdir(parents=True)
    shutil.copy(one / "amd64" / "k3s", node.bin / f"k3s-{VERSION}")

    told = node.bring(one)

    assert node.sent == [f"amd64/{IMAGES}"]
    assert f"set the mode of {node.bin}/k3s-{VERSION}" in told["actions"]
    assert node.there() == STAGED


def test_only_what_is_not_as_remembered_is_read_again(node, one, monkeypatch):
    node.bring(one)
    read = []
    real = stamp.hash_of
    monkeypatch.setattr(stamp, "hash_of", lambda path: read.append(path) or real(path))
    node.bring(one)
    assert read == []
    images = node.images / f"{VERSION}-{IMAGES}"
    images.touch()

    told = node.bring(one)

    # Read, found right, and remembered, which nobody could measure.
    assert set(read) == {images}
    assert (told["changed"], told["todo"]) == (False, True)
    assert not node.bring(one)["todo"]


@pytest.mark.parametrize("harm", ["cut", "other", "link", "gone", "mode"])
def test_what_was_changed_is_put_right(node, one, harm):
    node.bring(one, activate=True)
    path = node.bin / f"k3s-{VERSION}"
    content = path.read_bytes()
    if harm == "cut":
        path.write_bytes(content[:-1])
    elif harm == "other":
        path.write_bytes(content[:-1] + b"!")
    elif harm == "link":
        path.unlink()
        path.symlink_to(one / "amd64" / "k3s")
    elif harm == "gone":
        path.unlink()
    else:
        path.chmod(0o600)

    told = node.bring(one, activate=True)

    assert told["changed"]
    assert node.sent == ([] if harm == "mode" else ["amd64/k3s"])
    assert node.there() == ACTIVE
    assert path.read_bytes() == content


def test_a_change_that_hides_its_time_is_seen(node, one):
    node.bring(one)
    path = node.images / f"{VERSION}-{IMAGES}"
    seen = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert node.bring(one)["changed"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "files": [1]}'])
def test_a_stamp_that_says_nothing_costs_reading_and_no_more(node, one, text):
    node.bring(one)
    (node.bin / stamp.STAMP).write_text(text)

    told = node.bring(one)

    assert (told["changed"], node.sent) == (False, [])
    assert json.loads((node.bin / stamp.STAMP).read_text())["format"] == 1


def test_a_folder_in_the_place_of_a_file_is_refused(node, one):
    (node.bin / f"k3s-{VERSION}").mkdir(parents=True)

    assert refused(lambda: node.bring(one)) == f"{node.bin}/k3s-{VERSION} is a folder; move it away"


# What goes


def test_older_releases_go_only_when_asked_and_others_files_never(node, one, two):
    node.bring(one, activate=True)
    (node.images / "mine.tar").touch()
    (node.bin / "k3s-of-mine").touch()
    node.bring(two, activate=True)
    assert (node.bin / f"k3s-{VERSION}").exists()

    told = node.bring(two, activate=True, prune=True)

    assert told["actions"] == [
        f"remove {node.bin}/k3s-{VERSION}",
        f"remove {node.images}/{VERSION}-{IMAGES}",
    ]
    assert set(node.there()) == {
        *("bin/.k3s-bundle.json", f"bin/k3s-{LATER}", f"var/images/{LATER}-{IMAGES}"),
        *("bin/k3s", "bin/kubectl", "bin/crictl", "bin/ctr"),
        *("bin/k3s-of-mine", "var/images/mine.tar"),
    }
    assert not node.bring(two, activate=True, prune=True)["changed"]


def test_the_release_in_use_is_not_pruned_while_another_is_staged(node, one, two):
    node.bring(one, activate=True)

    node.bring(two, prune=True)

    assert (node.bin / "k3s").resolve().name == f"k3s-{VERSION}"
    assert (node.images / f"{VERSION}-{IMAGES}").exists()


def test_absent_leaves_nothing_of_ours_and_all_of_others(node, one, two):
    node.bring(one, activate=True)
    node.bring(two)
    (node.images / "mine.tar").touch()
    (node.images / landing.STAGE).mkdir()
    (node.bin / "kubectl").unlink()
    (node.bin / "kubectl").symlink_to("/opt/kubectl")

    foreseen = node.step(bundling.INSTALL, dry_run=True, state="absent")
    done = node.step(bundling.INSTALL, state="absent")

    assert foreseen == done
    assert done["changed"]
    assert node.there() == {"bin/kubectl": "-> /opt/kubectl", "var/images/mine.tar": "644"}
    assert not (node.images / landing.STAGE).exists()
    assert not node.step(bundling.INSTALL, state="absent")["changed"]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("passwd", "v1.34.4+k3s1"),
        ("k3s-mine", "mine"),
        ("v1.34.4+k3s1x", "v1.34.4+k3s1"),
        ("ssh-key", "ssh"),
    ],
)
def test_a_stamp_makes_nobody_remove_files_of_another_name(node, name, version):
    node.bin.mkdir(parents=True)
    theirs = node.bin / name
    theirs.touch()
    text = json.dumps({"format": 1, "files": {str(theirs): {"version": version}}})
    (node.bin / stamp.STAMP).write_text(text)

    node.step(bundling.INSTALL, state="absent")

    assert theirs.exists()


def test_absent_leaves_a_link_that_points_elsewhere(node):
    node.bin.mkdir(parents=True)
    node.link.symlink_to("/opt/k3s")

    assert not node.step(bundling.INSTALL, state="absent")["changed"]
    assert node.link.is_symlink()


# What goes wrong


def test_a_part_that_is_wrong_or_did_not_arrive_leaves_all_as_it_was(node, one, two):
    node.bring(one, activate=True)
    before = node.there()
    node.bundle = two
    seen = node.step(bundling.LOOK, activate=True)
    node.step(bundling.PREPARE, activate=True)

    said = refused(lambda: node.step(bundling.INSTALL, activate=True))
    assert said == f"amd64/{IMAGES} did not arrive on the node"
    node.send(seen)
    binary = next(each for each in seen["lacking"] if each["file"] == "amd64/k3s")
    Path(binary["part"]).write_bytes(b"cut")
    said = refused(lambda: node.step(bundling.INSTALL, activate=True))
    assert said.startswith(
        f"amd64/k3s arrived on the node with the sha256 {releases.sha256(b'cut')}; its lock says "
    )

    node.step(bundling.TIDY, activate=True)
    assert node.there() == before


def test_what_a_killed_call_has_left_goes_with_the_next(node, one):
    node.bundle = one
    node.step(bundling.PREPARE)
    (node.images / landing.STAGE / "half.part").write_bytes(b"x" * 100)
    (node.bin / f"{stamp.STAMP}.part").touch()
    (node.bin / ".ctr.k3s-bundle").symlink_to("k3s")

    told = node.bring(one, activate=True)

    assert f"remove {node.images / landing.STAGE}" in told["actions"]
    assert node.there() == ACTIVE
    assert [path.name for path in node.images.iterdir()] == [f"{VERSION}-{IMAGES}"]


def test_left_overs_alone_are_removed_too(node, one):
    node.bring(one)
    (node.bin / landing.STAGE).mkdir()

    assert node.bring(one)["actions"] == [f"remove {node.bin / landing.STAGE}"]
    assert not (node.bin / landing.STAGE).exists()
    assert not node.bring(one)["changed"]


@pytest.mark.parametrize("moment", range(1, 6))
def test_killed_at_any_rename_the_next_call_ends_where_it_should(
    node, one, two, monkeypatch, moment
):
    node.bring(one, activate=True)
    renames = []
    real = Path.replace

    def replace(self, target):
        renames.append(target)
        if len(renames) == moment:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", replace)
        node.bring(two, activate=True)
    # Whatever the link points to is whole at any time.
    assert (node.bin / "k3s").read_bytes() in [
        (folder / "amd64" / "k3s").read_bytes() for folder in (one, two)
    ]
    node.bring(two, activate=True, prune=True)

    assert sorted(node.there()) == sorted(path.replace(VERSION, LATER) for path in ACTIVE)
    node.step(bundling.INSTALL, state="absent")
    assert node.there() == {}


def test_short_room_is_refused_before_anything_is_sent(node, one, monkeypatch):
    room(monkeypatch, 2 * 2**20)
    node.bring(one)
    room(monkeypatch, 1001)
    (node.images / f"{VERSION}-{IMAGES}").unlink()

    for step in (bundling.LOOK, bundling.PREPARE):
        assert refused(lambda step=step: node.step(step)) == (
            f"there is no room below {node.images}: 2 MiB are needed, 0 MiB are free"
        )
    assert set(node.there()) == {f"bin/k3s-{VERSION}", "bin/.k3s-bundle.json"}


def room(monkeypatch, free: int) -> None:
    monkeypatch.setattr(
        bundling.os, "statvfs", lambda path: SimpleNamespace(f_bavail=free, f_frsize=1)
    )


def test_what_is_left_over_counts_as_room(node, tmp_path, monkeypatch):
    bundle = releases.bundle(tmp_path / "big", size=100_000)
    (node.images / landing.STAGE).mkdir(parents=True)
    (node.images / landing.STAGE / "half.part").write_bytes(b"x" * 90_000)
    room(monkeypatch, 2**20 + 20_000)

    assert node.bring(bundle)["changed"]


def test_a_failure_of_the_system_is_one_line_with_its_path(node, one):
    node.root.mkdir()
    node.bin.write_text("a file")

    said = refused(lambda: node.bring(one))

    assert said.startswith(str(node.bin))
    assert said.endswith("Not a directory")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"bin_dir": "bin"}, "bin_dir: 'bin' is no path from the root"),
        ({"link": "k3s"}, "link: 'k3s' is no path from the root"),
        ({"links": ["../x"]}, "links: '../x' is no name of a further link"),
        ({"links": ["k3s"]}, "links: 'k3s' is no name of a further link"),
        ({"lock": None}, "lock: what the bundle holds did not come along"),
    ],
)
def test_wrong_options_are_refused(node, one, more, error):
    node.bundle = one

    assert refused(lambda: node.step(bundling.LOOK, **more)) == error


# Processors


@pytest.mark.parametrize(
    ("name", "arch"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm")],
)
def test_a_node_gets_the_files_for_its_processor(node, tmp_path, monkeypatch, name, arch):
    machine(monkeypatch, name)

    told = node.bring(releases.bundle(tmp_path / arch, arch=arch))

    assert told["arch"] == arch
    assert told["binary"] == f"{node.bin}/k3s-{VERSION}"


def test_a_processor_without_files_is_refused(node, one, monkeypatch):
    machine(monkeypatch, "aarch64")
    assert refused(lambda: node.bring(one)) == ("the bundle has no file for arm64, only for amd64")
    machine(monkeypatch, "riscv64")
    assert refused(lambda: node.bring(one)).startswith("K3s is not made for riscv64, only for x86")
