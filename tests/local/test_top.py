# SPDX-License-Identifier: GPL-3.0-or-later
"""The live view and the listing of layers, on a testbed of their own and a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl.local.paths import Paths
from pkgctl.local.state import AGENT_SOCKET
from pkgctl.nodeside import channel

from .conftest import pkgctl

pytestmark = pytest.mark.root
PATIENCE = 240.0


class Terminal:
    """A command on a pseudo-terminal of a size, and all that it has written there."""

    def __init__(self, *words: str, columns: int = 80, rows: int = 24) -> None:
        """Start the command."""
        self._outer, inner = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._outer)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pkgctl", *words],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(inner)
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self.process.send_signal(number)

    def type(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self._outer, keys)

    def until(self, *words: str) -> str:
        """Return what is written from now on until all words were."""
        found, deadline = "", time.monotonic() + PATIENCE
        while not all(word in found for word in words):
            assert time.monotonic() < deadline, (words, found)
            if select.select([self._outer], [], [], 1.0)[0]:
                try:
                    found += os.read(self._outer, 1 << 16).decode()
                except OSError:
                    break
        self.seen += found
        assert all(word in found for word in words), (words, found)
        return found

    def settings(self) -> list[object]:
        """Return how the terminal is set now."""
        return termios.tcgetattr(self._outer)

    def state(self) -> str:
        """Return the letter of the process's state: T is stopped."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def close(self) -> None:
        """End the command if it runs, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._outer)


@pytest.fixture
def shown(duo: Paths) -> Iterator[Terminal]:
    """The live view of a testbed, once it shows the first picture."""
    view = Terminal("top", "--name", duo.name, "--interval", "300ms")
    try:
        view.until("NODE", "edge-1")
        yield view
    finally:
        view.close()


def frames(text: str) -> list[str]:
    return text.split("\x1b[H")[1:]


def assert_ended_well(view: Terminal) -> None:
    view.until("\x1b[?25h", "\x1b[?1049l")
    assert view.process.wait(PATIENCE) == 0
    assert view.settings() == view.before


def test_the_live_view_shows_nodes_links_and_layers_and_gives_the_terminal_back(
    duo: Paths, shown: Terminal
) -> None:
    words = ("src=edge-1", "bw=5mbit", "delay=10ms", "--name", "slow", "--testbed", duo.name)
    assert pkgctl("perturb", *words).returncode == 0

    seen = shown.until("edge-1 -> cloud-1", "slow", "lease")

    whole = frames(seen + shown.until("q quit"))[-1]
    assert len(whole.split("\r\n")) == 24
    shown.type(b"q")
    assert_ended_well(shown)


@pytest.mark.parametrize("keys", [b"\x03", b"?xq", b"/edge\r q"])
def test_keys_lead_out_of_the_live_view(shown: Terminal, keys: bytes) -> None:
    shown.type(keys)

    assert_ended_well(shown)


def test_the_live_view_follows_the_window(shown: Terminal) -> None:
    shown.resize(100, 30)
    shown.signal(signal.SIGWINCH)

    shown.until("SITE")

    shown.type(b"q")
    assert_ended_well(shown)
    assert any(len(frame.split("\r\n")) == 30 for frame in frames(shown.seen))


def test_the_live_view_ends_with_its_testbed(duo: Paths, shown: Terminal) -> None:
    assert pkgctl("down", "--name", duo.name).returncode == 0

    shown.until("\x1b[?1049l", "no testbed")

    assert shown.process.wait(PATIENCE) == 1
    assert shown.settings() == shown.before


def test_a_live_view_that_is_ended_gives_the_terminal_back(shown: Terminal) -> None:
    shown.signal(signal.SIGTERM)

    shown.until("\x1b[?25h", "\x1b[?1049l")

    assert shown.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert shown.settings() == shown.before


def test_a_stopped_live_view_gives_the_terminal_back_and_goes_on(shown: Terminal) -> None:
    shown.type(b"\x1a")
    shown.until("\x1b[?25h", "\x1b[?1049l")
    deadline = time.monotonic() + PATIENCE
    while shown.state() != "T":
        assert time.monotonic() < deadline, "it does not stop"
        time.sleep(0.01)
    assert shown.settings() == shown.before
    shown.signal(signal.SIGCONT)

    shown.until("\x1b[?1049h", "edge-1")

    shown.type(b"q")
    assert_ended_well(shown)


def test_one_picture_is_plain_text(duo: Paths) -> None:
    done = pkgctl("top", "--once", "--interval", "200ms", "--name", duo.name)

    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert any(line.startswith("edge-1 ") for line in done.stdout.splitlines())


def test_a_picture_tells_what_a_link_carried(three_sites: Paths) -> None:
    name = three_sites.name
    sender = [sys.executable, "-m", "pkgctl", "exec", "--name", name, "edge-1", "--"]
    sender += [sys.executable, "-S", "-E", "-c", SENDER]
    with subprocess.Popen(sender) as process:
        try:
            picture = wait_for_traffic(name)
        finally:
            process.kill()

    link = picture["links"][0]
    assert (link["src"], link["dst"]) == ("edge-1", "cloud-1")
    # The class has a burst, and a busy machine may send less than it lets through.
    assert 1e6 < link["seen"] < 1.1 * 20e6
    node = next(node for node in picture["nodes"] if node["name"] == "edge-1")
    assert node["tx"] > 1e6
    assert 0 < node["disk"] < node["disk_size"]


# Floods the link with datagrams that nobody reads; its class lets 20 mbit of them through.
SENDER = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        sender.sendto(bytes(1400), ("cloud-1", 9))
    except OSError:
        pass
"""


