# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a long-lived process of ours that outlives its starter and is nobody's child.

The listening socket is made first and handed over as descriptor 3, so that whoever connects before
the process is ready simply waits.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from . import channel
from .cgroups import Group
from .errors import AgentError

# A file of this name in a testbed's folder says that the testbed is being removed.
DOWN = "down"
# One of this name says that the node is a machine of its own, whose system keeps the agent running.
SERVICE = "service"
_LISTENER = 3


def import_root() -> Path:
    """Return the folder to put on the module path, with the links by which this was imported."""
    return Path(__file__).absolute().parents[len((__package__ or "").split("."))]


def start(
    module: str,
    directory: Path,
    socket_path: Path,
    *,
    group: Group | None = None,
    keep: Collection[str] = (),
) -> None:
    """Start a module's main in a session of its own.

    Args:
        module: the module's name in this package; with dots its whole name, in any other.
        directory: the folder that it serves, its first argument.
        socket_path: where it listens.
        group: the control group with which it is found.
        keep: what it keeps of the starter's environment, beside the path of programs.
    """
    with channel.listen(socket_path) as server:
        child = os.fork()
        if child == 0:
            _become(module, directory, server, group, keep)
        os.waitpid(child, 0)


def _become(
    module: str,
    directory: Path,
    server: socket.socket,
    group: Group | None,
    keep: Collection[str],
) -> NoReturn:
    """Leave the starter's session and family, then be the module."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        if group is not None:
            group.mark()
        _redirect(directory / "agent" / f"{module.rpartition('.')[2]}.log", server)
        whole = module if "." in module else f"{__package__}.{module}"
        places = [str(import_root()), *_homes(module)]
        code = f"import sys; sys.path[:0] = {places!r}; from {whole} import main; main()"
        argv = [sys.executable, "-S", "-E", "-c", code, str(directory)]
        kept = {name: os.environ[name] for name in keep if name in os.environ}
        env = {**kept, "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LISTEN_FDS": "1"}
        os.execve(sys.executable, argv, env)
    finally:
        os._exit(127)


def _homes(module: str) -> list[str]:
    """Return where a module of another package is found by those who know its package already."""
    package, dot, _ = module.partition(".")
    if not dot:
        return []
    return [str(Path(place).absolute().parent) for place in sys.modules[package].__path__]


def _redirect(log: Path, server: socket.socket) -> None:
    quiet = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(quiet, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if server.fileno() == _LISTENER:
        os.set_inheritable(_LISTENER, True)
    else:
        os.dup2(server.fileno(), _LISTENER)


def ensure(
    module: str,
    directory: Path,
    socket_path: Path,
    *,
    group: Group | None = None,
    keep: Collection[str] = (),
) -> bool:
    """Start a module's main unless it answers already; return whether it was started.

    Of several that try this at the same time one does it, and the others wait.
    """
    with socket_path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            channel.Client(socket_path).close()
        except AgentError:
            start(module, directory, socket_path, group=group, keep=keep)
            return True
    return False


def is_going_down(directory: Path) -> bool:
    """Return whether a testbed is being removed: what ends there is not to be started again."""
    return Path(directory, DOWN).exists()


def is_service(directory: Path) -> bool:
    """Return whether the machine's own system starts the agent, so that nobody else may."""
    return Path(directory, SERVICE).exists()


def inherited() -> socket.socket | None:
    """Return the listening socket that the starter handed over, if any."""
    if not os.environ.pop("LISTEN_FDS", None):
        return None
    return socket.socket(fileno=_LISTENER)
