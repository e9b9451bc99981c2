# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's folder, and an agent in it that answers as the real one and notes what it heard."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from ansible_collections.pkgctl.testbed.plugins.module_utils import arming, channel, identity
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk, Identity


def node(folder: Path, **changes: Any) -> Identity:
    """Return a node with two peers and a disk, whose folder is in a test's own."""
    fields: dict[str, Any] = {
        "name": "edge-1",
        "testbed": "test",
        "interface": "eth0",
        "address": "10.77.0.2",
        "network": "10.77.0.0/16",
        "peers": {"cloud-1": "10.77.0.1", "edge-2": "10.77.0.3"},
        "access": None,
        "cgroup": "pkgctl/test/edge-1",
        "cpu": 1.0,
        "memory": 1 << 28,
        "pids": 256,
        "disks": {"data": Disk("/images/data.img", "/data", 1 << 26)},
        "directory": str(folder),
    }
    made = identity.Identity(**{**fields, **changes})
    made.save()
    return made


class Agent:
    """Answers each request with what it was told to; a context manager."""

    def __init__(self, here: Identity, **answer: Any) -> None:
        """Listen where the node's agent does."""
        path = arming.socket(here)
        path.parent.mkdir()
        self._server = channel.listen(path)
        self._answer = {"ok": True, **answer}
        self.heard: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Agent:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up, and wait for the thread."""
        self._server.shutdown(2)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as lines:
                self.heard.append(json.loads(lines.readline()))
                lines.write(json.dumps(self._answer).encode() + b"\n")
