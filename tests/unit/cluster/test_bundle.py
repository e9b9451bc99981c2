# SPDX-License-Identifier: GPL-3.0-or-later
"""Making bundles, by the command line, of a publisher on this machine and of files at hand."""

from __future__ import annotations

import http.server
import json
import os
import pty
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from pkgctl import cli
from pkgctl.cluster import bundle as making
from pkgctl.errors import PkgctlError, SpecError
from pkgctl.nodeside import bundles
from tests import releases
from tests.releases import LATER, VERSION

ROOT = Path(__file__).parents[3]
BINARY, IMAGES, SUMS = "k3s", "k3s-airgap-images-amd64.tar.zst", "sha256sum-amd64.txt"


@dataclass
class Publisher:
    """A web server of releases, and what it was asked for."""

    folder: Path
    server: http.server.ThreadingHTTPServer
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    cut: int = 0  # bytes after which a file's connection is ended
    knows_ranges: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def fetched(self) -> list[str]:
        """Return what it was asked for since the last time."""
        names = [path.rpartition("/")[2] for path in self.asked]
        self.asked.clear()
        return names


@pytest.fixture
def publisher(tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found.asked.append(self.path)
            found.ranges.append(self.headers["Range"])
            path = found.folder / self.path.lstrip("/").replace("%2B", "+")
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            start = 0
            if found.knows_ranges and self.headers["Range"]:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            is_cut = found.cut and not path.name.endswith(".txt")
            self.wfile.write(content[start : found.cut if is_cut else None])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Publisher(tmp_path / "web", server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def download(publisher, tmp_path):
    """Return a function that downloads a release as a user does."""

    def call(*words, version=VERSION):
        arguments = ("cluster", "bundle", version, "--mirror", publisher.url, *words)
        if "--arch" not in words:
            arguments += ("--arch", "amd64")
        return CliRunner().invoke(cli.cli, [*arguments, "--to", str(tmp_path / "bundle")])

    return call


def check(folder: Path, version: str = VERSION) -> bundles.Lock:
    """Make sure that a bundle is whole, and return its lock."""
    lock = bundles.load(folder)
    bundles.verify(folder, lock.files)
    assert lock.version == version
    assert not list(folder.rglob("*.part"))
    return lock


# From a publisher


def test_a_release_is_downloaded_checked_and_locked(publisher, download, tmp_path):
    releases.publish(publisher.folder / VERSION)

    result = download()

    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'bundle'}\n")
    assert result.stderr == f"downloading {BINARY}\ndownloading {IMAGES}\n"
    binary, images = check(tmp_path / "bundle").files
    assert (binary.kind, binary.file) == ("binary", "amd64/k3s")
    assert (images.kind, images.file) == ("images", f"amd64/{IMAGES}")
    assert images.source == f"{publisher.url}/v1.34.4%2Bk3s1/{IMAGES}"
    assert publisher.asked[0] == f"/v1.34.4%2Bk3s1/{SUMS}"


def test_what_is_there_is_not_fetched_again(publisher, download, tmp_path):
    releases.publish(publisher.folder / VERSION)
    download()
    publisher.fetched()

    again = download()
    assert (again.exit_code, publisher.fetched()) == (0, [])
    (tmp_path / "bundle" / "amd64" / BINARY).write_bytes(b"another")
    mended = download()

    assert (mended.exit_code, publisher.fetched()) == (0, [SUMS, BINARY])
    check(tmp_path / "bundle")


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_was_cut_goes_on_where_it_ended(
    publisher, download, tmp_path, knows_ranges
):
    releases.publish(publisher.folder / VERSION)
    publisher.knows_ranges = knows_ranges
    publisher.cut = 400

    failed = download()
    assert failed.exit_code == 1
    assert failed.stderr.endswith(f"{IMAGES} cannot be had: it ended after 400 bytes\n")
    assert not (tmp_path / "bundle" / bundles.LOCK).exists()
    publisher.cut = 0
    publisher.fetched()
    done = download()

    assert (done.exit_code, publisher.fetched()) == (0, [SUMS, IMAGES])
    assert publisher.ranges[-1] == "bytes=400-"
    check(tmp_path / "bundle")


@pytest.mark.parametrize("left", [1000, 1200])
def test_what_is_left_of_another_download_is_found_out_by_its_sum(
    publisher, download, tmp_path, left
):
    releases.publish(publisher.folder / VERSION)
    part = tmp_path / "bundle" / "amd64" / f"{IMAGES}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * left)

    assert "has the sha256" in download().stderr
    assert download().exit_code == 0
    check(tmp_path / "bundle")


def test_a_whole_part_is_taken(publisher, download, tmp_path):
    files = releases.publish(publisher.folder / VERSION)
    part = tmp_path / "bundle" / "amd64" / f"{IMAGES}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(files[IMAGES])

    assert download().exit_code == 0
    check(tmp_path / "bundle")


@pytest.mark.parametrize(("arch", "binary"), [("arm64", "k3s-arm64"), ("arm", "k3s-armhf")])
def test_another_processor_joins_the_same_bundle(publisher, download, tmp_path, arch, binary):
    releases.publish(publisher.folder / VERSION)
    releases.publish(publisher.folder / VERSION, arch=arch)
    download()

    assert download("--arch", arch).exit_code == 0

    lock = check(tmp_path / "bundle")
    assert lock.of(arch)[0].file == f"{arch}/{binary}"
    assert {each.arch for each in lock.files} == {"amd64", arch}
    assert download("--arch", arch, "--arch", "amd64").exit_code == 0


def test_images_come_in_the_best_way_that_they_are_packed(publisher, download, tmp_path):
    folder = publisher.folder / VERSION
    releases.publish(folder)
    packed = IMAGES.replace(".zst", ".gz")
    (folder / IMAGES).rename(folder / packed)
    sums = folder / SUMS
    sums.write_text(sums.read_text().replace(IMAGES, packed))

    assert download().exit_code == 0
    assert check(tmp_path / "bundle").files[1].file == f"amd64/{packed}"


def said(result, code: int = 1) -> str:
    """Return the one line of a failure."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("pkgctl: ")
    return last.removeprefix("pkgctl: ")


def test_a_file_that_is_not_as_listed_is_refused(publisher, download, tmp_path):
    folder = publisher.folder / VERSION
    listed = releases.sha256(releases.publish(folder)[BINARY])
    (folder / BINARY).write_bytes(b"tampered")

    assert said(download()) == (
        f"{publisher.url}/v1.34.4%2Bk3s1/k3s has the sha256 {releases.sha256(b'tampered')}; "
        f"the release's list says {listed}"
    )
    assert [path.name for path in (tmp_path / "bundle").rglob("*")] == ["amd64"]


def on_terminal(*words: str, folder: Path) -> tuple[int, str]:
    """Return the exit code of a command, and what it shows on a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "pkgctl", "cluster", "bundle", VERSION, "--arch", "amd64", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    return done.returncode, shown


@pytest.mark.parametrize("name", [BINARY, IMAGES])
def test_a_file_without_a_sum_is_refused(publisher, download, tmp_path, name):
    folder = publisher.folder / VERSION
    releases.publish(folder)
    lines = (folder / SUMS).read_text().splitlines()
    (folder / SUMS).write_text("\n".join(line for line in lines if not line.endswith(f" {name}")))

    assert said(download()) == f"{publisher.url}/v1.34.4%2Bk3s1/{SUMS} has no line for {name}"
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<html>not found</html>", "is no list of sums"),
        ("", "is no list of sums"),
        (f"{'a' * 64}  k3s\n{'b' * 64}  k3s\n", "has two sums for k3s"),
    ],
)
def test_a_list_that_is_none_is_refused(publisher, download, text, error):
    releases.publish(publisher.folder / VERSION)
    (publisher.folder / VERSION / SUMS).write_text(text)

    assert said(download()) == f"{publisher.url}/v1.34.4%2Bk3s1/{SUMS} {error}"


