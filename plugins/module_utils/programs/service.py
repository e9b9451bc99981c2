# SPDX-License-Identifier: GPL-3.0-or-later
"""A web service whose cost is exactly what each request asks for.

    service.py --port PORT [--memory BYTES]

``POST /work?cpu=SECONDS&out=BYTES`` burns that much CPU time and answers that many bytes;
``GET /healthz`` asks for nothing. One worker serves one request at a time in the order of arrival,
so queueing is real. On SIGTERM the service takes no more connections, answers what has reached it,
and ends with code 0.

How fast a replica starts is something that experiments measure. Hence the C modules ``_socket``
and ``_signal``: importing ``socket`` and ``signal`` takes half as long again as all the rest.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only its face
import _socket
import os
import resource
import select
import sys
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from time import thread_time

BACKLOG = 1024
MOST_CONNECTIONS = 4096
LONGEST_HEAD_BYTES = 16384
LONGEST_CPU_SECONDS = 3600.0
PAGE_BYTES = 4096
ENDLESS = 1 << 62
# Errors of accept() that last until a connection is closed.
NO_ROOM = (ENOMEM, ENFILE, EMFILE, ENOBUFS)
READ_BYTES = 1 << 18
# While ending: how long a quiet moment must last, and how long an unfinished exchange may take.
QUIET_SECONDS = 0.1
UNFINISHED_SECONDS = 5.0

FILLING = bytes(1 << 16)
SPIN = range(200)
USAGE = "usage: service.py --port PORT [--memory BYTES]"
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
}


class RefusedError(Exception):
    """A request that cannot be understood; the connection ends after the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Request:
    """What the head of one request says."""

    __slots__ = ("expects", "keep", "length", "method", "target")

    def __init__(self, method: bytes, target: bytes, version: bytes) -> None:
        self.method = method
        self.target = target
        self.keep = version == b"HTTP/1.1"
        self.length = 0
        self.expects = False


class Connection:
    """One client: what it has sent and what it is still owed."""

    __slots__ = ("filling", "keep", "missing", "reply", "request", "sock", "text", "watched")

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.text = bytearray()
        self.request: Request | None = None
        self.missing = 0
        self.reply: memoryview | None = None
        self.filling = 0
        self.keep = True
        self.watched = select.EPOLLIN

    @property
    def unfinished(self) -> bool:
        """Whether a request or a reply is under way."""
        return self.request is not None or self.reply is not None or bool(self.text)


def parse(head: bytes) -> Request:
    """Return the request that a head (without its closing empty line) describes.

    Raises:
        RefusedError: if it is not HTTP/1.0 or 1.1, or its body has no plain length.
    """
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise RefusedError(400)
    request = Request(*words)
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise RefusedError(400)
        apply_header(request, name.lower(), value.strip())
    return request


def apply_header(request: Request, name: bytes, value: bytes) -> None:
    """Note in the request what one header means for it."""
    if name == b"content-length":
        if not value.isdigit():
            raise RefusedError(400)
        request.length = int(value)
    elif name == b"transfer-encoding":
        raise RefusedError(501)
    elif name == b"connection":
        wish = value.lower()
        request.keep = wish == b"keep-alive" or (request.keep and wish != b"close")
    elif name == b"expect":
        request.expects = value.lower() == b"100-continue"


def work_asked(query: bytes) -> tuple[float, int]:
    """Return CPU seconds and answer bytes from a query such as ``cpu=0.002&out=8192``."""
    cpu_seconds, out_bytes = 0.0, 0
    try:
        for pair in query.split(b"&") if query else ():
            name, _, value = pair.partition(b"=")
            if name == b"cpu":
                cpu_seconds = float(value)
            elif name == b"out":
                out_bytes = int(value)
    except ValueError:
        raise RefusedError(400) from None
    # Written so that "nan" is refused too.
    if not (0.0 <= cpu_seconds <= LONGEST_CPU_SECONDS and out_bytes >= 0):
        raise RefusedError(400)
    return cpu_seconds, out_bytes


def burn(cpu_seconds: float) -> None:
    """Use that much CPU time of this thread; time spent waiting for a CPU does not count."""
    end = thread_time() + cpu_seconds
    while thread_time() < end:
        for _ in SPIN:
            pass


