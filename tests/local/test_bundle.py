# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of K3s on the nodes of a testbed: stand-ins for their files, the real way there."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgctl import topology
from pkgctl.local import paths, removal
from pkgctl.local import testbed as local
from tests import releases
from tests.releases import LATER, VERSION

from .conftest import on_node, pkgctl

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible")
NODE = "edge-1"
IMAGES = "k3s-airgap-images-amd64.tar.zst"
# Names that no machine has, so that the links are ours wherever the tests run.
LINKS = ["kubectl-of-test", "ctr-of-test"]
PATIENCE = 240.0


@pytest.fixture(scope="module")
def place() -> Iterator[paths.Paths]:
    here = paths.paths(f"bundle-{os.getpid()}")
    try:
        local.up(topology.load("duo"), here)
        yield here
    finally:
        removal.down(here)


@pytest.fixture
def clean(place: paths.Paths, tmp_path: Path) -> Iterator[paths.Paths]:
    """Give a test a node without any release."""
    yield place
    on_node(place, NODE, "sh", "-c", "rm -rf /opt/test /data/images /data/bin")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return releases.bundle(tmp_path / "one")


def command(place: paths.Paths, bundle: Path | None, tree: Path, *words: str, **more: Any):
    """Return the ad hoc call of the module, and its environment."""
    folders = {
        "bin_dir": "/opt/test/bin",
        "link": "/opt/test/bin/k3s",
        "images_dir": "/data/images",
    }
    options = {**folders, "links": LINKS, **({"path": str(bundle)} if bundle else {}), **more}
    module = ["-m", "pkgctl.testbed.bundle", "-a", json.dumps(options), "--tree", str(tree)]
    environment = {**os.environ, "PKGCTL_TESTBED": place.name, "LC_ALL": "C.UTF-8"}
    return [str(ANSIBLE), NODE, *module, *words], environment


