# SPDX-License-Identifier: GPL-3.0-or-later
"""The files and the control of a node's load generator, for a controller that is elsewhere.

They are in the folder ``load`` of the node's own folder. Texts go in pieces, for a message is one
mebibyte at most.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import AgentError
from .identity import Identity

FOLDER = "load"
PIECE = 1 << 19

Body = dict[str, Any]


class ClientFiles:
    """The load generators' folders of a testbed's nodes."""

    def __init__(self, directory: Path, nodes: Callable[[str], Identity]) -> None:
        """See to the testbed in directory, whose nodes' identities nodes returns."""
        self._directory = directory
        self._nodes = nodes

    def put(self, request: Body) -> Body:
        """Write a piece of a file behind what it has; without an ``offset`` it begins anew."""
        folder = self._folder(request)
        folder.mkdir(exist_ok=True)
        offset = int(request.get("offset", 0))
        path = folder / _name(request)
        try:
            with path.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(base64.b64decode(str(request["data"]), validate=True))
                file.truncate()
        except OSError as error:
            raise AgentError(f"{path.name} cannot be written: {error.strerror}") from error
        return {}

    def read(self, request: Body) -> Body:
        """Return a piece of a file from ``offset`` on; at the end of the file it is empty."""
        return piece(self._folder(request) / _name(request), int(request.get("offset", 0)))

    def tell(self, request: Body) -> Body:
        """Send the generator a ``message``."""
        folder = self._folder(request)
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    # The path through the descriptor is short, however long the node's name is.
                    text = json.dumps(request["message"]).encode()
                    sock.sendto(text, f"/proc/self/fd/{opened}/control")
            finally:
                os.close(opened)
        except OSError as error:
            raise AgentError(f"the load generator does not listen: {error.strerror}") from error
        return {}

    def clear(self, request: Body) -> Body:
        """Remove the folder."""
        shutil.rmtree(self._folder(request), ignore_errors=True)
        return {}

    def _folder(self, request: Body) -> Path:
        return self._directory / "nodes" / self._nodes(str(request["node"])).name / FOLDER


def _name(request: Body) -> str:
    name = str(request["name"])
    if "/" in name or name in ("", ".", ".."):
        raise AgentError(f"{name[:64]!r} is no name of a file")
    return name


def piece(path: Path, offset: int) -> Body:
    """Return a piece of a file as a message can hold it; one that is not there is empty."""
    try:
        with path.open("rb") as file:
            file.seek(max(offset, 0))
            data = file.read(PIECE)
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise AgentError(f"{path.name} cannot be read: {error.strerror}") from error
    return {"data": base64.b64encode(data).decode()}
