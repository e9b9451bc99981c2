# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to the agents of virtual machines, open side by side, and the clocks at their far ends.

An SSH session to each machine passes lines to and from its agent. What an agent answers to a
question comes within milliseconds, so its clock can be compared with ours as closely as that.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from ansible.constants import config

from ..module_utils import channel
from ..module_utils.errors import AgentError

SOCKET = "/run/pkgctl/agent/agent.sock"
# What runs on the machine: bytes go from either side to the other until one hangs up.
PROGRAM = """\
import os, select, socket, sys
agent = socket.socket(socket.AF_UNIX)
agent.connect(sys.argv[1])
ways = {0: agent.sendall, agent.fileno(): lambda data: os.write(1, data)}
while True:
    for each in select.select(list(ways), [], [])[0]:
        data = os.read(each, 1 << 16)
        if not data:
            sys.exit()
        ways[each](data)
"""
# An emulated machine takes seconds for a handshake; what is asked then is answered at once.
_OPENING, _ANSWERING = 60.0, 30.0
_CONNECTING = 10
_ROUNDS = 5
# What the program ends with where no agent listens.
_NOBODY = ("FileNotFoundError", "ConnectionRefusedError")
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Clock:
    """A far clock: what to add to ours to have it, in seconds, and how wrong that may be."""

    offset: float
    uncertainty: float


class Relay:
    """A way to the agent of one machine."""

    def __init__(self, name: str, argv: list[str], errors: IO[bytes]) -> None:
        """Begin to open the way; whoever asks waits until it is open.

        Args:
            name: the machine's name.
            argv: what opens it.
            errors: a file for what SSH says of its failures.
        """
        self.name = name
        self._errors = errors
        self._received = b""
        self._patience = _OPENING
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            raise AgentError(f"{name}: {argv[0]} cannot be run: {error.strerror}") from error

    def close(self) -> None:
        """Hang up."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()

    def ask(self, op: str, **fields: Any) -> None:
        """Send a request; the next answer is its.

        Raises:
            AgentError: if the way is closed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(channel.encode({"op": op, **fields}))
            self._process.stdin.flush()
        except OSError as error:
            raise self._closed() from error

    def answer(self) -> Body:
        """Return the agent's next answer.

        Raises:
            AgentError: in the agent's words if it refuses; in SSH's if the way is closed.
        """
        answer = channel.decode(self._line())
        if not answer.get("ok"):
            raise AgentError(f"{self.name}: {answer.get('error', 'its agent refused')}")
        return answer

    def call(self, op: str, **fields: Any) -> Body:
        """Return the agent's answer to a request."""
        self.ask(op, **fields)
        return self.answer()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline, source = time.monotonic() + self._patience, self._process.stdout.fileno()
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                raise AgentError(f"{self.name}: no answer within {self._patience:g} s")
            data = os.read(source, 1 << 16)
            if not data or len(self._received) > channel.LONGEST:
                raise self._closed()
            self._received += data
        self._patience = _ANSWERING
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _closed(self) -> AgentError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._errors.seek(0)
        words = self._errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else "the connection was closed"
        if reason.startswith(_NOBODY):
            reason = "none runs there; site.yml installs it"
        return AgentError(f"the agent of {self.name} is out of reach: {reason}")

    def clock(self) -> Clock:
        """Return the agent's CLOCK_MONOTONIC against ours, by the quickest of some answers."""
        found = []
        for _ in range(_ROUNDS):
            before = time.monotonic()
            there = float(self.call("ping")["mono"])
            after = time.monotonic()
            found.append(Clock(there - (before + after) / 2, (after - before) / 2))
        return min(found, key=lambda each: each.uncertainty)


@contextmanager
def opened(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Relay]]:
    """Have ways to the agents of hosts, by their variables, while the block runs.

    Raises:
        AgentError: if one cannot be opened; it says so when it is first asked.
    """
    with ExitStack() as stack:
        relays = []
        for name, variables in hosts.items():
            errors = stack.enter_context(tempfile.TemporaryFile())
            relays.append(Relay(name, argv(variables), errors))
            stack.callback(relays[-1].close)
        yield relays


def asked(relays: Iterable[Relay], op: str, **fields: Any) -> list[Body]:
    """Return the answers of several agents to one request, asked all at once."""
    several = list(relays)
    for each in several:
        each.ask(op, **fields)
    return [each.answer() for each in several]


def argv(variables: Mapping[str, Any]) -> list[str]:
    """Return the words that open a way to the agent of a host, by its variables."""
    python = str(variables.get("ansible_python_interpreter", "python3"))
    command = shlex.join([python, "-S", "-E", "-c", PROGRAM, SOCKET])
    words = [str(variables.get("ansible_ssh_executable", "ssh")), "-T"]
    for option, value in _options(variables).items():
        words += ["-o", f"{option}={value}"]
    for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        words += shlex.split(str(variables.get(key) or ""))
    return [*words, str(variables["ansible_host"]), command]


def _options(variables: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "BatchMode": "yes",
        "ConnectTimeout": str(variables.get("ansible_ssh_timeout", _CONNECTING)),
        "Port": str(variables.get("ansible_port", 22)),
        "User": f'"{variables.get("ansible_user", "root")}"',
    }
    if key := variables.get("ansible_ssh_private_key_file"):
        found["IdentityFile"] = f'"{key}"'
    if shared := variables.get("ansible_control_path"):
        # A connection that Ansible keeps open is used; none is kept for this.
        folder = f"{config.get_config_value('ANSIBLE_HOME')}/cp"
        found["ControlMaster"] = "no"
        found["ControlPath"] = f'"{str(shared) % {"directory": folder}}"'
    return found
