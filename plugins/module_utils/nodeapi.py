# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's own object at the Kubernetes API, by the credentials that its kubelet has there.

A kubelet may read its own node and change that one's status, and so may whoever has what it has.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

from . import kubeconfig
from .errors import ApiError, NodeError
from .kubeconfig import Access, Part

# Long enough for a handshake over a link of half a second.
_PATIENCE = 10.0
_STRATEGIC = "application/strategic-merge-patch+json"
_MOST = 16 << 20


class OwnNode:
    """The object of one node."""

    def __init__(self, path: Path, name: str) -> None:
        """Ask as the kubelet whose kubeconfig is at a path; it is read anew for each connection."""
        self._path = path
        self._place = f"/api/v1/nodes/{urllib.parse.quote(name, safe='')}"
        self._connection: http.client.HTTPSConnection | None = None

    def get(self) -> dict[str, Any]:
        """Return the object.

        Raises:
            ApiError: if the API is out of reach or refuses.
            NodeError: if there is no kubeconfig that can be used.
        """
        return self._ask("GET", self._place)

    def patch_status(self, body: dict[str, Any]) -> None:
        """Change the object's status by a strategic merge patch.

        Raises:
            ApiError: if the API is out of reach or refuses.
            NodeError: if there is no kubeconfig that can be used.
        """
        self._ask("PATCH", f"{self._place}/status", json.dumps(body), {"Content-Type": _STRATEGIC})

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(
        self, method: str, place: str, body: str | None = None, more: dict[str, str] | None = None
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json", **(more or {})}
        while True:
            is_fresh = self._connection is None
            try:
                connection = self._connected()
                connection.request(method, place, body, headers)
                answer = connection.getresponse()
                return _read(answer.status, answer.read(_MOST))
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # One that was idle may have been closed on the other side.
                if is_fresh:
                    reason = getattr(error, "strerror", None) or error
                    raise ApiError(f"the API does not answer: {reason}") from error
            except ApiError:
                # What is refused to old credentials may be granted to those of now.
                self.close()
                raise

    def _connected(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            access = self._access()
            parts = urllib.parse.urlsplit(access.server)
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port or 443, timeout=_PATIENCE, context=context(access)
            )
        return self._connection

    def _access(self) -> Access:
        try:
            return kubeconfig.read(self._path.read_text(), self._path.parent)
        except (OSError, ValueError) as error:
            raise NodeError(f"{self._path} cannot be read: {error}") from error


def _read(status: int, text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    said = found if isinstance(found, dict) else {}
    if status >= http.client.MULTIPLE_CHOICES:
        raise ApiError(f"the API refuses ({status}): {str(said.get('message', ''))[:300]}")
    if found is None or not said:
        raise ApiError("the API answers with no object")
    return said


def context(access: Access) -> ssl.SSLContext:
    """Return what a connection is made with; keys that are given as texts touch no disk.

    Raises:
        OSError: if a certificate or a key cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(access.authority.path or None, None, access.authority.text or None)
    held: list[int] = []
    try:
        made.load_cert_chain(_file(access.certificate, held), _file(access.key, held))
    finally:
        for each in held:
            os.close(each)
    return made


def _file(part: Part, held: list[int]) -> str:
    """Return a path at which a part can be read; one that is a text is in memory only."""
    if part.path:
        return part.path
    opened = os.memfd_create("part", os.MFD_CLOEXEC)
    held.append(opened)
    os.write(opened, part.text.encode())
    return f"/proc/self/fd/{opened}"