def bring(place: paths.Paths, bundle: Path | None, tree: Path, *words: str, **more: Any):
    """Return what the module reports."""
    line, environment = command(place, bundle, tree, *words, **more)
    done = subprocess.run(
        line,
        cwd=ROOT / "ansible",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    path = tree / NODE
    assert path.exists(), done.stdout + done.stderr
    report = json.loads(path.read_text())
    path.unlink()
    return {**report, "failed": done.returncode != 0}


def there(place: paths.Paths) -> list[str]:
    """Return what the node holds, each with its mode, its sum or its target."""
    script = "find /opt/test /data/images -printf '%p %m %s %i %T@ %C@ %l\\n' 2>/dev/null | sort"
    return on_node(place, NODE, "sh", "-c", script).splitlines()


BECOME = ("--become", "--become-method", "su")


@pytest.mark.parametrize("words", [(), BECOME], ids=["call", "module"])
def test_a_release_arrives_once_and_goes_again(clean, one, tmp_path, words):
    bringing = functools.partial(bring, clean, one, tmp_path / "tree", *words, activate=True)

    foreseen = bring(clean, one, tmp_path / "tree", "--check", "--diff", *words, activate=True)
    assert there(clean) == []
    first = bringing(version=VERSION)
    before = there(clean)
    second = bringing()

    assert foreseen["changed"] and first["changed"]
    assert foreseen["actions"] == first["actions"]
    assert (second["changed"], second["actions"]) == (False, [])
    assert there(clean) == before
    assert on_node(clean, NODE, f"/opt/test/bin/{LINKS[0]}") == f"k3s version {VERSION}\n"
    sums = {each["file"]: each["sha256"] for each in releases.lock(one)["files"]}
    shown = on_node(clean, NODE, "sha256sum", *(each["path"] for each in second["files"]))
    assert [line.split()[0] for line in shown.splitlines()] == [
        sums[f"amd64/{IMAGES}"],
        sums["amd64/k3s"],
    ]
    assert " ".join(before).count(" 644 1000 ") == 1
    gone = bring(clean, None, tmp_path / "tree", *words, state="absent")
    assert gone["changed"]
    assert [line.split()[:2] for line in there(clean)] == [
        *(["/data/images", "755"], ["/opt/test", "755"], ["/opt/test/bin", "755"])
    ]
    assert not bring(clean, None, tmp_path / "tree", *words, state="absent")["changed"]


def damage(bundle: Path, how: str) -> str:
    """Harm a bundle, and return what is to be said of it."""
    images = bundle / "amd64" / IMAGES
    lock = releases.lock(bundle)
    if how == "corrupted":
        images.write_bytes(b"!" + images.read_bytes()[1:])
        found = releases.sha256(images.read_bytes())
        return f"{images} has the sha256 {found}; its lock says {lock['files'][1]['sha256']}"
    if how == "cut":
        images.write_bytes(images.read_bytes()[:-1])
        return f"{images} has 999 bytes; its lock says 1000"
    if how == "missing":
        images.unlink()
        return f"{images} is not there; its lock names it"
    if how == "wrong sum":
        found = lock["files"][1]["sha256"]
        lock["files"][1]["sha256"] = "0" * 64
        (bundle / "bundle.lock.json").write_text(json.dumps(lock))
        return f"{images} has the sha256 {found}; its lock says {'0' * 64}"
    (bundle / "bundle.lock.json").unlink()
    return f"{bundle} is no bundle: there is no bundle.lock.json; make one by pkgctl cluster bundle"


@pytest.mark.parametrize("how", ["corrupted", "cut", "missing", "wrong sum", "no lock"])
def test_a_bundle_that_is_not_as_it_was_locked_changes_nothing(clean, one, tmp_path, how):
    two = releases.bundle(tmp_path / "two", LATER)
    bring(clean, one, tmp_path / "tree", activate=True)
    before = there(clean)
    said = damage(two, how)

    for words in ([], ["--check"]):
        report = bring(clean, two, tmp_path / "tree", *words, activate=True)
        assert (report["failed"], report["msg"]) == (True, said)

    assert there(clean) == before


def test_another_version_than_the_one_asked_for_changes_nothing(clean, one, tmp_path):
    report = bring(clean, one, tmp_path / "tree", version=LATER)

    assert report["msg"] == f"the bundle holds {VERSION}, not {LATER}"
    assert there(clean) == []


@pytest.mark.parametrize("words", [(), BECOME], ids=["call", "module"])
def test_a_disk_without_room_is_named_before_anything_is_sent(clean, tmp_path, words):
    # The disk of 64 MiB is sparse on this machine, and so is the archive.
    big = releases.bundle(tmp_path / "big", size=80 * 2**20)

    report = bring(clean, big, tmp_path / "tree", *words, activate=True)

    assert report["failed"]
    assert report["msg"].startswith("there is no room below /data: 81 MiB are needed, ")
    assert there(clean) == []


def test_a_controller_killed_while_it_sends_leaves_what_the_next_removes(clean, tmp_path):
    big = releases.bundle(tmp_path / "big", size=40 * 2**20)
    slow = pkgctl("perturb", f"node={NODE}", "cpu=20m", name=clean.name)
    assert slow.returncode == 0, slow.stderr
    line, environment = command(clean, big, tmp_path / "tree")
    process = subprocess.Popen(
        line,
        cwd=ROOT / "ansible",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with local.inside(clean, NODE):
            wait_for(lambda: any(map(size, Path("/data/images/.k3s-bundle.tmp").glob("*.part"))))
    finally:
        # The workers of Ansible are in sessions of their own.
        for pid in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    healed = pkgctl("heal", name=clean.name)
    assert healed.returncode == 0, healed.stderr
    left = [line.split()[0] for line in there(clean)]
    assert any(name.endswith(".part") for name in left)
    assert not [name for name in left if name.endswith((VERSION, ".zst", "k3s"))]

    report = bring(clean, big, tmp_path / "tree", activate=True)

    assert "remove /data/images/.k3s-bundle.tmp" in report["actions"]
    assert not [line for line in there(clean) if ".tmp" in line or ".part" in line]
    assert not bring(clean, big, tmp_path / "tree", activate=True)["changed"]


def descendants(parent: int) -> list[int]:
    done = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    found = [parent]
    for above in found:
        found += [pid for pid, ppid in pairs if ppid == above]
    return found[1:]


def size(path: Path) -> int:
    return path.stat().st_size


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def test_an_upgrade_is_staged_then_used_then_the_old_one_goes(clean, one, tmp_path):
    two = releases.bundle(tmp_path / "two", LATER)
    ask = ["/opt/test/bin/k3s"]
    bring(clean, one, tmp_path / "tree", activate=True)
    staged = bring(clean, two, tmp_path / "tree")
    assert (staged["active"], on_node(clean, NODE, *ask)) == (False, f"k3s version {VERSION}\n")

    used = bring(clean, two, tmp_path / "tree", activate=True)

    assert used["actions"] == [f"link /opt/test/bin/k3s to /opt/test/bin/k3s-{LATER}"]
    assert on_node(clean, NODE, *ask) == f"k3s version {LATER}\n"
    bring(clean, two, tmp_path / "tree", activate=True, prune=True)
    assert not [line for line in there(clean) if VERSION in line]


def test_a_release_goes_from_its_publisher_to_a_node(clean, tmp_path):
    published = tmp_path / "web" / "download" / VERSION
    releases.publish(published)
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        mirror = f"http://127.0.0.1:{server.server_port}/download"
        words = ("cluster", "bundle", VERSION, "--arch", "amd64", "--mirror", mirror)
        made = pkgctl(*words, cwd=tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (made.returncode, made.stdout) == (0, f"bundle/{VERSION}\n"), made.stderr

    report = bring(clean, tmp_path / "bundle" / VERSION, tmp_path / "tree", activate=True)

    assert report["changed"] and report["version"] == VERSION
    assert on_node(clean, NODE, "/opt/test/bin/k3s") == f"k3s version {VERSION}\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that says nothing of it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""
