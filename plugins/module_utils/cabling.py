# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch of a node that is a machine of its own: for the delay line, and for what arrives.

Where the kernel has netem, the node's network card is its interface, and there is no switch unless
the node's access bounds what arrives. For that, and for the delay line, the card goes into a
network namespace of its own, the switch, which passes packets on between it and the node. The
node's interface keeps its name and addresses and is now a cable to the switch, as local nodes have
it:

    node  data ════ port  switch  wire ──── the other machines

The switch answers in the node's stead to neighbours who ask by ARP, and asks nobody itself. What
the node's access bounds of what arrives is bounded at its port.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import (
    cables,
    channel,
    delayclient,
    identity,
    linkkernel,
    namespaces,
    rtnl,
    sampler,
    syscalls,
)
from .errors import AgentError, DisturbanceError, NodeError
from .identity import Identity
from .netlink import NETLINK_ROUTE, Socket
from .units import show_rate

WIRE = "wire"
# What the card had in the machine's own network, to be given back to it.
STORE = "card.json"
_IPV4, _IPV6 = Path("/proc/sys/net/ipv4"), Path("/proc/sys/net/ipv6")
# A card is named and set up while the machine boots; so long we wait for it.
_PATIENCE = 30.0


def plain_ipv6() -> None:
    """Keep the kernel from giving new links addresses and routes that nobody asked for."""
    if has_ipv6():
        for name, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")):
            (_IPV6 / "conf" / "default" / name).write_text(value)


def has_ipv6() -> bool:
    """Return whether this machine's kernel speaks IPv6."""
    return (_IPV6 / "conf").exists()


def become_router(gateways: Mapping[int, str]) -> None:
    """Leave the caller's network for a new one that passes packets on, and has these addresses.

    Args:
        gateways: the switch's own address by version of the protocol.
    """
    syscalls.unshare(syscalls.CLONE_NEWNET)
    plain_ipv6()
    (_IPV4 / "ip_forward").write_text("1")
    own = [f"{gateways[4]}/32"]
    if 6 in gateways:
        (_IPV6 / "conf" / "all" / "forwarding").write_text("1")
        own.append(f"{gateways[6]}/128")
    with Socket(NETLINK_ROUTE) as route:
        route.request([rtnl.link_up(1), *(rtnl.address(1, each) for each in own)])


@dataclass(frozen=True, slots=True)
class Places:
    """Where the switch is pinned, and where the card's own settings are kept."""

    home: Path

    @property
    def pin(self) -> Path:
        """The switch's network."""
        return self.home / "ns" / ".switch" / "net"

    @property
    def store(self) -> Path:
        """The card's settings."""
        return self.home / STORE

    def has_switch(self) -> bool:
        """Return whether a network is pinned; a file that outlived a reboot is none."""
        try:
            with namespaces.in_network(self.pin):
                return True
        except (OSError, DisturbanceError):
            return False


def bring(node: Identity, *, dry_run: bool = False) -> list[str]:
    """Have a switch if the node needs one, else none; return what that took.

    The caller is in the machine's own namespaces. Nothing is done if all is as it should be.

    Raises:
        DisturbanceError: if the card is not there, or the kernel refuses.
    """
    work = _Cabling(node)
    return work.make(dry_run=dry_run) if node.needs_switch else work.remove(dry_run=dry_run)


def remove(node: Identity) -> list[str]:
    """Give the machine its card back, and have no switch, whatever the node needs."""
    return _Cabling(node).remove(dry_run=False)


