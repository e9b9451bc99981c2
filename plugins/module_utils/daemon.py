# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a long-lived process of ours that outlives its starter.

The listening socket is made first and handed over as descriptor 3, so that whoever connects before
the process is ready simply waits.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from . import channel
from .cgroups import Group
from .errors import AgentError


def import_root() -> Path:
    """Return the folder to put on the module path, with the links by which this was imported."""
    return Path(__file__).absolute().parents[len((__package__ or "").split("."))]


def start(module: str, directory: Path, socket_path: Path, *, group: Group | None = None) -> int:
    """Start a module's main in a session of its own; return its process id.

    Args:
        module: the module's name in this package.
        directory: the folder that it serves, its first argument.
        socket_path: where it listens.
        group: the control group that it joins.
    """
    server = channel.listen(socket_path)
    code = (
        f"import sys; sys.path.insert(0, {str(import_root())!r});"
        f" from {__package__}.{module} import main; main()"
    )
    log = directory / "agent" / f"{module}.log"

    def prepare() -> None:
        if group is not None:
            group.join()
        os.dup2(server.fileno(), 3)

    with server, log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", code, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=prepare,
            pass_fds=(3, server.fileno()),
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LISTEN_FDS": "1"},
        )
    return process.pid


def ensure(module: str, directory: Path, socket_path: Path, *, group: Group | None = None) -> bool:
    """Start a module's main unless it answers already; return whether it was started."""
    try:
        channel.Client(socket_path).close()
    except AgentError:
        start(module, directory, socket_path, group=group)
        return True
    return False


def inherited() -> socket.socket | None:
    """Return the listening socket that the starter handed over, if any."""
    if not os.environ.pop("LISTEN_FDS", None):
        return None
    return socket.socket(fileno=3)
