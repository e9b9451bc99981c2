# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.programs import registry
from tests.unit.programs.starting import PATIENCE_SECONDS, Start, answering, command, run


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_an_artifact_arrives_whole(start: Start, tmp_path: Path, size: int) -> None:
    store = start("registry", "--port", 0)
    path = tmp_path / "web"

    done = run("fetch", f"http://127.0.0.1:{store.port}/artifacts/web?bytes={size}", path, size)

    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes() == (registry.block_of("web") * 50)[:size]


def test_an_older_file_is_replaced(start: Start, tmp_path: Path) -> None:
    store = start("registry", "--port", 0)
    path = tmp_path / "web"
    path.write_bytes(b"old")

    run("fetch", f"http://127.0.0.1:{store.port}/artifacts/web?bytes=5", path, 5)

    assert path.read_bytes() == registry.block_of("web")[:5]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", "9 bytes are offered, 4 are"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12", "2 bytes came, 4 are wanted"),
        (b"HTTP/1.1 200 OK\r\n\r\n12345", "5 bytes came, 4 are wanted"),
        (b"HTTP/1.1 200 OK\r\nX-Content-CRC32: 00000001\r\n\r\n1234", "the source says 00000001"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
        (b"nonsense", "no HTTP"),
        (b"", "no HTTP"),
    ],
)
def test_a_wrong_answer_leaves_nothing_and_is_named(
    tmp_path: Path, reply: bytes, said: str
) -> None:
    with answering(reply) as (port, _):
        done = run("fetch", f"http://127.0.0.1:{port}/artifacts/web", tmp_path / "web", 4)

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_a_checksum_is_taken_at_its_length(tmp_path: Path) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n1234") as (port, _):
        done = run("fetch", f"http://127.0.0.1:{port}/x", tmp_path / "web", 4)

    assert done.returncode == 0
    assert (tmp_path / "web").read_bytes() == b"1234"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1/x", "not a URL"),
        ("http://", "not a URL"),
        ("http://127.0.0.1:no/x", "not a URL"),
        ("http://127.0.0.1:{port}/x", "Connection refused"),
    ],
)
def test_a_source_out_of_reach_is_named(
    tmp_path: Path, free_port: int, url: str, said: str
) -> None:
    done = run("fetch", url.format(port=free_port), tmp_path / "web", 4)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run("fetch", "http://127.0.0.1:1/x", tmp_path / "file" / "web", 4)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "File exists" in done.stderr


def test_a_fetch_that_is_called_off_leaves_nothing(tmp_path: Path) -> None:
    with answering(None) as (port, _):
        arguments = command("fetch", f"http://127.0.0.1:{port}/x", tmp_path / "web", 4)
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_command_line_gets_the_usage() -> None:
    done = run("fetch", "http://x/", "path")

    assert (done.returncode, done.stderr) == (2, "usage: fetch.py URL PATH BYTES\n")