def test_a_release_that_is_not_there_is_one_line(publisher, download):
    assert said(download(version=LATER)) == (
        f"{publisher.url}/v1.35.1%2Bk3s1/{SUMS} cannot be had: 404 Not Found"
    )


def test_a_network_out_of_reach_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens.
        mirror = f"http://127.0.0.1:{taken.getsockname()[1]}"
        words = ["cluster", "bundle", VERSION, "--arch", "amd64", "--mirror", mirror]
        result = CliRunner().invoke(cli.cli, [*words, "--to", str(tmp_path / "bundle")])

    assert said(result) == f"{mirror}/v1.34.4%2Bk3s1/{SUMS} cannot be had: Connection refused"
    assert not (tmp_path / "bundle").exists()


def test_a_host_without_a_name_is_one_line(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(PkgctlError) as caught:
        making.download(VERSION, ["amd64"], tmp_path, progress=print)

    assert str(caught.value) == (
        f"{making.RELEASES}/v1.34.4%2Bk3s1/{SUMS} cannot be had: "
        "Temporary failure in name resolution"
    )


def test_a_mirror_that_is_no_url_is_bad_usage(tmp_path):
    with pytest.raises(SpecError, match="--mirror: unknown url type: 'nowhere/"):
        making.download(VERSION, ["amd64"], tmp_path, mirror="nowhere", progress=print)


@pytest.mark.parametrize("version", ["v1.34.4", "1.34.4+k3s1", "latest", "../v1.34.4+k3s1"])
def test_a_version_that_is_none_is_bad_usage(publisher, download, version):
    error = f"{version!r} is no version of K3s; write one such as v1.34.4+k3s1"

    assert said(download(version=version), 2) == error
    assert publisher.asked == []


def test_a_folder_of_another_release_is_not_mixed(publisher, download, tmp_path):
    releases.publish(publisher.folder / VERSION)
    download()

    assert said(download(version=LATER), 2) == (
        f"{tmp_path / 'bundle'} is the bundle of {VERSION}; choose another folder"
    )
    check(tmp_path / "bundle")


def test_a_folder_that_cannot_be_made_is_one_line(publisher, download, tmp_path):
    releases.publish(publisher.folder / VERSION)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "amd64").write_text("a file")

    assert said(download()) == f"{tmp_path / 'bundle' / 'amd64'} cannot be made: File exists"


