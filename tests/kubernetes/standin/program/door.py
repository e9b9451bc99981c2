# SPDX-License-Identifier: GPL-3.0-or-later
"""Where nodes and servers join, one port above the API.

Whoever has the secret of agents gets the certificates of a kubelet, once for a name: the password
that a node comes with first is the one with which it has to come until its object is deleted.
"""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import certificates, tokens
from .api import RefusedError
from .saying import say
from .server import Server

_SECRETS = "/api/v1/namespaces/kube-system/secrets"
_REJECTED = (
    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may"
    " not match server node-password entry, try enabling a unique node name with the"
    " --with-node-id flag"
)


class Door:
    """The port, and what is asked there."""

    def __init__(self, server: Server) -> None:
        """Listen for the server."""
        self.server = server
        self._alone = threading.Lock()
        handler = type("Handler", (_Handler,), {"door": self})
        address = server.settings.text("bind-address", "0.0.0.0")
        self._http = _Http((address, server.settings.port + 1), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = (
            server.tls / "serving-kube-apiserver.crt",
            server.tls / "serving-kube-apiserver.key",
        )
        context.load_cert_chain(*map(str, pair))
        self._http.context = context

    def open(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def lets_in(self, user: str, password: str) -> bool:
        """Return whether a secret is the one of servers or of agents."""
        secrets = {"server": [self.server.token], "node": [self.server.agent_token]}
        secrets["node"].append(self.server.token)
        known = secrets.get(user, [])
        return any(hmac.compare_digest(password, secret) for secret in known)

    def bootstrap(self) -> dict[str, Any]:
        """Return what another server needs."""
        if not self.server.in_cluster:
            raise RefusedError(400, "this server has no cluster-init: no other server can join")
        return {"files": certificates.shared(self.server.tls)}

    def members(self, body: dict[str, Any]) -> dict[str, Any]:
        """Let another server's etcd in."""
        with self._alone:
            return {"members": self.server.add_member(str(body["name"]), str(body["url"]))}

    def promotion(self, body: dict[str, Any]) -> dict[str, Any]:
        """Let another server's etcd vote."""
        self.server.promote_member(str(body["url"]))
        return {}

    def join(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what a node needs, if it is the one of its name."""
        name, ip = str(body["name"]), str(body["ip"])
        with self._alone:
            self._check_password(name, str(body["password"]))
            files = self._sign(name, ip)
        return {**self.server.cidrs(), "files": files}

    def forget(self, name: str) -> None:
        """Let the next node of a name come with another password."""
        try:
            self.server.admin().ask("DELETE", f"{_SECRETS}/{name}.node-password.k3s")
        except RefusedError as error:
            if error.status != 404:
                raise

    def _check_password(self, name: str, password: str) -> None:
        admin = self.server.admin()
        secret = f"{name}.node-password.k3s"
        try:
            kept = admin.ask("GET", f"{_SECRETS}/{secret}")["data"]["hash"]
        except RefusedError as error:
            if error.status != 404:
                raise
            data = {"hash": base64.b64encode(tokens.hashed(password).encode()).decode()}
            admin.ask("POST", _SECRETS, {"metadata": {"name": secret}, "data": data})
            return
        if not tokens.matches(password, base64.b64decode(kept).decode()):
            raise RefusedError(403, _REJECTED)

    def _sign(self, name: str, ip: str) -> dict[str, str]:
        run, tls = self.server.children.run, self.server.tls
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            user = f"system:node:{name}"
            run("pki", "sign", tls / "client-ca", folder / "client-kubelet", user, "system:nodes")
            serving = [folder / "serving-kubelet", name, "", name, "127.0.0.1", ip]
            run("pki", "sign", tls / "server-ca", *serving)
            files = {path.name: path.read_text() for path in folder.iterdir()}
        for each in ("server-ca.crt", "client-ca.crt"):
            files[each] = (tls / each).read_text()
        for each in ("client-k3s-controller.crt", "client-k3s-controller.key"):
            files[each] = (tls / each).read_text()
        return files


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def get_request(self) -> tuple[Any, Any]:
        """Speak TLS, in the thread of the request."""
        plain, address = super().get_request()
        return self.context.wrap_socket(plain, True, do_handshake_on_connect=False), address

    def handle_error(self, *_: object) -> None:
        """Whoever breaks off is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    door: Door
    timeout = 30

    def do_GET(self) -> None:
        if self.path == "/cacerts":
            self._answer(200, self.door.server.certificate)
        elif self.path == "/ping":
            self._answer(200, "pong")
        elif self.path == "/v1-k3s/bootstrap":
            self._guarded(("server",), lambda _: self.door.bootstrap())
        else:
            self._answer(404, "not found")

    def do_POST(self) -> None:
        if self.path == "/v1-k3s/join":
            self._guarded(("node", "server"), self.door.join)
        elif self.path == "/v1-k3s/members":
            self._guarded(("server",), self.door.members)
        elif self.path == "/v1-k3s/promotion":
            self._guarded(("server",), self.door.promotion)
        else:
            self._answer(404, "not found")

    def _guarded(self, users: tuple[str, ...], act: Any) -> None:
        user, password = self._credentials()
        if user not in users or not self.door.lets_in(user, password):
            self._answer(401, "not authorized")
            return
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = json.loads(self.rfile.read(length)) if length else {}
            self._answer(200, json.dumps(act(body)))
        except RefusedError as error:
            self._answer(error.status, str(error))
        except (OSError, RuntimeError) as error:
            self._answer(503, f"server is not ready: {error}")
        except (ValueError, KeyError) as error:
            self._answer(400, f"bad request: {error}")

    def _credentials(self) -> tuple[str, str]:
        kind, _, packed = (self.headers.get("Authorization") or "").partition(" ")
        if kind != "Basic":
            return "", ""
        try:
            user, _, password = base64.b64decode(packed).decode().partition(":")
        except ValueError:
            return "", ""
        return user, password

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        say(f"{self.client_address[0]}: {format % arguments}", "debug")
