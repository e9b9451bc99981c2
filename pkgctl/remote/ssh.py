# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into a virtual machine: SSH with the testbed's own key, to host keys known beforehand.

Host keys are noted by the node's name, so that an address that another node has used before is no
stranger. Connections to a node share one, for a handshake with an emulated machine takes seconds.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pkgctl.errors import MissingCapability, SpecError, TestbedError

CONNECT_SECONDS = 10
PACKAGE = "openssh-client"
# An emulated machine on a busy host takes its time for the keys.
_HANDSHAKE_SECONDS = 60.0
_PERSIST = "60s"
_PAUSE = 0.5
_AT_ONCE = 16
# What ssh itself ends with where it could not connect.
UNREACHABLE = 255


@dataclass(frozen=True, slots=True)
class Target:
    """A node as SSH reaches it.

    Attributes:
        node: its name, under which its host key is known.
        host: its address on the management network.
        jump: the machine to go through, as SSH names it; empty goes there directly.
    """

    node: str
    host: str
    key: Path
    known_hosts: Path
    user: str = "root"
    port: int = 22
    jump: str = ""


def target(record: Mapping[str, Any], node: str) -> Target:
    """Return how a node of a testbed is reached.

    Raises:
        SpecError: if the testbed's record says nothing of the way to its nodes.
    """
    try:
        known, access = record["nodes"][node], record["access"]
        return Target(
            node=node,
            host=known["host"],
            key=Path(access["key"]),
            known_hosts=Path(access["known_hosts"]),
            user=access.get("user", "root"),
            port=int(access.get("port", 22)),
            jump=jump(known.get("uri", "")),
        )
    except KeyError as error:
        raise SpecError(f"the record of testbed {record.get('testbed')!r} lacks {error}") from error


def targets(record: Mapping[str, Any]) -> list[Target]:
    """Return how each node of a testbed is reached."""
    return [target(record, node) for node in record["nodes"]]


def jump(uri: str) -> str:
    """Return the machine through which a host's own networks are reached; empty for this one."""
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh") or not parts.hostname:
        return ""
    user = f"{parts.username}@" if parts.username else ""
    return f"{user}{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def nameless(uri: str) -> str:
    """Return what is wrong with a host's address that names no user for SSH; else nothing.

    virsh would take this machine's user, and Pulumi's plugin none at all.
    """
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh") or parts.username:
        return ""
    return f"{uri} names no user; write {parts._replace(netloc=f'root@{parts.netloc}').geturl()}"


def argv(there: Target, *command: str, terminal: bool = False) -> list[str]:
    """Return the words that run a command on a node, or open its shell.

    Args:
        there: the node.
        command: its words; the node's shell sees each of them as it is.
        terminal: whether the command gets a terminal.
    """
    options = {
        "BatchMode": "yes",
        "IdentityFile": _quoted(there.key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _quoted(there.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": there.node,
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",
        "Port": str(there.port),
        "User": there.user,
        **({"ProxyJump": there.jump} if there.jump else {}),
        **_shared(there),
    }
    words = ["ssh", "-tt" if terminal else "-T"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, "--", there.host, *([shlex.join(command)] if command else [])]


def _quoted(path: Path) -> str:
    """Return a path as SSH's options take it: spaces kept, and percents as they are."""
    return '"' + str(path).replace("%", "%%") + '"'


def _shared(there: Target) -> dict[str, str]:
    folder = _sockets()
    if folder is None:
        return {"ControlMaster": "no", "ControlPath": "none"}
    path = folder / hashlib.sha256(f"{there.known_hosts} {there}".encode()).hexdigest()[:16]
    return {"ControlMaster": "auto", "ControlPath": _quoted(path), "ControlPersist": _PERSIST}


def _sockets() -> Path | None:
    """Return the folder of the shared connections, which only we may enter; None if it is not so.

    Its path is short, for a socket's may have no more than about a hundred letters.
    """
    folder = Path("/tmp", f"pkgctl-ssh-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    return folder if private and found.st_uid == os.geteuid() else None


def run(
    there: Target, *command: str, text: str = "", timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command on a node and return what it did, whatever its exit code.

    Args:
        there: the node.
        command: its words.
        text: its standard input.
        timeout: how many seconds it may take.

    Raises:
        MissingCapability: if there is no ssh.
        TestbedError: if the node cannot be reached, or the command does not end.
    """
    try:
        done = subprocess.run(
            argv(there, *command),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingCapability(f"ssh is missing: apt-get install {PACKAGE}") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"{there.node} did not answer within {timeout:g} s") from error
    if done.returncode == UNREACHABLE:
        raise TestbedError(f"{there.node} does not answer: {last_words(done.stderr)}")
    return done


def last_words(errors: str) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "ssh did not say why"


def reach(there: Target) -> str:
    """Return nothing if a node answers, else why not, in one line.

    Raises:
        MissingCapability: if there is no ssh.
    """
    try:
        run(there, "true", timeout=_HANDSHAKE_SECONDS)
    except TestbedError as error:
        return str(error)
    return ""


def hang_up(there: Target) -> None:
    """End the shared connection to a node, if there is one."""
    words = argv(there)
    subprocess.run(
        [*words[:1], "-O", "exit", *words[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def wait_for_ssh(
    there: Iterable[Target], deadline: float, say: Callable[[str], None] | None = None
) -> None:
    """Return when all nodes answer.

    Args:
        there: the nodes.
        deadline: until when to wait (CLOCK_MONOTONIC).
        say: is told of each node that answers, in one line.

    Raises:
        TestbedError: if some do not answer by then, with the last words about each.
    """
    started = time.monotonic()

    def wait(one: Target) -> str:
        while reason := reach(one):
            if time.monotonic() >= deadline:
                return reason
            time.sleep(_PAUSE)
        if say is not None:
            say(f"{one.node} answers by SSH ({time.monotonic() - started:.0f} s)")
        return ""

    found = list(everywhere(there, wait).values())
    if silent := [reason for reason in found if reason]:
        took = time.monotonic() - started
        raise TestbedError(f"after {took:.0f} s not reachable: {'; '.join(silent)}")


def everywhere(there: Iterable[Target], call: Callable[[Target], Any]) -> dict[str, Any]:
    """Return what a call gives for each of some nodes, by their names; several at a time."""
    wanted: Sequence[Target] = list(there)
    with ThreadPoolExecutor(max_workers=max(1, min(_AT_ONCE, len(wanted)))) as pool:
        return dict(zip((one.node for one in wanted), pool.map(call, wanted), strict=True))