def wait_for_traffic(name: str) -> dict:
    deadline = time.monotonic() + PATIENCE
    while True:
        done = pkgctl("top", "--once", "-o", "json", "--name", name)
        picture = json.loads(done.stdout)
        if (picture["links"][0]["seen"] or 0) > 1e6:
            return picture
        assert time.monotonic() < deadline, picture["links"][0]


def status(name: str) -> dict:
    return json.loads(pkgctl("status", "-o", "json", "--name", name).stdout)


def test_layers_are_listed_with_what_is_left_of_their_time(duo: Paths) -> None:
    disturbances = {
        "slow": ("src=edge-1", "bw=5mbit", "delay=40ms", "duration=10m"),
        "kept": ("node=edge-1", "cpu=0.5", "--lease", "none"),
        "leased": ("node=cloud-1", "pids=100"),
        "late": ("node=edge-1", "mem=64Mi", "start=5m", "duration=1m"),
        "waits": ("node=edge-1", "pids=50", "when=requests > 1000"),
    }
    for name, words in disturbances.items():
        done = pkgctl("perturb", *words, "--name", name, "--testbed", duo.name)
        assert done.returncode == 0, done.stderr

    facts = status(duo.name)
    layers = {layer["name"]: layer for layer in facts["layers"]}

    assert set(layers) == set(disturbances)
    assert {name: layer["state"] for name, layer in layers.items()} == {
        "slow": "on",
        "kept": "on",
        "leased": "on",
        "late": "before",
        "waits": "waiting",
    }
    assert layers["slow"]["setting"] == "5mbit 40ms"
    assert 0 < layers["slow"]["ends_in"] < 600
    assert layers["kept"]["left"] == "until healed"
    assert 0 < layers["leased"]["lease_in"] <= 600
    assert 0 < layers["late"]["turns_in"] <= 300 and layers["late"]["setting"] == "memory 64Mi"
    assert layers["waits"]["waits_for"] == "requests > 1000"
    assert facts["delay_line"]["pairs"] > 0


def test_layers_are_listed_though_the_agent_is_dead(duo: Paths) -> None:
    words = ("node=edge-1", "cpu=0.5", "--name", "starved", "--testbed", duo.name)
    assert pkgctl("perturb", *words).returncode == 0
    agent = channel.call(duo.agent / AGENT_SOCKET, "ping")["pid"]
    os.kill(agent, signal.SIGSTOP)  # Whoever kept it running would start another.
    try:
        done = pkgctl("status", "--name", duo.name)
    finally:
        os.kill(agent, signal.SIGCONT)

    assert done.returncode == 0
    assert "the agent does not answer" in done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("starved"))
    assert "cpu 0.5" in row and row.endswith("?")
