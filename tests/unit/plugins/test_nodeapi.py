# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import nodeapi
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import ApiError, NodeError
from ansible_collections.pkgctl.testbed.plugins.module_utils.kubeconfig import Access, Part
from ansible_collections.pkgctl.testbed.plugins.module_utils.nodeapi import OwnNode

NODE = "/api/v1/nodes/edge-1"


class Answers(ThreadingHTTPServer):
    """Answers each request with the next of what it was given, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = list(answers), []
        self.connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers["Content-Type"], body))
        status, text = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = status == 299

    do_PATCH = do_GET  # noqa: N815 - as the base class wants it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig, and connections that are as its server is: without TLS."""

    def plain(host: str, port: int, *, timeout: float, context: object):
        return http.client.HTTPConnection(host, port, timeout=timeout)

    monkeypatch.setattr(nodeapi.http.client, "HTTPSConnection", plain)
    monkeypatch.setattr(nodeapi, "context", lambda access: access)
    return tmp_path / "kubelet.kubeconfig"


@contextmanager
def serving(config: Path, *answers: tuple[int, bytes]) -> Iterator[Answers]:
    with Answers(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        say(config, server.server_address[1])
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def say(config: Path, port: int) -> None:
    parts = {"certificate-authority": "a", "client-certificate": "b", "client-key": "c"}
    config.write_text(json.dumps({"server": f"https://127.0.0.1:{port}", **parts}))


def test_a_node_is_read_and_its_status_patched_over_one_connection(config):
    with serving(config, (200, b'{"kind": "Node"}'), (200, b'{"kind": "Node"}')) as server:
        node = OwnNode(config, "edge-1")
        assert node.get() == {"kind": "Node"}
        node.patch_status({"status": {}})
        node.close()

    assert server.asked == [
        ("GET", NODE, None, b""),
        ("PATCH", f"{NODE}/status", "application/strategic-merge-patch+json", b'{"status": {}}'),
    ]
    assert server.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew(config):
    with serving(config, (299, b'{"a": 1}'), (200, b'{"a": 2}')) as server:
        node = OwnNode(config, "edge-1")
        assert [node.get(), node.get()] == [{"a": 1}, {"a": 2}]
        node.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (404, b'{"message": "nodes edge-1 not found"}'),
            r"refuses \(404\): nodes edge-1 not found",
        ),
        ((500, b"oops"), r"refuses \(500\)"),
        ((200, b"<html>"), "no object"),
        ((200, b"[1]"), "no object"),
        ((200, b"\xff\xfe"), "no object"),
    ],
)
def test_what_is_no_answer_is_one_line(config, answer, said):
    with serving(config, answer), pytest.raises(ApiError, match=said):
        OwnNode(config, "edge-1").get()


def test_an_api_that_is_gone_is_one_line_and_found_again_where_the_kubeconfig_says(config):
    with serving(config, (200, b'{"a": 1}')):
        node = OwnNode(config, "edge-1")
        node.get()
    with pytest.raises(ApiError, match="does not answer"):
        for _ in range(2):
            node.get()
    with serving(config, (200, b'{"a": 2}')):
        assert node.get() == {"a": 2}
        node.close()


def test_without_a_kubeconfig_nobody_is_asked(tmp_path):
    missing = tmp_path / "none"
    with pytest.raises(NodeError, match="cannot be read: "):
        OwnNode(missing, "edge-1").get()
    missing.write_bytes(b"\xff")
    with pytest.raises(NodeError, match="cannot be read: "):
        OwnNode(missing, "edge-1").get()


def test_certificates_that_are_none_fail_as_a_connection_does():
    bad = Part(text="no certificate")
    with pytest.raises(OSError, match=r".+"):
        nodeapi.context(Access("https://localhost", bad, bad, bad))
