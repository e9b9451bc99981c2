# SPDX-License-Identifier: GPL-3.0-or-later
"""An open-loop load generator: requests leave when the plan says, however slow the answers are.

    load.py --plan FILE --out FILE --control SOCKET

The plan is JSON: ``{"timeout": s, "requests": [[intended_s, service, cpu_s, in_bytes,
out_bytes], ...]}``, optionally with ``"connections"`` (the most to one endpoint, 512) and
``"seed"`` (for the policy ``random``, 0). The control socket takes datagrams, a JSON object each:

    {"op": "endpoints", "service": NAME, "endpoints": [{"replica", "node", "host", "port"}, ...],
     "policy": "round-robin" | "random" | "nearest"}     nearest is the first one in the list
    {"op": "start", "t0": MONO}                          the plan's time zero on CLOCK_MONOTONIC
    {"op": "stop"}                                       as SIGTERM: give up what is not done

Each request of the plan gives exactly one JSON line in the output, all times in seconds after t0:
``sent`` is when it was handed to a connection, existing or new, so ``sent - intended`` is the
generator's own lateness or the wait for a first endpoint. Latency counts from ``intended``.

A kept connection that the server closes before any byte of the answer is no failure of the
request (it crossed the closing on its way): it is sent once more, on a new connection.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

FLUSH_SECONDS = 0.1
# How often whoever started this program is told, at most, how many requests are finished.
COUNT_SECONDS = 0.02
READ_BYTES = 1 << 18
DATAGRAM_BYTES = 1 << 20
LONGEST_HEAD_BYTES = 16384
FILLING = bytes(1 << 16)
POLICIES = ("round-robin", "random", "nearest")


class PlanError(Exception):
    """The plan, or a message, is not as it should be."""


class AnswerError(Exception):
    """What came back is no answer to the request."""


@dataclass(slots=True, eq=False)
class Request:
    """One planned request and how it goes."""

    intended: float
    service: str
    cpu: float
    in_bytes: int
    out_bytes: int
    sent: float | None = None
    first_byte: float | None = None
    endpoint: Endpoint | None = None
    connection: Connection | None = None
    repeated: bool = False
    done: bool = False

    def head(self) -> bytes:
        """Return the request's first line and headers."""
        address = self.endpoint.host if self.endpoint else ""
        return (
            f"POST /work?cpu={self.cpu:.9f}&out={self.out_bytes} HTTP/1.1\r\n"
            f"Host: {address}\r\nContent-Length: {self.in_bytes}\r\n\r\n"
        ).encode()