def answer(request: Request) -> tuple[int, int]:
    """Do what the request asks; return the status and the number of bytes to answer."""
    path, _, query = request.target.partition(b"?")
    wanted = {b"/work": b"POST", b"/healthz": b"GET"}.get(path)
    if wanted is None:
        return 404, 0
    if request.method != wanted:
        return 405, 0
    if path == b"/healthz":
        return 200, 0
    cpu_seconds, out_bytes = work_asked(query)
    burn(cpu_seconds)
    return 200, out_bytes


class Server:
    """The listening socket, its connections and the one worker."""

    def __init__(self, port: int) -> None:
        self.listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        self.listener.bind(("0.0.0.0", port))
        self.listener.listen(BACKLOG)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.connections: dict[int, Connection] = {}
        self.listening = True
        self.ending = False
        self.poll = select.epoll()
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.wake = catch_signals()
        self.poll.register(self.wake, select.EPOLLIN)

    def serve(self) -> None:
        """Answer requests until a signal has come and nothing is left to answer."""
        while True:
            events = self.poll.poll(self.patience())
            if self.ending and not events:
                return
            for number, mask in events:
                self.handle(number, mask)

    def patience(self) -> float | None:
        """How long to wait for the next event, in seconds; None is for ever."""
        if not self.ending:
            return None
        unfinished = any(c.unfinished for c in self.connections.values())
        return UNFINISHED_SECONDS if unfinished else QUIET_SECONDS

    def handle(self, number: int, mask: int) -> None:
        """Act on one ready file descriptor."""
        connection = self.connections.get(number)
        if connection is not None:
            self.converse(connection, mask)
        elif number == self.wake:
            self.end()
        elif self.listening:
            self.accept()

    def end(self) -> None:
        """Take what already knocked, then no more connections."""
        os.read(self.wake, 512)
        if not self.ending:
            self.accept()
            self.listen(False)
            self.listener.close()
            self.ending = True

    def listen(self, wanted: bool) -> None:
        """Watch the listening socket, or leave newcomers in its backlog."""
        if wanted != self.listening and not self.ending:
            self.poll.modify(self.listener.fileno(), select.EPOLLIN if wanted else 0)
            self.listening = wanted

    def accept(self) -> None:
        """Let in everybody who waits, as far as there is room."""
        while len(self.connections) < MOST_CONNECTIONS:
            try:
                number, _ = self.listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NO_ROOM:
                    break
                # What befell a newcomer on the way is told here; it says nothing about the next.
                continue
            self.welcome(number)
        if self.connections:
            self.listen(False)

    def welcome(self, number: int) -> None:
        """Begin a conversation on an accepted file descriptor."""
        sock = _socket.socket(fileno=number)
        sock.setblocking(False)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.connections[number] = Connection(sock)
        self.poll.register(number, select.EPOLLIN)

    def converse(self, connection: Connection, mask: int) -> None:
        """Move one connection on as far as it goes now."""
        try:
            if mask & select.EPOLLOUT:
                self.send(connection)
            elif not self.read(connection):
                self.close(connection)
                return
            self.advance(connection)
        except OSError:
            self.close(connection)

    def read(self, connection: Connection) -> bool:
        """Take what has arrived, dropping the bytes of a body; return False at the end."""
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return True
        body = min(connection.missing, len(data))
        connection.missing -= body
        connection.text += data[body:] if body else data
        return bool(data)

    def advance(self, connection: Connection) -> None:
        """Serve every request that is complete, one after the other."""
        try:
            while connection.reply is None and connection.keep and self.complete(connection):
                self.perform(connection)
        except RefusedError as refused:
            self.refuse(connection, refused.status)
        if connection.reply is None and not connection.keep:
            self.part(connection)

    def complete(self, connection: Connection) -> bool:
        """Return whether a whole request is there, reading its head when that has just come."""
        if connection.request is None and not self.begin(connection):
            return False
        if connection.text and connection.missing:
            body = min(connection.missing, len(connection.text))
            del connection.text[:body]
            connection.missing -= body
        return connection.missing == 0

    def begin(self, connection: Connection) -> bool:
        """Read a request's head if it has come entirely."""
        end = connection.text.find(b"\r\n\r\n")
        if end < 0 or end > LONGEST_HEAD_BYTES:
            if len(connection.text) > LONGEST_HEAD_BYTES:
                raise RefusedError(431)
            return False
        request = parse(bytes(connection.text[:end]))
        del connection.text[: end + 4]
        connection.request, connection.missing = request, request.length
        if request.expects and len(connection.text) < request.length:
            connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def perform(self, connection: Connection) -> None:
        """Do the work of the request that is complete and begin to answer it."""
        request = connection.request
        assert request is not None
        status, size = answer(request)
        connection.request = None
        connection.keep = request.keep and not self.ending
        self.reply(connection, status, size)

    def refuse(self, connection: Connection, status: int) -> None:
        """Answer a request that cannot be understood, and end the conversation."""
        connection.request, connection.missing, connection.keep = None, ENDLESS, False
        connection.text.clear()
        self.reply(connection, status, 0)

    def reply(self, connection: Connection, status: int, size: int) -> None:
        """Begin to send an answer with a body of that many bytes."""
        ending = b"" if connection.keep else b"Connection: close\r\n"
        head = b"HTTP/1.1 %d %b\r\nContent-Length: %d\r\n%b\r\n"
        first = min(size, len(FILLING))
        text = head % (status, REASONS[status], size, ending)
        connection.reply = memoryview(text + FILLING[:first])
        connection.filling = size - first
        self.send(connection)

    def send(self, connection: Connection) -> None:
        """Send as much of the answer as the socket takes."""
        while connection.reply is not None:
            try:
                sent = connection.sock.send(connection.reply)
            except BlockingIOError:
                self.watch(connection, select.EPOLLOUT)
                return
            rest = connection.reply[sent:]
            if not rest and connection.filling:
                rest = memoryview(FILLING)[: connection.filling]
                connection.filling -= len(rest)
            connection.reply = rest if rest else None
        self.watch(connection, select.EPOLLIN)

    def watch(self, connection: Connection, mask: int) -> None:
        """Wait for the client's next bytes, or for room to send more."""
        if connection.watched != mask:
            self.poll.modify(connection.sock.fileno(), mask)
            connection.watched = mask

    def part(self, connection: Connection) -> None:
        """End a conversation, without cutting off an answer that is still on its way.

        Closing while unread bytes arrive would reset the connection; after a refusal, therefore,
        the client closes first.
        """
        if connection.missing:
            connection.sock.shutdown(_socket.SHUT_WR)
        else:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """Forget a connection; a full house has room again."""
        del self.connections[connection.sock.fileno()]
        connection.sock.close()
        self.listen(True)


