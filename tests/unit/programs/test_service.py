# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import thread_time

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.programs import service
from tests.unit.programs.starting import PATIENCE_SECONDS, Start, Started, run


class Client:
    """One connection to the service, which reads whole answers."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.stream = self.sock.makefile("rb")

    def close(self) -> None:
        self.stream.close()
        self.sock.close()

    def ask(self, target: str, body: bytes = b"", method: str = "POST", headers: str = "") -> None:
        head = f"{method} {target} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.sock.sendall(head.encode() + body)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.stream.readline().split(b" ")[1])
        lines = iter(lambda: self.stream.readline().decode().strip(), "")
        headers = dict(line.split(": ", 1) for line in lines)
        return status, headers, self.stream.read(int(headers.get("Content-Length", "0")))


@pytest.fixture
def web(start: Start) -> Started:
    return start("service", "--port", 0)


Connect = Callable[[Started], Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make connections that are closed after the test."""
    with ExitStack() as stack:

        def make(web: Started) -> Client:
            client = Client(web.port)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def client(web: Started, connect: Connect) -> Client:
    return connect(web)


def test_it_says_ready_with_its_job_and_its_port(web: Started) -> None:
    assert web.notice[:2] == ["PKGCTL_JOB=job-1", "READY=1"]
    assert web.port > 0


@pytest.mark.parametrize("size", [0, 1, 8192, 65536, 65537, 3_000_000])
def test_it_answers_as_many_bytes_as_asked(client: Client, size: int) -> None:
    client.ask(f"/work?cpu=0&out={size}")

    status, _, body = client.answer()

    assert (status, len(body)) == (200, size)


def test_health_is_answered(client: Client) -> None:
    client.ask("/healthz", method="GET")

    assert client.answer()[0] == 200


def test_a_connection_carries_many_requests(client: Client) -> None:
    for size in (10, 20, 30):
        client.ask(f"/work?out={size}", body=bytes(size))

        assert len(client.answer()[2]) == size


def test_requests_sent_together_are_answered_in_order(client: Client) -> None:
    for size in (10, 20, 30):
        client.ask(f"/work?out={size}", body=bytes(1000))

    assert [len(client.answer()[2]) for _ in range(3)] == [10, 20, 30]


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    text = b"POST /work?out=5 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"

    for position in range(len(text)):
        client.sock.sendall(text[position : position + 1])

    assert client.answer()[2] == bytes(5)


def test_a_large_body_is_taken_without_being_kept(web: Started, client: Client) -> None:
    before = resident_bytes(web)

    client.ask("/work?out=1", body=bytes(64 << 20))

    assert client.answer()[0] == 200
    assert resident_bytes(web) - before < 16 << 20


def test_a_client_that_waits_for_leave_to_send_gets_it(client: Client) -> None:
    client.sock.sendall(
        b"POST /work?out=1 HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )

    assert client.answer()[0] == 100
    client.sock.sendall(b"ab")
    assert client.answer()[0] == 200


def test_burning_uses_the_cpu_time_asked_for() -> None:
    before = thread_time()

    service.burn(0.05)

    assert 0.05 <= thread_time() - before < 0.06


def test_the_process_uses_the_cpu_time_that_requests_ask_for(
    start: Start, connect: Connect
) -> None:
    web = start("service", "--port", 0)
    before = cpu_seconds(web)
    client = connect(web)

    for _ in range(20):
        client.ask("/work?cpu=0.02&out=1")
        client.answer()

    assert 0.39 <= cpu_seconds(web) - before < 0.5


def test_one_request_is_served_at_a_time_in_the_order_of_arrival(
    web: Started, connect: Connect
) -> None:
    first, second = connect(web), connect(web)

    first.ask("/work?cpu=0.3&out=1")
    second.ask("/work?cpu=0&out=1")

    ready, _, _ = select.select([first.sock, second.sock], [], [], PATIENCE_SECONDS)
    assert ready[0] is first.sock
    assert second.answer()[0] == 200


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz HTTP/3.0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /work HTTP/1.1\r\nContent-Length: -3\r\n\r\n", 400),
        (b"POST /work HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /work?cpu=much HTTP/1.1\r\n\r\n", 400),
        (b"POST /work?cpu=nan HTTP/1.1\r\n\r\n", 400),
        (b"POST /work?cpu=-1 HTTP/1.1\r\n\r\n", 400),
        (b"POST /work?cpu=inf HTTP/1.1\r\n\r\n", 400),
        (b"POST /work?out=-1 HTTP/1.1\r\n\r\n", 400),
        (b"POST /work HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET /work HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nX: " + bytes(70_000), 431),
        (bytes(range(1, 256)) * 100, 431),
    ],
)
def test_what_it_cannot_serve_is_refused(
    web: Started, client: Client, request_text: bytes, status: int, connect: Connect
) -> None:
    client.sock.sendall(request_text)

    assert client.answer()[0] == status
    another = connect(web)
    another.ask("/work?out=1")
    assert another.answer()[0] == 200


def test_a_client_that_asks_for_it_is_parted_with(client: Client) -> None:
    client.ask("/work?out=2", headers="Connection: close\r\n")

    _, headers, body = client.answer()

    assert (headers["Connection"], body) == ("close", bytes(2))
    assert client.stream.read() == b""


def test_clients_that_vanish_do_no_harm(web: Started, connect: Connect) -> None:
    for text in (b"", b"POST /wo", b"POST /work HTTP/1.1\r\nContent-Length: 99\r\n\r\nab"):
        gone = connect(web)
        gone.sock.sendall(text)
        gone.close()
    eager = connect(web)
    eager.ask("/work?out=50000000")
    eager.close()

    client = connect(web)
    client.ask("/work?out=1")

    assert client.answer()[0] == 200


def test_a_thousand_clients_are_served_at_once(web: Started, connect: Connect) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients = [connect(web) for _ in range(1000)]

    for client in clients:
        client.ask("/work?out=100")

    assert [client.answer()[0] for client in clients] == [200] * 1000


def test_sigterm_lets_it_answer_what_has_come_and_then_end(
    web: Started, client: Client, connect: Connect
) -> None:
    queued = connect(web)
    connect(web)
    client.ask("/work?cpu=0.2&out=7")
    queued.ask("/work?cpu=0&out=7")

    web.process.send_signal(signal.SIGTERM)

    status, _, body = client.answer()
    assert (status, len(body)) == (200, 7)
    assert queued.answer()[0] == 200
    assert web.end()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        connect(web)


def test_its_memory_is_there_before_it_is_ready(start: Start) -> None:
    web = start("service", "--port", 0, "--memory", 40 << 20)

    assert resident_bytes(web) > 40 << 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--port"),
        (["--port", "70000"], "--port"),
        (["--port", "x"], "'x'"),
        (["--memory", "-1", "--port", "0"], "-1"),
        (["--speed", "1"], "unknown option --speed"),
    ],
)
def test_a_wrong_command_line_is_named_in_one_line(arguments: list[str], said: str) -> None:
    done = run("service", *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_named_in_one_line(web: Started) -> None:
    done = run("service", "--port", web.port)

    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def resident_bytes(started: Started) -> int:
    text = Path(f"/proc/{started.process.pid}/statm").read_text()
    return int(text.split()[1]) * resource.getpagesize()


def cpu_seconds(started: Started) -> float:
    fields = Path(f"/proc/{started.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