@dataclass(slots=True, eq=False)
class Endpoint:
    """One replica of a service, and the connections to it."""

    replica: str
    node: str
    host: str
    port: int
    listed: bool = True
    open: int = 0
    idle: list[Connection] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What makes it the same endpoint in a later list."""
        return self.replica, self.node, self.host, self.port


@dataclass(slots=True, eq=False)
class Service:
    """The endpoints of one service, and the requests that wait for a first one."""

    endpoints: list[Endpoint] = field(default_factory=list)
    policy: str = "round-robin"
    cursor: int = 0
    waiting: list[Request] = field(default_factory=list)

    def choose(self, rng: random.Random) -> Endpoint:
        """Return the endpoint for the next request; there must be one."""
        if self.policy == "nearest":
            return self.endpoints[0]
        if self.policy == "random":
            return self.endpoints[int(rng.random() * len(self.endpoints))]
        self.cursor = (self.cursor + 1) % len(self.endpoints)
        return self.endpoints[self.cursor]


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, which carries one request at a time."""

    sock: socket.socket
    endpoint: Endpoint
    request: Request | None = None
    connecting: bool = True
    used: bool = False
    keep: bool = True
    watched: int = select.EPOLLOUT
    pending: memoryview | None = None
    filling: int = 0
    text: bytearray = field(default_factory=bytearray)
    missing: int | None = None

    def load(self, request: Request) -> None:
        """Make the request the next thing to send."""
        first = min(request.in_bytes, len(FILLING))
        self.request = request
        self.pending = memoryview(request.head() + FILLING[:first])
        self.filling = request.in_bytes - first
        self.text.clear()
        self.missing = None

    def push(self) -> bool:
        """Send as much as the socket takes; return whether all is sent."""
        while self.pending is not None:
            try:
                sent = self.sock.send(self.pending)
            except BlockingIOError:
                return False
            rest = self.pending[sent:]
            if not rest and self.filling:
                rest = memoryview(FILLING)[: self.filling]
                self.filling -= len(rest)
            self.pending = rest if rest else None
        return True

    def take(self, data: bytes) -> bool:
        """Add bytes of the answer; return whether it is complete.

        Raises:
            AnswerError: if it is no HTTP, of unknown length, or not a success.
        """
        if self.missing is not None:
            self.missing -= len(data)
            return self.missing <= 0
        self.text += data
        end = self.text.find(b"\r\n\r\n")
        if end < 0:
            if len(self.text) > LONGEST_HEAD_BYTES:
                raise AnswerError("the answer is no HTTP")
            return False
        size = self.read_head(bytes(self.text[:end]))
        self.missing = size - (len(self.text) - end - 4)
        return self.missing <= 0

    def read_head(self, head: bytes) -> int:
        """Return the length of the answer's body."""
        first, *lines = head.lower().split(b"\r\n")
        status = first.split(b" ")[1:2]
        if not first.startswith(b"http/1.") or status != [b"200"]:
            raise AnswerError(f"the answer was {first.decode('latin-1')!r}")
        size = -1
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                size = int(value)
            elif name == b"connection":
                self.keep = value.strip() != b"close"
        if size < 0:
            raise AnswerError("the answer does not tell its length")
        return size


