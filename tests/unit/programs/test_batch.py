# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import resource

import pytest

from tests.unit.programs.starting import PATIENCE_SECONDS, Start, answering, run


def test_a_job_takes_its_input_and_gives_its_output(start: Start) -> None:
    store = start("registry", "--port", 0)
    base = f"http://127.0.0.1:{store.port}"

    done = run(
        *("batch", "--cpu", 0.01, "--in", f"{base}/artifacts/data?bytes=500000"),
        *("--out", f"{base}/objects/result", "--out-bytes", 200_000, "--memory", 1 << 20),
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_output_is_as_long_as_asked() -> None:
    with answering(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n") as (port, heard):
        url = f"http://127.0.0.1:{port}/objects/result"
        done = run("batch", "--cpu", 0, "--out", url, "--out-bytes", 10)

    assert done.returncode == 0
    assert heard[0].startswith(b"PUT /objects/result HTTP/1.1\r\n")
    assert b"Content-Length: 10\r\n" in heard[0]


def test_a_job_says_ready_and_ends_by_itself(start: Start) -> None:
    job = start("batch", "--cpu", 0.05)

    assert job.notice == ["PKGCTL_JOB=job-1", "READY=1"]
    assert job.end() == (0, "")


def test_a_job_uses_the_cpu_time_asked_for() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    run("batch", "--cpu", 0.3)

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert 0.3 <= used < 0.4


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234", "4 of 9 bytes came"),
        (b"nonsense", "no HTTP"),
    ],
)
def test_an_input_that_cannot_be_had_fails_the_job(reply: bytes, said: str) -> None:
    with answering(reply) as (port, _):
        url = f"http://127.0.0.1:{port}/artifacts/data"
        done = run("batch", "--cpu", 0, "--in", url)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr
    assert url in done.stderr


def test_an_output_that_nobody_takes_fails_the_job(free_port: int) -> None:
    done = run("batch", "--cpu", 0, "--out", f"http://127.0.0.1:{free_port}/objects/x")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Connection refused" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["--cpu"], ["--cpu", "-1"], ["--cpu", "nan"], ["--cpu", "1", "--out-bytes", "-1"]],
)
def test_a_wrong_command_line_gets_the_usage_in_one_line(arguments: list[str]) -> None:
    done = run("batch", *arguments)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "usage: batch.py --cpu SECONDS" in done.stderr


def test_sigterm_ends_a_job_in_the_middle(start: Start) -> None:
    job = start("batch", "--cpu", 1000)

    job.process.terminate()

    job.process.communicate(timeout=PATIENCE_SECONDS)
    assert job.process.returncode == -15