def catch_signals() -> int:
    """Turn SIGTERM and SIGINT into bytes on a pipe; return its reading end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    _signal.set_wakeup_fd(writing)
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, lambda *_: None)
    return reading


def occupy(memory_bytes: int) -> bytearray:
    """Return that much memory with every page really there."""
    block = bytearray(memory_bytes)
    block[::PAGE_BYTES] = b"\1" * len(block[::PAGE_BYTES])
    return block


def notify(*lines: str) -> None:
    """Tell whoever started this program how it stands (the sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    job = os.environ.get("PKGCTL_JOB")
    text = "\n".join([f"PKGCTL_JOB={job}", *lines] if job else lines)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
    sock.close()


def options(arguments: list[str]) -> dict[str, int]:
    """Return the values of the command line.

    Raises:
        ValueError: if it is not as the usage says.
    """
    values = {"--port": -1, "--memory": 0}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name not in values:
            raise ValueError(f"unknown option {name}")
        values[name] = int(value)
    if not 0 <= values["--port"] < 65536:
        raise ValueError("--port must be a TCP port; 0 takes any free one")
    if values["--memory"] < 0:
        raise ValueError(f"--memory {values['--memory']} is no number of bytes")
    return values


def main(arguments: list[str]) -> None:
    """Serve until told to end."""
    try:
        values = options(arguments)
    except ValueError as error:
        print(f"service.py: {error}; {USAGE}", file=sys.stderr)
        sys.exit(2)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        memory = occupy(values["--memory"])
        server = Server(values["--port"])
        notify("READY=1", f"STATUS=listening on port {server.port}")
    except (OSError, MemoryError) as error:
        sys.exit(f"service.py: cannot start: {error or 'not enough memory'}")
    server.serve()
    del memory


if __name__ == "__main__":
    main(sys.argv[1:])
