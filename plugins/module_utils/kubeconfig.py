# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kubelet's kubeconfig says: where the API is, whom to trust, and by what it is known; pure.

K3s writes YAML that names files, others write JSON that holds all that is needed. Both know one
cluster and one user, so each key means one thing wherever it stands.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import NodeError

_SERVER = "server"
_AUTHORITY, _CERTIFICATE, _KEY = "certificate-authority", "client-certificate", "client-key"
_FILES = (_AUTHORITY, _CERTIFICATE, _KEY)
_KEYS = (_SERVER, *_FILES, *(f"{name}-data" for name in _FILES))
_LINE = re.compile(r"[\s-]*([a-z-]+):\s+(\S.*?)\s*")


@dataclass(frozen=True, slots=True)
class Part:
    """A certificate or a key: the file that has it, or its text."""

    path: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """The way to an API.

    Attributes:
        server: its address, as a URL.
        authority: the certificates that its own is judged by.
        certificate: the client's.
        key: the client's.
    """

    server: str
    authority: Part
    certificate: Part
    key: Part


def read(text: str, folder: Path) -> Access:
    """Return the way that a kubeconfig shows.

    Args:
        text: its content.
        folder: where it lies, from which its paths are meant.

    Raises:
        NodeError: in one line, if it shows none, or several.
    """
    found: dict[str, str] = {}
    for key, value in _pairs(text):
        if found.setdefault(key, value) != value:
            raise NodeError(f"the kubeconfig says {key} twice")
    if not found.get(_SERVER, "").startswith("https://"):
        raise NodeError("the kubeconfig names no server that is reached by https")
    return Access(found[_SERVER], *(_part(found, name, folder) for name in _FILES))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        try:
            yield from _walk(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise NodeError(f"the kubeconfig is no JSON: {error}") from error
        return
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and match[1] in _KEYS:
            yield match[1], match[2].strip("'\"")


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for each in value:
            yield from _walk(each)
    if isinstance(value, dict):
        for key, each in value.items():
            if key in _KEYS:
                yield key, str(each)
            else:
                yield from _walk(each)


def _part(found: Mapping[str, str], name: str, folder: Path) -> Part:
    if data := found.get(f"{name}-data"):
        try:
            return Part(text=base64.b64decode(data, validate=True).decode("ascii"))
        except ValueError as error:
            raise NodeError(f"the kubeconfig's {name}-data cannot be read") from error
    if path := found.get(name):
        return Part(path=str(folder / path))
    raise NodeError(f"the kubeconfig has no {name}")
