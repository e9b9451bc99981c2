# SPDX-License-Identifier: GPL-3.0-or-later
"""What it says: lines like K3s's, and a word to the system when it is ready."""

from __future__ import annotations

import json
import os
import socket
import sys
import time


def say(text: str, level: str = "info") -> None:
    """Say a line."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f'time="{now}" level={level} msg={json.dumps(text)}', file=sys.stderr, flush=True)


class Ready:
    """The word to whoever started it, which no child is to say before."""

    def __init__(self) -> None:
        """Take the address out of what children inherit."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def tell(self) -> None:
        """Say that it is ready."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(b"READY=1", address)