class _Cabling:
    """The way from what is there to a switch, or back; begun anywhere, for it may be cut short."""

    def __init__(self, node: Identity) -> None:
        self._node = node
        self._places = Places(Path(node.directory))
        self._port = sampler.port(node.address)

    def make(self, *, dry_run: bool) -> list[str]:
        todo = self._missing()
        if dry_run or not todo:
            return todo
        is_new = not self._places.has_switch()
        if is_new:
            with Socket(NETLINK_ROUTE) as own:
                self._find_card(own)
            self._make_switch()
        with Socket(NETLINK_ROUTE) as own, self._in_switch() as route:
            links = rtnl.link_indexes(route)
            if WIRE not in links:
                self._take_card(own)
            if self._port not in links:
                self._lay_cable(route)
            plain_link(self._node.interface)
            index = rtnl.link_index(own, self._node.interface)
            own.request(cables.settled(self._node, index))
            self._bound(dry_run=False)
            self._settle_switch(route)
        if is_new:
            self._end_delay_line()
        return todo

    def _missing(self) -> list[str]:
        """Return what there is to be done for a switch."""
        if not self._places.has_switch():
            return ["make the switch", "put the card behind it", "lay a cable to it"]
        with self._in_switch() as route:
            links = rtnl.link_indexes(route)
            todo = ["put the card behind the switch"] * (WIRE not in links)
            todo += ["lay a cable to the switch"] * (self._port not in links)
            if not todo and rtnl.neighbours(route, links[WIRE]) != self._others():
                todo = ["tell the switch the other nodes"]
            if not todo and rtnl.neighbours(route, links[self._port]) != self._own():
                todo = ["tell the switch this node"]
        return todo or self._bound(dry_run=True)

    def _bound(self, *, dry_run: bool) -> list[str]:
        """Have the port bound what arrives as the node's access asks; return what that is."""
        with namespaces.in_network(self._places.pin):
            actions = linkkernel.bound(self._node, self._port, dry_run=dry_run)
        down = self._node.access_down
        asked = "unbounded" if down is None else f"at {show_rate(down)} at the most"
        return [f"let arrive {asked}"] if actions else []

    def _others(self) -> dict[bytes, bytes]:
        return {_packed(ip): mac for ip, mac in cables.beyond(self._node).items()}

    def _own(self) -> dict[bytes, bytes]:
        mac = _mac_of_cable(self._node)
        return {_packed(way.address): mac for way in cables.ways(self._node)}

    def _make_switch(self) -> None:
        place = self._places.pin.parent
        if place.exists():
            _clear(place)
        gateways: dict[int, str] = {
            ipaddress.ip_address(way.gateway).version: way.gateway
            for way in cables.ways(self._node)
        }
        with namespaces.returning("net"):
            become_router(gateways)
            pins = namespaces.current("net")
        place.parent.mkdir(parents=True, exist_ok=True)
        namespaces.pin(pins, place)

    @contextmanager
    def _in_switch(self) -> Iterator[Socket]:
        """Have a socket in the switch while the block runs; the caller stays where it is."""
        with namespaces.in_network(self._places.pin):
            route = Socket(NETLINK_ROUTE)
        with route:
            yield route

    def _take_card(self, own: Socket) -> None:
        """Move the card into the switch, and remember what it had here."""
        index = self._find_card(own)
        settings = {
            "addresses": [each.hex() for each in rtnl.addresses(own, index)],
            "sysctls": _sysctls(self._node.interface),
        }
        fresh = self._places.store.with_suffix(".new")
        fresh.write_text(json.dumps(settings))
        fresh.replace(self._places.store)
        self._move(own, index, WIRE, self._places.pin)

    def _find_card(self, own: Socket) -> int:
        deadline = time.monotonic() + _PATIENCE
        while (index := self._card(own)) is None:
            if time.monotonic() > deadline:
                raise NodeError(
                    f"{self._node.name} has no network card {self._node.interface}: its seed, or"
                    " whoever made the machine, has to name one so"
                )
            time.sleep(0.1)
        return index

    def _card(self, own: Socket) -> int | None:
        """Return the card's index; the kernel gives it back under its other name by itself."""
        links = rtnl.link_indexes(own)
        return links.get(self._node.interface, links.get(WIRE))

    @staticmethod
    def _move(route: Socket, index: int, name: str, there: Path) -> None:
        opened = os.open(there, os.O_RDONLY | os.O_CLOEXEC)
        try:
            route.request([rtnl.move(index, name, opened)])
        finally:
            os.close(opened)

    def _lay_cable(self, route: Socket) -> None:
        """Make the cable to the node, in place of one by which it had another address."""
        links = rtnl.link_indexes(route)
        route.request([rtnl.delete_link(links[each]) for each in links if each not in (WIRE, "lo")])
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            near = rtnl.End(self._port, cables.mac_of_switch(self._node))
            far = rtnl.End(self._node.interface, _mac_of_cable(self._node), home)
            route.request([rtnl.veth(near, far, mtu=rtnl.mtu(route, links[WIRE]))])
        finally:
            os.close(home)

    def _settle_switch(self, route: Socket) -> None:
        """Tell the switch the way to all others, on the wire, and last of all to the node."""
        links = rtnl.link_indexes(route)
        wire, ways = links[WIRE], cables.ways(self._node)
        with namespaces.in_network(self._places.pin):
            _stand_in(WIRE)
        wanted = self._others()
        gone = rtnl.neighbours(route, wire).keys() - wanted.keys()
        own = [way.address for way in ways]
        route.request(
            [
                rtnl.link_up(wire),
                *(rtnl.route(wire, way.network) for way in ways),
                *(rtnl.proxy(wire, each) for each in own if ":" in each),
                *(rtnl.forget_neighbour(wire, _shown(each)) for each in sorted(gone)),
                *(rtnl.neighbour(wire, _shown(ip), mac) for ip, mac in wanted.items()),
                *cables.toward(own, links[self._port], _mac_of_cable(self._node)),
            ]
        )

    def remove(self, *, dry_run: bool) -> list[str]:
        if not self._places.pin.exists():
            return []
        todo = ["give the card back", "remove the switch"]
        if not dry_run:
            if self._places.has_switch():
                with Socket(NETLINK_ROUTE) as own, self._in_switch() as route:
                    self._give_back(own, route)
            _clear(self._places.pin.parent)
            self._places.store.unlink(missing_ok=True)
            self._end_delay_line()
        return todo

    def _end_delay_line(self) -> None:
        """End a delay line of before: its queues are elsewhere. The agent starts one if it must."""
        path = self._places.home / "agent" / delayclient.SOCKET
        with suppress(AgentError, ProcessLookupError):
            process = int(channel.call(path, "status")["pid"])
            os.kill(process, signal.SIGTERM)
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                os.kill(process, 0)
                time.sleep(0.01)

    def _give_back(self, own: Socket, route: Socket) -> None:
        links = rtnl.link_indexes(route)
        if self._port in links:
            route.request([rtnl.delete_link(links[self._port])])
        if WIRE in links:
            home = Path("/proc/thread-self/ns/net")
            self._move(route, links[WIRE], self._node.interface, home)
        index = rtnl.link_index(own, self._node.interface)
        self._restore(own, index)

    def _restore(self, own: Socket, index: int) -> None:
        """Give the card its addresses, and what else it was told, back."""
        settings = self._settings()
        for name, value in settings["sysctls"].items():
            with suppress(OSError):
                Path(name).write_text(value)
        own.request([rtnl.link_up(index)])
        own.request([rtnl.address_again(index, each) for each in settings["addresses"]])

    def _settings(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            known = json.loads(self._places.store.read_text())
            found = [bytes.fromhex(each) for each in known["addresses"]]
            return {"sysctls": dict(known["sysctls"]), "addresses": found}
        return {"sysctls": {}, "addresses": []}


def _mac_of_cable(node: Identity) -> bytes:
    """Return the hardware address of the node's end of the cable.

    It is not the card's: whoever sets up cards by their addresses is not to take it for that.
    """
    return bytes((6, *cables.hardware(node.address)[1:]))


def _packed(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


def _shown(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _sysctls(link: str) -> dict[str, str]:
    """Return what the kernel has been told of a link that it forgets when the link moves."""
    found = {}
    for name in ("accept_ra", "addr_gen_mode", "accept_dad"):
        place = _IPV6 / "conf" / link / name
        with suppress(OSError):
            found[str(place)] = place.read_text().strip()
    return found


def plain_link(link: str) -> None:
    """Keep the kernel from giving one link addresses and routes that nobody asked for."""
    for name, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")):
        with suppress(FileNotFoundError):
            (_IPV6 / "conf" / link / name).write_text(value)


def _stand_in(link: str) -> None:
    """Answer at once, on a link of the caller's network, for whom packets are passed on to."""
    (_IPV4 / "conf" / link / "proxy_arp").write_text("1")
    (_IPV4 / "neigh" / link / "proxy_delay").write_text("0")
    if has_ipv6():
        (_IPV6 / "conf" / link / "proxy_ndp").write_text("1")
        (_IPV6 / "neigh" / link / "proxy_delay").write_text("0")


def _clear(place: Path) -> None:
    """Remove a pinned namespace's folder."""
    for pin in place.iterdir():
        with suppress(DisturbanceError):
            syscalls.unmount(str(pin), syscalls.MNT_DETACH)
        pin.unlink()
    place.rmdir()


def main() -> None:
    """Bring the machine to what its description asks for, or with the word stop, have no switch."""
    try:
        node = identity.load()
        done = remove(node) if sys.argv[1:] == ["stop"] else bring(node)
    except DisturbanceError as error:
        sys.exit(f"pkgctl-switch: {error}")
    print("".join(f"{line}\n" for line in done), end="", flush=True)


if __name__ == "__main__":
    main()
