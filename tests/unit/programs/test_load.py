# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.programs import load
from tests.unit.programs.starting import PATIENCE_SECONDS, Start, Started, answering, run

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Row = dict[str, Any]


class Generator:
    """A load generator under way, and the wire by which it is told what to do."""

    def __init__(self, started: Started, folder: Path, stack: ExitStack) -> None:
        self.started = started
        self.out = folder / "out.jsonl"
        self.wire = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.wire.connect(str(folder / "control"))

    def tell(self, op: str, **fields: object) -> None:
        self.wire.send(json.dumps({"op": op, **fields}).encode())

    def aim(self, *ports: int, service: str = "web", policy: str = "round-robin") -> None:
        endpoints = [
            {
                "replica": f"{service}-{number}",
                "node": f"n{number}",
                "host": "127.0.0.1",
                "port": port,
            }
            for number, port in enumerate(ports)
        ]
        self.tell("endpoints", service=service, endpoints=endpoints, policy=policy)

    def go(self) -> None:
        self.tell("start", t0=time.monotonic())

    def written(self) -> list[Row]:
        whole = self.out.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def rows(self) -> list[Row]:
        """Wait for the end and return all rows in the order of the plan."""
        assert self.started.end() == (0, "")
        return sorted(self.written(), key=lambda row: row["intended"])


Generate = Callable[..., Generator]


@pytest.fixture
def generate(start: Start, tmp_path: Path) -> Iterator[Generate]:
    with ExitStack() as stack:

        def begin(requests: Sequence[Sequence[object]], **settings: object) -> Generator:
            plan = {"timeout": PATIENCE_SECONDS, "requests": requests, **settings}
            (tmp_path / "plan.json").write_text(json.dumps(plan))
            paths = [f"{tmp_path}/{name}" for name in ("plan.json", "out.jsonl", "control")]
            started = start("load", "--plan", paths[0], "--out", paths[1], "--control", paths[2])
            return Generator(started, tmp_path, stack)

        yield begin


@pytest.fixture
def web(start: Start) -> Started:
    return start("service", "--port", 0)


def evenly(count: int, gap: float, service: str = "web", in_bytes: int = 10) -> list[list[object]]:
    return [[number * gap, service, 0.0, in_bytes, 100] for number in range(count)]


def test_each_request_gets_its_row(generate: Generate, web: Started) -> None:
    generator = generate(evenly(200, 0.001))

    generator.aim(web.port)
    generator.go()

    rows = generator.rows()
    assert [row["intended"] for row in rows] == [number * 0.001 for number in range(200)]
    assert {row["status"] for row in rows} == {"ok"}
    assert set(rows[0]) == {
        *("service", "replica", "node", "intended", "sent", "first_byte", "done"),
        *("status", "bytes_in", "bytes_out", "error"),
    }
    assert all(row["intended"] <= row["sent"] <= row["first_byte"] <= row["done"] for row in rows)
    assert (rows[0]["replica"], rows[0]["node"]) == ("web-0", "n0")
    assert (rows[0]["bytes_in"], rows[0]["bytes_out"], rows[0]["error"]) == (10, 100, None)


def test_bodies_of_any_size_pass(generate: Generate, web: Started) -> None:
    generator = generate([[0.0, "web", 0.0, 3_000_000, 5_000_000], [0.0, "web", 0.0, 0, 0]])

    generator.aim(web.port)
    generator.go()

    assert [row["status"] for row in generator.rows()] == ["ok", "ok"]


def test_the_plan_need_not_be_in_order(generate: Generate, web: Started) -> None:
    generator = generate(list(reversed(evenly(20, 0.002))))

    generator.aim(web.port)
    generator.go()

    assert {row["status"] for row in generator.rows()} == {"ok"}


def test_requests_leave_on_time_though_no_answer_comes(generate: Generate) -> None:
    with answering(*[None] * 30) as (port, _):
        generator = generate(evenly(30, 0.005), timeout=0.5)
        generator.aim(port)
        generator.go()
        rows = generator.rows()

    # Had one waited for an answer, it would have been sent at another's timeout.
    assert all(row["sent"] - row["intended"] < 0.4 for row in rows)
    assert {(row["status"], row["done"], row["first_byte"]) for row in rows} == {
        ("timeout", None, None)
    }
    assert rows[0]["error"] == "no answer within 0.5 s"


def test_requests_wait_for_a_first_endpoint(generate: Generate, web: Started) -> None:
    generator = generate(evenly(5, 0.001))
    generator.go()

    generator.aim(web.port)

    assert {row["status"] for row in generator.rows()} == {"ok"}


