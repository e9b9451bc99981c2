# SPDX-License-Identifier: GPL-3.0-or-later
"""A virsh that moves domains in files and notes what it was told, put first in PATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

URI = "qemu:///system"
# A domain that is asked to shut down does so unless a file says that it is deaf.
SCRIPT = r"""#!/bin/sh
home=HOME_OF_DOMAINS
[ "$1" = --quiet ] && [ "$2" = --connect ] || { echo "bad words: $*" >&2; exit 9; }
shift 3
echo "$*" >>"$home/calls"
state=$home/$2
fail() { echo "error: $*" >&2; exit 1; }
[ ! -e "$home/broken" ] || { echo "error: failed to connect to the hypervisor" >&2
                             fail "unable to connect socket: Connection refused"; }
[ -e "$state" ] || { echo "error: failed to get domain '$2'" >&2; exit 1; }
now=$(cat "$state")
become() { echo "$1" >"$state.new"; mv "$state.new" "$state"; }
case "$1" in
domstate) echo "$now"; echo ;;
suspend) [ "$now" = running ] || fail "Requested operation is not valid: domain is not running"
         become paused ;;
resume) [ "$now" = paused ] || fail "Requested operation is not valid: domain is not paused"
        become running ;;
start) [ "$now" = "shut off" ] || fail "Domain is already active"
       if [ "$3" = --paused ]; then become paused; else become running; fi ;;
destroy) [ "$now" != "shut off" ] || fail "Requested operation is not valid: domain is not running"
         become "shut off" ;;
shutdown) [ "$now" = running ] || fail "Requested operation is not valid: domain is not running"
          [ -e "$home/deaf" ] || become "shut off" ;;
*) fail "unknown command: '$1'" ;;
esac
"""


class Virsh:
    """The domains of one host."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have a virsh in a folder, and no domain."""
        self.folder = folder / "domains"
        self.folder.mkdir()
        tools = folder / "tools"
        tools.mkdir()
        script = tools / "virsh"
        script.write_text(SCRIPT.replace("HOME_OF_DOMAINS", str(self.folder)))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    def define(self, domain: str, state: str = "running") -> None:
        """Have a domain in a state."""
        (self.folder / domain).write_text(f"{state}\n")

    def state(self, domain: str) -> str:
        """Return a domain's state."""
        return (self.folder / domain).read_text().strip()

    def mark(self, what: str) -> None:
        """Let shut-downs be unheard (``deaf``), or the host out of reach (``broken``)."""
        (self.folder / what).touch()

    def heal(self, what: str) -> None:
        """Take a mark away."""
        (self.folder / what).unlink()

    def calls(self) -> list[str]:
        """Return what was asked for but the state, in order."""
        path = self.folder / "calls"
        told = path.read_text().splitlines() if path.exists() else []
        return [line for line in told if not line.startswith("domstate ")]