def test_on_a_terminal_progress_is_one_line_a_file(publisher, tmp_path):
    releases.publish(publisher.folder / VERSION)

    code, shown = on_terminal("--mirror", publisher.url, folder=tmp_path)

    assert code == 0
    assert shown == f"\r{BINARY}: 0 of 0 MiB\r\n\r{IMAGES}: 0 of 0 MiB\r\n"
    check(tmp_path / "bundle" / VERSION)


def test_on_a_terminal_a_failure_has_a_line_of_its_own(publisher, tmp_path):
    releases.publish(publisher.folder / VERSION)
    publisher.cut = 400

    code, shown = on_terminal("--mirror", publisher.url, folder=tmp_path)

    assert code == 1
    assert shown.splitlines()[-2:] == [
        f"\r{IMAGES}: 0 of 0 MiB".removeprefix("\r"),
        f"pkgctl: {publisher.url}/v1.34.4%2Bk3s1/{IMAGES} cannot be had: it ended after 400 bytes",
    ]


# Of files at hand


def collect(source: Path, *words: str, version: str = VERSION):
    return CliRunner().invoke(
        cli.cli, ["cluster", "bundle", version, "--from", str(source), *words]
    )


def test_files_at_hand_are_locked_where_they_are(tmp_path):
    releases.publish(tmp_path / "files")
    releases.publish(tmp_path / "files", arch="arm64")

    result = collect(tmp_path / "files")

    assert (result.exit_code, result.output) == (0, f"{tmp_path / 'files'}\n")
    lock = check(tmp_path / "files")
    assert [each.file for each in lock.files] == [
        *(BINARY, IMAGES),
        *("k3s-arm64", "k3s-airgap-images-arm64.tar.zst"),
    ]
    assert {each.source for each in lock.files} == {""}


def test_files_at_hand_are_copied_when_a_folder_is_named(tmp_path):
    releases.publish(tmp_path / "files")

    for _ in range(2):
        assert collect(tmp_path / "files", "--to", str(tmp_path / "bundle")).exit_code == 0

    assert [each.file for each in check(tmp_path / "bundle").files] == [
        *("amd64/k3s", f"amd64/{IMAGES}")
    ]
    assert not (tmp_path / "files" / bundles.LOCK).exists()


def test_files_without_a_list_of_sums_are_locked_as_they_are(tmp_path):
    releases.publish(tmp_path)
    (tmp_path / SUMS).unlink()

    assert collect(tmp_path).exit_code == 0
    check(tmp_path)


def test_files_that_are_not_as_listed_are_refused(tmp_path):
    listed = releases.sha256(releases.publish(tmp_path)[IMAGES])
    (tmp_path / IMAGES).write_bytes(b"tampered")

    assert said(collect(tmp_path)) == (
        f"{tmp_path / IMAGES} has the sha256 {releases.sha256(b'tampered')}; {SUMS} says {listed}"
    )
    (tmp_path / SUMS).write_text(f"{'a' * 64}  other\n")
    assert said(collect(tmp_path)) == f"{tmp_path / SUMS} has no line for {BINARY}"
    assert not (tmp_path / bundles.LOCK).exists()


@pytest.mark.parametrize(("missing", "named"), [(IMAGES, IMAGES), (BINARY, BINARY)])
def test_a_file_that_is_missing_is_named(tmp_path, missing, named):
    releases.publish(tmp_path)
    (tmp_path / missing).unlink()

    assert said(collect(tmp_path, "--arch", "amd64"), 2) == f"{tmp_path} has no {named}"


def test_a_folder_without_a_binary_is_refused(tmp_path):
    assert said(collect(tmp_path), 2).startswith(f"{tmp_path} has no binary of K3s: k3s")


def test_a_mirror_beside_files_at_hand_is_bad_usage(tmp_path):
    assert "--mirror has no effect beside --from" in said(
        collect(tmp_path, "--mirror", "http://localhost"), 2
    )


def test_the_processors_of_the_option_are_those_of_the_nodes():
    from pkgctl.cli import cluster_bundle
    from pkgctl.nodeside import bundling

    assert cluster_bundle._ARCHITECTURES == bundling.ARCHITECTURES


def test_a_lock_names_all_that_a_reader_wants(tmp_path):
    releases.publish(tmp_path)
    collect(tmp_path)

    found = json.loads((tmp_path / bundles.LOCK).read_text())

    assert found["files"][0] == {
        "arch": "amd64",
        "kind": "binary",
        "file": "k3s",
        "sha256": releases.sha256((tmp_path / "k3s").read_bytes()),
        "size": (tmp_path / "k3s").stat().st_size,
        "source": "",
    }
