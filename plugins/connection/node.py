# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: node
short_description: Run tasks inside a node of a local testbed
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Enters the network, mount, UTS and IPC namespaces of a node on this machine, and its control
    group. Needs root, as the testbed itself does.
options:
  namespaces:
    description: The folder with the node's pinned namespaces.
    type: str
    required: true
    vars:
      - name: pkgctl_namespaces
  cgroup:
    description: The node's control group, below the root of each hierarchy.
    type: str
    required: true
    vars:
      - name: pkgctl_cgroup
  directory:
    description:
      - The node's own folder, which tells whether it is running.
      - Nothing runs on a node that is paused, stopped or crashed. It is then unreachable to tasks,
        but not to the actions of this collection that make it so and bring it back.
    type: str
    vars:
      - name: pkgctl_directory
  limits:
    description:
      - Whether what runs in the node counts against its limits of CPU, memory and processes.
      - Turn it off for tasks that set those limits. Otherwise a node with next to no memory could
        not be given more.
    type: bool
    default: true
    vars:
      - name: pkgctl_limits
  become_success_timeout:
    description: Seconds to wait until become succeeds.
    type: int
    default: 10
    vars:
      - name: ansible_node_become_success_timeout
  become_strip_preamble:
    description: Strip what become prints before the command runs.
    type: bool
    default: true
    vars:
      - name: ansible_node_become_strip_preamble
extends_documentation_fragment:
  - connection_pipelining
"""

import json
import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection.local import Connection as LocalConnection
from ansible.utils.display import Display

from ..module_utils import cgroups, condition, namespaces
from ..module_utils.errors import NodeError

display = Display()

KINDS = {"net": "--net", "mnt": "--mount", "uts": "--uts", "ipc": "--ipc"}
SESSION = "session"
# To the kernel 0 is whoever writes: the shell joins each group, then becomes what enters the node.
# Once joined it looks again whether the node is up: a layer of its health would say otherwise.
_JOIN = """
health=$1; shift
while [ "$1" != -- ]; do echo 0 >"$1" || exit 1; shift; done; shift
[ -r "$health" ] && IFS= read -r layers <"$health"
case $layers in *'"health":'*) exit 255;; esac
exec "$@"
"""


class Connection(LocalConnection):
    """A way into one node; become and its prompts are handled as by the local connection."""

    transport = "pkgctl.testbed.node"
    has_pipelining = True
    has_tty = False

    def _connect(self) -> Connection:
        """Refuse a node that cannot be entered, in one line; nothing is kept open."""
        name = self._play_context.remote_addr
        if os.geteuid() != 0:
            raise AnsibleConnectionFailure(f"entering node {name} needs root")
        for kind in KINDS:
            place = self._namespace(kind)
            if not os.path.ismount(place):
                raise AnsibleConnectionFailure(
                    f"node {name} is not there: {place} is no namespace; run pkgctl up"
                )
        self._connected = True
        return self

    def _check_up(self) -> None:
        """Refuse a node that is not running, in one line."""
        directory = self.get_option("directory")
        try:
            now = condition.load(directory) if directory else condition.RUNNING
        except NodeError as error:
            raise AnsibleConnectionFailure(str(error)) from error
        if not condition.is_up(now):
            raise AnsibleConnectionFailure(f"node {self._play_context.remote_addr} is {now}")

    def _namespace(self, kind: str) -> str:
        return str(Path(self.get_option("namespaces"), kind))

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a command in the node and return its exit status, output and error output."""
        self._connect()
        self._check_up()
        display.vvv(f"EXEC {cmd}", host=self._play_context.remote_addr)
        with self._process(["/bin/sh", "-c", cmd]) as process:
            said, complained = self._ensure_become_success(process, None, sudoable)
            output, errors = process.communicate(in_data)
        if process.returncode:
            self._check_up()
        return process.returncode, said + output, complained + errors

    def call(self, work: Callable[[], Mapping[str, object]]) -> dict[str, Any]:
        """Return what a function returns inside the node, in a fork of this process.

        For code that the controller has loaded already: no interpreter starts in the node, and
        the node's limits do not count. The function must return what JSON can carry.

        Raises:
            AnsibleConnectionFailure: if the fork ended without an answer.
        """
        self._connect()
        source, target = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            _answer(work, Path(self.get_option("namespaces")), target)
        os.close(target)
        try:
            with os.fdopen(source, "rb") as answers:
                answer = answers.read()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.waitpid(child, 0)
        if not answer:
            name = self._play_context.remote_addr
            raise AnsibleConnectionFailure(f"node {name}: the process inside it was ended")
        return dict(json.loads(answer))

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller into the node."""
        self._connect()
        self._check_up()
        display.vvv(f"PUT {in_path} TO {out_path}", host=self._play_context.remote_addr)
        if not Path(in_path).is_file():
            raise AnsibleFileNotFound(f"there is no file {in_path}")
        with (
            Path(in_path).open("rb") as source,
            self._process(["/bin/sh", "-c", 'cat >"$1"', "sh", out_path], source) as process,
        ):
            _, errors = process.communicate()
        self._check_copy(process.returncode, f"copy {in_path} to {out_path}", errors)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the node to the controller."""
        self._connect()
        self._check_up()
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self._play_context.remote_addr)
        with (
            Path(out_path).open("wb") as target,
            self._process(["cat", "--", in_path], subprocess.DEVNULL) as process,
        ):
            assert process.stdout is not None and process.stderr is not None
            shutil.copyfileobj(process.stdout, target)
            errors = process.stderr.read()
        self._check_copy(process.returncode, f"fetch {in_path}", errors)

    def _check_copy(self, status: int, what: str, errors: bytes) -> None:
        if status != 0:
            name, reason = self._play_context.remote_addr, errors.decode(errors="replace").strip()
            raise AnsibleError(f"node {name}: cannot {what}: {reason}")

    @contextmanager
    def _process(
        self, arguments: list[str], stdin: IO[bytes] | int = subprocess.PIPE
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process inside the node; what ends the block early ends it and its children."""
        process = subprocess.Popen(
            self._inside(arguments),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise

    def _inside(self, arguments: list[str]) -> list[str]:
        """Return the arguments that run others inside the node."""
        spaces = [f"{option}={self._namespace(kind)}" for kind, option in KINDS.items()]
        enter = ["nsenter", *spaces, "--", *arguments]
        if not self.get_option("limits"):
            return enter
        session = cgroups.group(self.get_option("cgroup")).child(SESSION)
        if not session.exists():
            session.create()
        groups = [str(folder / "cgroup.procs") for folder in session.homes()]
        health = str(Path(self.get_option("directory") or "/", condition.STORE))
        return ["/bin/sh", "-c", _JOIN, "sh", health, *groups, "--", *enter]

    def reset(self) -> None:
        """Nothing is kept open between commands."""

    def close(self) -> None:
        """Nothing is kept open between commands."""
        self._connected = False


def _answer(work: Callable[[], Mapping[str, object]], pins: Path, target: int) -> NoReturn:
    """Enter pinned namespaces, write what work returns to a descriptor, and end this process."""
    try:
        answer: Mapping[str, object] = _enter(work, pins)
    except Exception as error:
        answer = {"failed": True, "msg": str(error), "exception": traceback.format_exc()}
    try:
        with os.fdopen(target, "w", encoding="utf-8") as answers:
            json.dump(answer, answers)
    finally:
        os._exit(0)


def _enter(work: Callable[[], Mapping[str, object]], pins: Path) -> Mapping[str, object]:
    namespaces.enter(pins, *KINDS)
    os.chdir("/")
    return work()