def test_a_request_without_any_endpoint_times_out(generate: Generate, web: Started) -> None:
    generator = generate([*evenly(3, 0.001, service="absent"), *evenly(3, 0.001)], timeout=0.3)

    generator.aim(web.port)
    generator.go()

    rows = generator.rows()
    assert Counter((row["service"], row["status"]) for row in rows) == {
        ("absent", "timeout"): 3,
        ("web", "ok"): 3,
    }
    lost = next(row for row in rows if row["service"] == "absent")
    assert (lost["replica"], lost["sent"]) == (None, None)
    assert lost["error"] == "no endpoint: no answer within 0.3 s"


def test_no_request_is_lost_when_endpoints_come_and_go(generate: Generate, start: Start) -> None:
    ports = [start("service", "--port", 0).port for _ in range(3)]
    generator = generate(evenly(400, 0.001))
    generator.go()

    with suppress(ConnectionRefusedError):  # All may be over before the last change.
        for number in range(20):
            generator.aim(*ports[: number % 4])
            wait_for_rows(generator, number * 10)
        generator.aim(*ports)

    rows = generator.rows()
    assert len(rows) == 400
    assert {row["status"] for row in rows} == {"ok"}


def test_a_replica_that_is_ended_after_it_is_unlisted_loses_nothing(
    generate: Generate, start: Start
) -> None:
    leaving, staying = start("service", "--port", 0), start("service", "--port", 0)
    generator = generate(evenly(450, 0.004))
    generator.aim(leaving.port, staying.port)
    generator.go()
    wait_for_rows(generator, 50)

    generator.tell(
        "endpoints",
        service="web",
        endpoints=[{"replica": "web-1", "node": "n1", "host": "127.0.0.1", "port": staying.port}],
    )
    wait_until_only(generator, "web-1")
    leaving.process.send_signal(signal.SIGTERM)

    rows = generator.rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["replica"] for row in rows} == {"web-0", "web-1"}


def test_round_robin_is_even(generate: Generate, start: Start) -> None:
    ports = [start("service", "--port", 0).port for _ in range(3)]
    generator = generate(evenly(30, 0.001))

    generator.aim(*ports)
    generator.go()

    assert Counter(row["replica"] for row in generator.rows()) == {f"web-{n}": 10 for n in range(3)}


def test_nearest_takes_the_first_in_the_list() -> None:
    service = service_of("a", "b", policy="nearest")

    assert {service.choose(random.Random(1)).replica for _ in range(10)} == {"a"}


def test_random_takes_each_equally_often() -> None:
    service, rng = service_of("a", "b", "c", policy="random"), random.Random(1)

    counts = Counter(service.choose(rng).replica for _ in range(3000))

    # Five standard deviations of a binomial with n = 3000, p = 1/3.
    assert all(abs(count - 1000) < 130 for count in counts.values())


def test_a_refused_connection_is_an_error(generate: Generate, free_port: int) -> None:
    generator = generate(evenly(3, 0.001))

    generator.aim(free_port)
    generator.go()

    rows = generator.rows()
    assert {(row["status"], row["error"]) for row in rows} == {
        ("error", "cannot connect: Connection refused")
    }
    assert rows[0]["replica"] == "web-0"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "503"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "does not tell its length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "invalid literal"),
        (b"nonsense\r\n\r\n", "nonsense"),
        (bytes(20_000), "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "before the answer was complete"),
        (b"", "before the answer was complete"),
    ],
)
def test_a_wrong_answer_is_an_error(generate: Generate, reply: bytes, said: str) -> None:
    with answering(reply) as (port, _):
        generator = generate(evenly(1, 0.0))
        generator.aim(port)
        generator.go()
        (row,) = generator.rows()

    assert (row["status"], row["bytes_out"]) == ("error", 0)
    assert said in row["error"]


def test_a_request_that_crossed_the_closing_of_a_kept_connection_is_sent_again(
    generate: Generate,
) -> None:
    with answering(GOOD, GOOD) as (port, heard):
        generator = generate([[0.0, "web", 0.0, 0, 2], [0.05, "web", 0.0, 0, 2]])
        generator.aim(port)
        generator.go()
        rows = generator.rows()

    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert len(heard) == 2


def test_a_fresh_connection_that_is_closed_is_not_tried_again(generate: Generate) -> None:
    with answering(b"", GOOD) as (port, heard):
        generator = generate(evenly(1, 0.0))
        generator.aim(port)
        generator.go()
        (row,) = generator.rows()

    assert row["status"] == "error"
    assert len(heard) == 1


