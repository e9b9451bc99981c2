# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of HTTP whose answers a test writes, for what a real API seldom does."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Handler = BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class FakeApi:
    """Answers in the order in which they were written, and the requests that came."""

    url: str = ""
    answers: deque[Answer] = field(default_factory=deque)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    def then(self, *answers: Answer) -> None:
        self.answers.extend(answers)

    @property
    def asked(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.requests]


def says(status: int, body: object, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        text = json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def refuses(status: int, message: str, **headers: str) -> Answer:
    return says(status, {"kind": "Status", "message": message, "code": status}, **headers)


def hangs_up(handler: Handler) -> None:
    """Close the connection where the answer should be."""
    handler.close_connection = True
    handler.connection.close()


def streams(*parts: bytes, until: threading.Event | None = None) -> Answer:
    """Send parts of a body one by one, and end when an event is set, at once if there is none."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            handler.wfile.flush()
        if until is not None:
            until.wait(10)
        handler.wfile.write(b"0\r\n\r\n")

    return answer


@contextmanager
def fake_api() -> Iterator[FakeApi]:
    fake = FakeApi()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                return  # the client changed its mind
            fake.connections.add(self.client_address)
            fake.requests.append((self.command, self.path, dict(self.headers), body))
            fake.answers.popleft()(self)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # a client that left, or an answer that hung up
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(folder: Path, url: str, token: str = "secret") -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path
