# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine does without shaping: measured once in throwaway networks, then remembered.

Two networks are joined by a third that routes, as the nodes of a testbed are. They belong to
children of the caller and are pinned nowhere, so they are gone with them, whoever was killed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import platform
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import rtnl, syscalls
from .errors import KernelError
from .netlink import NETLINK_ROUTE, Message, Socket
from .predictions import Machine

FILE = "baseline.json"
TCP_SECONDS = 0.6
PINGS = 300
PATIENCE_SECONDS = 10.0
_DIED = b'{"error": "one of the two ends died"}'
_MTU = 1500
_FILLING = bytes(1 << 18)
_ADDRESSES = ("10.1.0.1", "10.2.0.1")
_NETWORK = "10.0.0.0/8"
_GATEWAYS = ("10.1.0.2", "10.2.0.2")
_PORT = 7068


def folder() -> Path:
    """Return where the baseline is remembered."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "pkgctl")


def key() -> dict[str, str]:
    """Return for what a baseline holds: this boot of this kernel."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"boot": boot, "kernel": platform.release()}


def load(place: Path | None = None) -> Machine | None:
    """Return the baseline that was measured since this machine booted, None if there is none."""
    try:
        found = json.loads(((place or folder()) / FILE).read_text())
        if {name: found[name] for name in ("boot", "kernel")} != key():
            return None
        return Machine(int(found["rate"]), float(found["delay"]), int(found["mtu"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(machine: Machine, place: Path | None = None) -> None:
    """Remember a baseline; a folder that cannot be written is no reason to fail."""
    path = (place or folder()) / FILE
    fresh = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps({**key(), **machine.to_dict()}) + "\n")
        fresh.replace(path)


def measure() -> Machine:
    """Return what this machine carries between two networks, in about a second.

    Raises:
        KernelError: if it refuses.
    """
    answer = _in_child(_measure)
    if "error" in answer:
        raise KernelError("measure this machine", 0, answer["error"])
    return Machine(int(answer["rate"]), float(answer["delay"]), _MTU)


def _in_child(work: Callable[[], dict[str, object]]) -> dict[str, str]:
    """Return what a function returns in a child of ours, which ends with us."""
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            syscalls.die_with_parent(parent)
            answer = json.dumps(work()).encode()
        except Exception as error:  # it must not go on in a second process
            answer = _told(error)
        with contextlib.suppress(OSError):
            os.write(writing, answer)
        os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            ready, _, _ = select.select([pipe], [], [], PATIENCE_SECONDS)
            text = pipe.read() if ready else b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found: dict[str, str] = json.loads(text or b'{"error": "it took too long"}')
    return found


def _told(error: Exception) -> bytes:
    return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


def _measure() -> dict[str, object]:
    """Make the three networks, with a process in each, and measure between the outer two."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    parent = os.getpid()
    ends: list[_End] = []
    try:
        for number in range(len(_ADDRESSES)):
            ends.append(_end(number, parent))
        answer = ends[1].result()
    finally:
        for one in ends:
            one.stop()
    return answer


class _End:
    """A process in a network of its own, cabled to ours."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self._control = control

    def result(self) -> dict[str, object]:
        self._control.settimeout(PATIENCE_SECONDS)
        found: dict[str, object] = json.loads(self._control.recv(1 << 12) or _DIED)
        return found

    def stop(self) -> None:
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _end(number: int, parent: int) -> _End:
    """Start one end, cable it, and wait until it is ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            syscalls.die_with_parent(parent)
            _live(number, theirs)
        except Exception as error:  # it must not go on in a second process
            with contextlib.suppress(OSError):
                theirs.send(_told(error))
        finally:
            os._exit(0)
    theirs.close()
    ours.settimeout(PATIENCE_SECONDS)
    ours.recv(16)  # it has its network
    _cable(number, pid)
    ours.send(b"cabled")
    ours.recv(16)  # it is ready
    return _End(pid, ours)


def _cable(number: int, pid: int) -> None:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    near = rtnl.End(f"port{number}", bytes((2, 0, 0, 0, number, 1)))
    far = rtnl.End("eth0", bytes((2, 0, 0, 0, number, 2)), namespace)
    with Socket(NETLINK_ROUTE) as route:
        route.request([rtnl.veth(near, far, mtu=_MTU)])
        index = rtnl.link_index(route, near.name)
        there = str(ipaddress.ip_network(f"{_ADDRESSES[number]}/32"))
        messages: list[Message] = [
            rtnl.address(index, f"{_GATEWAYS[number]}/16"),
            rtnl.route(index, there),
            rtnl.neighbour(index, _ADDRESSES[number], far.mac),
        ]
        route.request(messages)
    os.close(namespace)


def _live(number: int, control: socket.socket) -> None:
    """Be one end: get a network, set it up, then serve, or measure and tell what was found."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    control.send(b"here")
    control.recv(16)
    with Socket(NETLINK_ROUTE) as route:
        index = rtnl.link_index(route, "eth0")
        gateway = _GATEWAYS[number]
        route.request([rtnl.link_up(1), rtnl.link_up(index)])
        route.request([rtnl.address(index, f"{_ADDRESSES[number]}/16")])
        route.request([rtnl.route(index, f"{gateway}/32")])
        route.request([rtnl.neighbour(index, gateway, bytes((2, 0, 0, 0, number, 1)))])
        route.request([rtnl.route(index, _NETWORK, gateway)])
    if number == 0:
        _serve(control)
    control.send(b"ready")
    control.send(json.dumps({"delay": _delay(), "rate": _rate()}).encode())
    control.recv(16)


def _serve(control: socket.socket) -> NoReturn:
    """Echo datagrams and swallow streams until killed."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", _PORT))
    listener = socket.create_server(("", _PORT))
    control.send(b"ready")
    streams: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([udp, listener, *streams], [], [])
        for one in ready:
            if one is udp:
                udp.sendto(*udp.recvfrom(1 << 12))
            elif one is listener:
                streams.append(listener.accept()[0])
            elif not one.recv(1 << 20):
                streams.remove(one)


def _delay() -> float:
    """Return half of the median round trip of small datagrams, in seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((_ADDRESSES[0], _PORT))
        sock.settimeout(PATIENCE_SECONDS / 2)
        trips = sorted(_trip(sock) for _ in range(PINGS))
    return trips[PINGS // 2] / 2


def _trip(sock: socket.socket) -> float:
    began = time.monotonic()
    sock.send(bytes(64))
    sock.recv(1 << 12)
    return time.monotonic() - began


def _rate() -> float:
    """Return what one TCP connection carries, in bits/s."""
    with socket.create_connection((_ADDRESSES[0], _PORT), timeout=PATIENCE_SECONDS) as sock:
        began = time.monotonic()
        sent = 0
        while (spent := time.monotonic() - began) < TCP_SECONDS:
            sent += sock.send(_FILLING)
    return sent * 8 / spent
