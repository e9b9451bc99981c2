# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the agent of a virtual machine: its socket, brought to this machine by SSH.

One connection for each node is held open; whoever connects to the socket on this side goes through
it. A shared connection for commands would end when nobody runs any.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from pkgctl.remote import ssh

# An emulated machine takes seconds for a handshake.
PATIENCE = 30.0
_READY = b"ready\n"
# Ends when we do, however we end: then its input is closed, and the connection with it.
_WAIT = "echo ready; exec cat >/dev/null"
_OPTIONS = (
    "ControlMaster=no",
    "ControlPath=none",
    # A machine that is short of time is not one that is gone; who is switched off is told of.
    "ServerAliveInterval=10",
    "ExitOnForwardFailure=yes",
    "StreamLocalBindUnlink=yes",
    "StreamLocalBindMask=0177",
)


def argv(there: ssh.Target, local: Path, remote: str) -> list[str]:
    """Return the words that bring a socket of a node to a path of this machine."""
    first, *rest = ssh.argv(there, "sh", "-c", _WAIT)
    # Of an option that is given twice SSH takes the first.
    own = [word for option in _OPTIONS for word in ("-o", option)]
    return [first, *own, "-L", f"{local}:{remote}", *rest]


class Way:
    """The way to one node's agent; open while the block runs."""

    def __init__(self, there: ssh.Target, local: Path, remote: str) -> None:
        """Bring the node's socket ``remote`` to the path ``local``."""
        self.socket = local
        self._argv = argv(there, local, remote)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Way:
        """Open it.

        Raises:
            OSError: in SSH's own words, if the node does not answer.
        """
        pipe = asyncio.subprocess.PIPE
        process = self._process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        assert process.stdout is not None and process.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE):
                word = await process.stdout.readline()
                words = b"" if word else await process.stderr.read(4096)
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, TimeoutError):
                raise OSError(f"no answer by SSH within {PATIENCE:g} s") from error
            raise
        if word != _READY:
            await self.__aexit__()
            raise OSError(ssh.last_words((word + words).decode(errors="replace")))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        self.socket.unlink(missing_ok=True)

    async def lost(self) -> None:
        """Return when the connection has ended."""
        if self._process is not None:
            await self._process.wait()


class Straight:
    """The way to an agent on this machine."""

    def __init__(self, socket: Path) -> None:
        """Go to a socket as it is."""
        self.socket = socket

    async def __aenter__(self) -> Straight:
        """Open it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""

    async def lost(self) -> None:
        """Never return."""
        await asyncio.get_running_loop().create_future()