class Recorder:
    """The output file; lines reach it at least every FLUSH_SECONDS."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.lines: list[str] = []
        self.flush_at = float("inf")

    def add(self, row: dict[str, Any], now: float) -> None:
        """Note one row."""
        if not self.lines:
            self.flush_at = now + FLUSH_SECONDS
        self.lines.append(json.dumps(row))

    def flush(self) -> None:
        """Write what was noted."""
        self.flush_at = float("inf")
        if self.lines:
            self.file.write("\n".join(self.lines) + "\n")
            self.file.flush()
            self.lines.clear()


class Counter:
    """Tells whoever started this program how many requests are finished."""

    def __init__(self) -> None:
        self.finished = 0
        self.told = 0
        self.told_at = float("-inf")

    def due(self) -> float:
        """Return when the next word is due; never while there is nothing new."""
        return self.told_at + COUNT_SECONDS if self.finished > self.told else float("inf")

    def tell(self) -> None:
        """Tell the number, unless whoever should hear it is gone or has too much to read."""
        self.told_at = time.monotonic()
        with contextlib.suppress(OSError):
            notify(f"COUNT=requests:{self.finished}", flags=socket.MSG_DONTWAIT)
            self.told = self.finished


class Generator:
    """Sends the plan's requests on time and records what becomes of them."""

    def __init__(self, plan: Plan, recorder: Recorder, control: socket.socket) -> None:
        self.plan = plan
        self.recorder = recorder
        self.counter = Counter()
        self.control = control
        self.requests = deque(plan.requests)
        self.under_way: deque[Request] = deque()
        self.services: dict[str, Service] = {}
        self.connections: dict[int, Connection] = {}
        self.rng = random.Random(plan.seed)
        self.t0: float | None = None
        self.poll = select.epoll()
        self.poll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Work until each request of the plan has its row; not before the start, or a stop."""
        while self.t0 is None or self.requests or self.under_way:
            events = self.wait()
            self.launch_due()
            for number, mask in events:
                self.handle(number, mask)
                self.launch_due()
            self.expire()
            if time.monotonic() >= self.recorder.flush_at:
                self.recorder.flush()
            if time.monotonic() >= self.counter.due():
                self.counter.tell()
        self.recorder.flush()
        if self.counter.due() < float("inf"):
            self.counter.tell()

    def wait(self) -> list[tuple[int, int]]:
        """Return what is ready, waiting at most until something is due."""
        events = self.poll.poll(0)
        if events:
            return events
        # epoll counts in whole milliseconds; select, watching the epoll itself, in microseconds.
        select.select([self.poll], [], [], self.time_left())
        return self.poll.poll(0)

    def time_left(self) -> float | None:
        """Return the seconds until something is due, or None if nothing will be."""
        due = min(self.recorder.flush_at, self.counter.due())
        if self.t0 is not None:
            while self.under_way and self.under_way[0].done:
                self.under_way.popleft()
            if self.under_way:
                due = min(due, self.t0 + self.under_way[0].intended + self.plan.timeout)
            if self.requests:
                due = min(due, self.t0 + self.requests[0].intended)
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def now(self) -> float:
        """Return the seconds after t0."""
        return time.monotonic() - (self.t0 or 0.0)

    def launch_due(self) -> None:
        """Send every request whose time has come."""
        if self.t0 is None:
            return
        while self.requests and self.requests[0].intended <= self.now():
            request = self.requests.popleft()
            self.under_way.append(request)
            self.dispatch(request)

    def dispatch(self, request: Request) -> None:
        """Hand a request to an endpoint, or let it wait for one."""
        service = self.services.setdefault(request.service, Service())
        if not service.endpoints:
            service.waiting.append(request)
            return
        request.endpoint = endpoint = service.choose(self.rng)
        if request.sent is None:
            request.sent = self.now()
        if endpoint.idle and not request.repeated:
            connection = endpoint.idle.pop()
        elif endpoint.open < self.plan.connections:
            try:
                connection = self.connect(endpoint)
            except OSError as error:
                self.finish(request, "error", f"cannot connect: {error.strerror or error}")
                return
        else:
            self.finish(request, "error", f"all {endpoint.open} connections are busy")
            return
        request.connection = connection
        connection.load(request)
        if not connection.connecting:
            self.attempt(connection, self.push)

    def connect(self, endpoint: Endpoint) -> Connection:
        """Begin a connection to the endpoint."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                sock.connect((endpoint.host, endpoint.port))
        except OSError:
            sock.close()
            raise
        connection = Connection(sock, endpoint)
        self.connections[sock.fileno()] = connection
        self.poll.register(sock.fileno(), select.EPOLLOUT)
        endpoint.open += 1
        return connection

    def handle(self, number: int, mask: int) -> None:
        """Act on one ready file descriptor."""
        connection = self.connections.get(number)
        if connection is None:
            if number == self.control.fileno():
                self.obey()
        elif connection.connecting:
            self.attempt(connection, self.connected)
        elif mask & ~select.EPOLLOUT:
            self.attempt(connection, self.receive)
        else:
            self.attempt(connection, self.push)

    def attempt(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        """Take one step with a connection; if it breaks, so does what it carries."""
        try:
            step(connection)
        except (OSError, AnswerError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else None
            self.broken(connection, text or str(error))

    def connected(self, connection: Connection) -> None:
        """Go on with a connection that is there, or has failed."""
        code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"cannot connect: {os.strerror(code)}")
        connection.connecting = False
        self.push(connection)

    def push(self, connection: Connection) -> None:
        """Send what is pending; watch for room if not all of it fits."""
        sent = connection.push()
        mask = select.EPOLLIN if sent else select.EPOLLIN | select.EPOLLOUT
        if mask != connection.watched:
            connection.watched = mask
            self.poll.modify(connection.sock.fileno(), mask)

    def receive(self, connection: Connection) -> None:
        """Take what has arrived of an answer."""
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        request = connection.request
        if request is None:
            self.close(connection)
            return
        if not data:
            raise AnswerError("the server closed the connection before the answer was complete")
        if request.first_byte is None:
            request.first_byte = self.now()
        if connection.take(data):
            self.finish(request, "ok", None)
            self.release(connection)

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request, if it can be kept."""
        connection.request, connection.used = None, True
        whole = connection.pending is None and connection.missing == 0
        if connection.keep and whole and connection.endpoint.listed:
            connection.endpoint.idle.append(connection)
        else:
            self.close(connection)

    def broken(self, connection: Connection, reason: str) -> None:
        """Close a connection that failed; its request fails too, unless it may be sent again."""
        request = connection.request
        self.close(connection)
        if request is None:
            return
        if connection.used and request.first_byte is None and not request.repeated:
            request.repeated = True
            self.dispatch(request)
        else:
            self.finish(request, "error", reason)

    def close(self, connection: Connection) -> None:
        """Forget a connection."""
        del self.connections[connection.sock.fileno()]
        connection.sock.close()
        connection.endpoint.open -= 1
        if connection.request is not None:
            connection.request.connection = None
            connection.request = None
        elif connection in connection.endpoint.idle:
            connection.endpoint.idle.remove(connection)

    def finish(self, request: Request, status: str, error: str | None) -> None:
        """Write the request's one row."""
        endpoint, ok = request.endpoint, status == "ok"
        answered = request.sent is not None and status != "timeout"
        row = {
            "service": request.service,
            "replica": endpoint.replica if endpoint else None,
            "node": endpoint.node if endpoint else None,
            "intended": request.intended,
            "sent": rounded(request.sent),
            "first_byte": rounded(request.first_byte),
            "done": rounded(self.now()) if answered else None,
            "status": status,
            "bytes_in": request.in_bytes,
            "bytes_out": request.out_bytes if ok else 0,
            "error": error,
        }
        request.done, request.connection = True, None
        self.recorder.add(row, time.monotonic())
        self.counter.finished += 1

    def expire(self) -> None:
        """Give up the requests whose time is over."""
        latest = self.now() - self.plan.timeout
        while self.under_way and (self.under_way[0].done or self.under_way[0].intended <= latest):
            request = self.under_way.popleft()
            if not request.done:
                self.abandon(request, "timeout", f"no answer within {self.plan.timeout:g} s")

    def abandon(self, request: Request, status: str, reason: str) -> None:
        """Stop waiting for a request."""
        if request.connection is not None:
            self.close(request.connection)
        elif request.sent is None:
            reason = f"no endpoint: {reason}"
        self.finish(request, status, reason)

    def obey(self) -> None:
        """Act on the messages that have come."""
        for data in datagrams(self.control):
            try:
                message = json.loads(data)
                self.carry_out(message)
            except (PlanError, ValueError, TypeError, KeyError, AttributeError) as error:
                print(f"load.py: message {data[:200]!r}: {error!r}", file=sys.stderr, flush=True)

    def carry_out(self, message: dict[str, Any]) -> None:
        """Act on one message."""
        operation = message["op"]
        if operation == "endpoints":
            self.list_endpoints(message)
        elif operation == "start" and self.t0 is None:
            self.t0 = float(message["t0"])
        elif operation == "stop":
            self.stop()
        else:
            raise PlanError("op must be endpoints, start (once) or stop")

    def list_endpoints(self, message: dict[str, Any]) -> None:
        """Take over a service's new list; connections to those that stay are kept."""
        policy = message.get("policy", "round-robin")
        if policy not in POLICIES:
            raise PlanError(f"policy must be one of {', '.join(POLICIES)}")
        service = self.services.setdefault(message["service"], Service())
        known = {endpoint.key: endpoint for endpoint in service.endpoints}
        listed = [
            Endpoint(str(e["replica"]), str(e["node"]), str(e["host"]), int(e["port"]))
            for e in message["endpoints"]
        ]
        service.policy = policy
        service.endpoints = [known.pop(new.key, new) for new in listed]
        for gone in known.values():
            self.retire(gone)
        waiting, service.waiting = service.waiting, []
        for request in waiting:
            if not request.done:
                self.dispatch(request)

    def retire(self, endpoint: Endpoint) -> None:
        """Let an endpoint that is not listed any more finish what it has, and no more."""
        endpoint.listed = False
        for connection in list(endpoint.idle):
            self.close(connection)

    def stop(self) -> None:
        """Give up every request that has not finished."""
        while self.under_way:
            request = self.under_way.popleft()
            if not request.done:
                self.abandon(request, "error", "stopped")
        while self.requests:
            self.finish(self.requests.popleft(), "error", "stopped before it was sent")
        self.t0 = self.t0 or 0.0


class Plan:
    """What to send, and within which limits."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.timeout = float(content["timeout"])
        self.connections = int(content.get("connections", 512))
        self.seed = int(content.get("seed", 0))
        if not 0 < self.timeout < float("inf") or self.connections < 1:
            raise PlanError("timeout and connections must be above zero")
        self.requests = [read_request(entry) for entry in content["requests"]]
        self.requests.sort(key=lambda request: request.intended)


def read_request(entry: list[Any]) -> Request:
    """Return the request that one entry of the plan describes."""
    intended, service, cpu, in_bytes, out_bytes = entry
    request = Request(float(intended), str(service), float(cpu), int(in_bytes), int(out_bytes))
    if not (
        0 <= request.intended < float("inf")
        and 0 <= request.cpu < float("inf")
        and request.in_bytes >= 0
        and request.out_bytes >= 0
    ):
        raise PlanError(f"a number is out of range in {entry}")
    return request


def read_plan(path: str) -> Plan:
    """Return the plan in a file.

    Raises:
        PlanError: one line that names the file and the fault.
    """
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 (pathlib is slow to import)
            return Plan(json.load(file))
    except KeyError as error:
        raise PlanError(f"{path}: {error} is missing") from error
    except (OSError, ValueError, TypeError, AttributeError, PlanError) as error:
        raise PlanError(f"{path}: {error}") from error


def rounded(seconds: float | None) -> float | None:
    """Return a time in whole microseconds."""
    return None if seconds is None else round(seconds, 6)


def datagrams(sock: socket.socket) -> Iterator[bytes]:
    """Yield the datagrams that wait on a socket."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(DATAGRAM_BYTES)


@contextlib.contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """The control socket, while it is there; a SIGTERM arrives on it as a stop."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as voice,
    ):
        try:
            control.bind(path)
        except OSError as error:
            raise PlanError(f"{path}: {error}") from error
        control.setblocking(False)
        voice.connect(path)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: voice.send(b'{"op": "stop"}'))
        try:
            yield control
        finally:
            os.unlink(path)  # noqa: PTH108 (pathlib is slow to import)


def notify(*lines: str, flags: int = 0) -> None:
    """Tell whoever started this program how it stands (the sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    job = os.environ.get("PKGCTL_JOB")
    text = "\n".join([f"PKGCTL_JOB={job}", *lines] if job else lines)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), flags, "\0" + address[1:] if address[0] == "@" else address)


def main() -> None:
    """Send the plan's requests."""
    parser = argparse.ArgumentParser(prog="load.py", description="Send planned requests on time.")
    parser.add_argument("--plan", required=True, help="JSON file with the requests")
    parser.add_argument("--out", required=True, help="file to which a JSON line a request is added")
    parser.add_argument("--control", required=True, help="path of the control socket to make")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        plan = read_plan(arguments.plan)
        with (
            open(arguments.out, "a", encoding="utf-8") as out,  # noqa: PTH123 (see read_plan)
            listening(arguments.control) as control,
        ):
            # Nothing here makes cycles that last; a collection in the wrong moment delays a send.
            gc.disable()
            notify("READY=1")
            Generator(plan, Recorder(out), control).run()
    except (OSError, PlanError) as error:
        sys.exit(f"load.py: {error}")


if __name__ == "__main__":
    main()
