# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections from this machine arrive in a network apart, by a process that goes with the rest."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pkgctl.cluster import gateway
from pkgctl.local import paths
from pkgctl.nodeside import cgroups, channel, errors, layers

pytestmark = pytest.mark.root

# Answers in a network of its own with what it was sent, backwards.
SERVER = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    near, _ = server.accept()
    data = b""
    while chunk := near.recv(65536):
        data += chunk
    near.sendall(data[::-1])
    near.close()
"""


class Group:
    """Stands for a control group of a testbed."""

    def mark(self):
        """Do nothing."""


@pytest.fixture
def far():
    """A process that serves in a network of its own: its id and its port."""
    process = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def place(tmp_path, monkeypatch, far):
    monkeypatch.setattr(paths, "RUN", tmp_path)
    monkeypatch.setattr(cgroups, "group", lambda _: Group())
    found = paths.Paths("lab")
    found.agent.mkdir(parents=True)
    for name in ("c", "d"):
        folder = found.namespaces(name)
        folder.mkdir(parents=True)
        (folder / "net").symlink_to(f"/proc/{far[0]}/ns/net")
    yield found
    gateway._end(found.agent / gateway.SOCKET)
    assert pid_of(found) is None


def pid_of(place):
    try:
        return channel.call(place.agent / gateway.SOCKET, "status")["pid"]
    except errors.AgentError:
        return None


def send(near, data):
    with suppress(OSError):  # Whoever hears nothing back says so.
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)


def asked(address: str, data: bytes) -> bytes:
    port = int(address.rpartition(":")[2])
    with socket.create_connection((gateway.HOST, port), timeout=20) as near:
        sender = threading.Thread(target=send, args=(near, data))
        sender.start()
        answer = b""
        while chunk := near.recv(65536):
            answer += chunk
        sender.join()
    return answer


def test_what_is_sent_here_is_answered_there(place, far):
    address = gateway.ensure(place, ["c"], far[1])
    data = os.urandom(1 << 20)

    assert asked(address, b"abc") == b"cba"
    assert asked(address, data) == data[::-1]


def test_one_is_enough_and_its_port_stays(place, far):
    address = gateway.ensure(place, ["c"], far[1])
    first = pid_of(place)

    assert gateway.ensure(place, ["c"], far[1]) == address
    assert pid_of(place) == first

    os.kill(first, signal.SIGKILL)
    assert gateway.ensure(place, ["c"], far[1]) == address
    assert pid_of(place) not in (None, first)
    assert asked(address, b"abc") == b"cba"


def test_it_follows_the_server_to_another_node(place, far):
    address = gateway.ensure(place, ["c"], far[1])
    first = pid_of(place)

    assert gateway.ensure(place, ["d"], far[1]) == address

    assert pid_of(place) != first
    noted = json.loads((place.agent / "gateway.json").read_text())
    assert [Path(each["namespace"]).parent.name for each in noted["servers"]] == ["d"]
    assert asked(address, b"abc") == b"cba"


def test_where_nobody_listens_the_connection_ends(place):
    address = gateway.ensure(place, ["c"], 1)

    with suppress(ConnectionResetError):
        assert asked(address, b"abc") == b""


@pytest.fixture
def empty():
    """The id of a process in a network of its own, in which nobody listens."""
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up; exec sleep 600"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_who_does_not_answer_is_passed_over(place, far, empty):
    (place.namespaces("c") / "net").unlink()
    (place.namespaces("c") / "net").symlink_to(f"/proc/{empty}/ns/net")
    (place.namespaces("e")).mkdir()
    (place.namespaces("e") / "net").symlink_to("/proc/nobody/ns/net")

    address = gateway.ensure(place, ["e", "c", "d"], far[1])

    assert asked(address, b"abc") == b"cba"


def test_a_node_that_is_not_up_is_asked_last_and_one_that_is_not_ready_before_it(tmp_path):
    nodes = ("paused", "up", "new")
    servers = [{"node": each, "directory": str(tmp_path / each)} for each in nodes]
    for each in ("paused", "up"):
        (tmp_path / each).mkdir()
    layers.save(tmp_path / "paused" / "health.json", {"layer": {"health": "paused"}})
    layers.save(tmp_path / "up" / "health.json", {"layer": {"loss": "1%"}})

    def asked_for(*ready):
        return [each["node"] for each in gateway.in_order(servers, ready)]

    assert asked_for() == asked_for("up", "new") == ["up", "new", "paused"]
    assert asked_for("paused", "new") == ["new", "up", "paused"]


def test_the_agent_knows_who_is_ready(tmp_path):
    units = [
        {"node": "a", "name": "k3s", "ready": True},
        {"node": "b", "name": "k3s", "ready": False},
        {"node": "c", "name": "pkgctl-node-reporter", "ready": True},
    ]
    assert gateway.ready_nodes(tmp_path / "agent.sock") == set()

    def answer():
        near, _ = listener.accept()
        with near:
            assert channel.decode(near.makefile("rb").readline())["op"] == "unit-list"
            near.sendall(channel.encode({"ok": True, "units": units}))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        teller = threading.Thread(target=answer)
        teller.start()
        assert gateway.ready_nodes(tmp_path / "agent.sock") == {"a"}
        teller.join()