def test_more_connections_than_allowed_are_an_error(generate: Generate) -> None:
    with answering(*[None] * 2) as (port, _):
        generator = generate(evenly(3, 0.0), timeout=0.3, connections=2)
        generator.aim(port)
        generator.go()
        rows = generator.rows()

    assert Counter(row["status"] for row in rows) == {"timeout": 2, "error": 1}
    assert "all 2 connections are busy" in {row["error"] for row in rows}


@pytest.mark.parametrize("way", ["message", "signal"])
def test_a_stop_gives_every_unfinished_request_its_row(generate: Generate, way: str) -> None:
    with answering(*[None] * 3) as (port, _):
        generator = generate([*evenly(2, 0.0), [3600.0, "web", 0.0, 0, 0]], timeout=3600)
        generator.aim(port)
        generator.go()
        if way == "message":
            generator.tell("stop")
        else:
            generator.started.process.terminate()
        rows = generator.rows()

    assert [row["status"] for row in rows] == ["error"] * 3
    assert rows[2]["error"] == "stopped before it was sent"


def test_a_stop_before_the_start_ends_it(generate: Generate) -> None:
    generator = generate(evenly(2, 0.0))

    generator.tell("stop")

    assert [row["error"] for row in generator.rows()] == ["stopped before it was sent"] * 2


def test_an_empty_plan_ends_with_its_start(generate: Generate) -> None:
    generator = generate([])

    generator.go()

    assert generator.rows() == []


def test_a_message_that_makes_no_sense_is_reported_and_passed_over(
    generate: Generate, web: Started
) -> None:
    generator = generate(evenly(1, 0.0))

    generator.wire.send(b"nonsense")
    generator.tell("dance")
    generator.tell("endpoints", service="web", endpoints=[{"host": "127.0.0.1"}])
    generator.tell("endpoints", service="web", endpoints=[], policy="best")
    generator.aim(web.port)
    generator.go()

    code, said = generator.started.end()
    assert code == 0
    assert said.count("\n") == 4
    assert generator.written()[0]["status"] == "ok"


def test_the_control_socket_is_gone_at_the_end(generate: Generate, tmp_path: Path) -> None:
    generator = generate([])
    assert (tmp_path / "control").exists()

    generator.tell("stop")

    assert generator.rows() == []
    assert not (tmp_path / "control").exists()


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("nonsense", "Expecting value"),
        ("[]", "plan.json"),
        ('{"requests": []}', "'timeout' is missing"),
        ('{"timeout": 0, "requests": []}', "above zero"),
        ('{"timeout": 1, "requests": [[0, "web"]]}', "not enough values"),
        ('{"timeout": 1, "requests": [[-1, "web", 0, 0, 0]]}', "out of range in [-1, 'web'"),
        ('{"timeout": 1, "requests": [[0, "web", "x", 0, 0]]}', "'x'"),
    ],
)
def test_a_wrong_plan_is_named_in_one_line(tmp_path: Path, plan: str, said: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan)

    done = run("load", "--plan", path, "--out", tmp_path / "out", "--control", tmp_path / "c")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(path) in done.stderr
    assert said in done.stderr


def test_a_control_path_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"timeout": 1, "requests": []}')
    taken = tmp_path / "control"
    taken.write_text("mine")

    done = run(
        *("load", "--plan", tmp_path / "plan.json", "--out", tmp_path / "out", "--control", taken)
    )

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(taken) in done.stderr
    assert taken.read_text() == "mine"


def wait_for_rows(generator: Generator, count: int) -> None:
    """Wait until that many rows are written, or none are to be expected for a while."""
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        if generator.out.exists() and len(generator.out.read_text().splitlines()) >= count:
            return


def wait_until_only(generator: Generator, replica: str) -> None:
    """Wait until one replica gets what several would get in turn."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while {row["replica"] for row in generator.written()[-4:]} != {replica}:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def service_of(*replicas: str, policy: str) -> load.Service:
    service = load.Service()
    service.endpoints = [load.Endpoint(name, "n1", "127.0.0.1", 1) for name in replicas]
    service.policy = policy
    return service


def test_whoever_started_it_is_told_how_many_requests_are_finished(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("PKGCTL_JOB", "job-1")
    counter = load.Counter()
    assert counter.due() == float("inf")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(PATIENCE_SECONDS)
        counter.finished = 3
        assert counter.due() <= time.monotonic()
        counter.tell()
        heard = notices.recv(4096)

    assert heard == b"PKGCTL_JOB=job-1\nCOUNT=requests:3"
    assert counter.due() == float("inf")
    counter.finished = 4
    assert counter.due() == counter.told_at + load.COUNT_SECONDS
    counter.tell()  # nobody listens any more
    assert counter.told == 3
