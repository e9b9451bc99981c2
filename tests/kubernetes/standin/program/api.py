# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests in JSON over TLS: to the API, and between those who join and whom they join."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RefusedError(OSError):
    """The other side answered, and not as wished."""

    def __init__(self, status: int, text: str) -> None:
        """Keep the status."""
        super().__init__(text)
        self.status = status


class Client:
    """One who asks, with a certificate or with a password."""

    def __init__(
        self,
        url: str,
        *,
        trust: Path | str | None,
        pair: tuple[Path, Path] | None = None,
        password: tuple[str, str] | None = None,
    ) -> None:
        """Know whom to ask.

        Args:
            url: where.
            trust: the certificate to trust, a file or its text; without one, anybody.
            pair: the files of one's own certificate and key.
            password: a user and a password.
        """
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._context = _context(trust, pair)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if password is not None:
            secret = base64.b64encode(":".join(password).encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"

    def ask(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> Any:
        """Return the answer."""
        with self._open(method, path, body, kind, 30) as connection:
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status >= 300:
                raise RefusedError(answer.status, _message(text) or answer.reason)
            return json.loads(text) if text[:1] in "{[" else text

    def watch(self, path: str, timeout: int) -> Iterator[dict[str, Any]]:
        """Yield what changes, until the other side has had enough."""
        path = f"{path}&watch=1&timeoutSeconds={timeout}"
        with self._open("GET", path, None, "application/json", timeout + 30) as connection:
            answer = connection.getresponse()
            if answer.status >= 300:
                raise RefusedError(answer.status, answer.reason)
            for line in answer:
                yield json.loads(line)

    def _open(self, method: str, path: str, body: object, kind: str, timeout: float) -> _Closing:
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=timeout
        )
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, text, {**self._headers, "Content-Type": kind})
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        return _Closing(connection)


class _Closing:
    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        self._connection = connection

    def __enter__(self) -> http.client.HTTPSConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _context(trust: Path | str | None, pair: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif isinstance(trust, Path):
        context.load_verify_locations(cafile=str(trust))
    else:
        context.load_verify_locations(cadata=trust)
    if pair is not None:
        context.load_cert_chain(str(pair[0]), str(pair[1]))
    return context


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message", text))
    except (ValueError, AttributeError):
        return text.strip()
