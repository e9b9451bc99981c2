# SPDX-License-Identifier: GPL-3.0-or-later
"""Making nodes: namespaces, addresses, links, limits and disks, many at a time.

All nodes' cables are one netlink message batch, and each node's own set-up one more.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pkgctl import project
from pkgctl.errors import MissingCapability, TestbedError
from pkgctl.local import namespaces
from pkgctl.local.namespaces import Root, Sockets
from pkgctl.local.paths import Paths
from pkgctl.local.planning import INTERFACE, Plan
from pkgctl.nodeplan import GATEWAY, hardware, second
from pkgctl.nodeside import (
    cables,
    cabling,
    cgroups,
    disks,
    errors,
    formatting,
    identity,
    layers,
    linkkernel,
    links,
    quotas,
    rtnl,
    sampler,
    shaping,
    volatile,
)
from pkgctl.nodeside import netlink as wire

Identity = identity.Identity
port = sampler.port
has_ipv6 = cabling.has_ipv6
MTU = 1500


class Builder:
    """Makes the nodes of one testbed, one batch at a time."""

    def __init__(self, paths: Paths, plan: Plan) -> None:
        """Make nodes as plan says, in the places of paths."""
        self._paths = paths
        self._plan = plan
        self._carried = namespaces.carried_mounts(Path("/proc/self/mounts").read_text())
        # The interpreter and our own programs run in nodes too, wherever they are installed.
        ours = (Path(sys.prefix), Path(sys.base_prefix), project.PACKAGE.parent)
        self._needed = namespaces.hidden_folders(ours)
        self._templates: dict[int, Path] = {}
        self._opened: list[int] = []

    def make(self, names: Sequence[str]) -> None:
        """Make nodes, cable them to the switch, shape their links and bound what they may use.

        Raises:
            DisturbanceError: with the first request that the machine refused.
        """
        nodes = [self._plan.nodes[name] for name in names]
        scratch = self._paths.run / "scratch"
        scratch.mkdir(exist_ok=True)
        # The kernel takes as long for control groups as for namespaces: side by side.
        with ThreadPoolExecutor(max_workers=1) as beside:
            limited = beside.submit(self._limit, nodes)
            for node in nodes:
                self._describe(node)
            with self._sockets(nodes, scratch) as sockets:
                with namespaces.host():
                    self._cable(nodes)
                for node in nodes:
                    self._shape(node, sockets[node.name])
            limited.result()
        self._clean_up(scratch)

    def _clean_up(self, scratch: Path) -> None:
        for descriptor in self._opened:
            os.close(descriptor)
        self._opened.clear()
        shutil.rmtree(scratch)
        for template in self._templates.values():
            template.unlink()
        self._templates.clear()

    def _describe(self, node: Identity) -> None:
        folder = self._paths.node(node.name)
        for place in (folder, folder / "agent", folder / "disks"):
            place.mkdir(parents=True)
        node.save()
        base = links.body(self._plan.egress(node.name), self._plan.ingress(node.name))
        layers.save(folder / links.STORE, {layers.BASE: base}, durable=False)
        layers.save(folder / quotas.STORE, {layers.BASE: limits(node)}, durable=False)
        layers.save(folder / disks.STORE, {layers.BASE: {}}, durable=False)
        for name, disk in node.disks.items():
            self._image(self._paths.disks(node.name) / f"{name}.img", disk.size)

    def _image(self, image: Path, size: int) -> None:
        """Make an empty file system; those of one size are made once and copied."""
        if size not in self._templates:
            template = self._paths.images / f".{size}.img"
            make_filesystem(template, size)
            self._templates[size] = template
        image.parent.mkdir(parents=True, exist_ok=True)
        copy_sparse(self._templates[size], image)

    @staticmethod
    def _limit(nodes: Sequence[Identity]) -> None:
        for node in nodes:
            group = cgroups.group(node.cgroup)
            group.create()
            group.set_cpu(node.cpu)
            group.set_memory(node.memory)
            group.set_pids(node.pids)

    @contextmanager
    def _sockets(self, nodes: Sequence[Identity], scratch: Path) -> Iterator[dict[str, Sockets]]:
        opened: dict[str, Sockets] = {}
        try:
            for node in nodes:
                opened[node.name] = self._isolate(node, scratch)
            yield opened
        finally:
            for sockets in opened.values():
                sockets.close()

    def _isolate(self, node: Identity, scratch: Path) -> Sockets:
        with namespaces.host():
            sockets = namespaces.new_network()
            cabling.plain_ipv6()
            namespaces.make_root(self._root(node, scratch), node.name)
            for disk in node.disks.values():
                disks.attach(disk)
            volatile.note_mounts()
            pins = namespaces.current(*namespaces.KINDS)
        namespaces.pin(pins, self._paths.namespaces(node.name))
        return sockets

    def _root(self, node: Identity, scratch: Path) -> Root:
        paths = self._paths
        return Root(
            scratch=scratch,
            pins=paths.pins,
            folder=paths.node(node.name),
            agent=paths.agent,
            disks=paths.disks(node.name) if node.disks else None,
            hosts=paths.hosts,
            carried=self._carried,
            needed=self._needed,
        )

    def _cable(self, nodes: Sequence[Identity]) -> None:
        namespaces.enter(self._paths.switch, "net")
        with wire.Socket(wire.NETLINK_ROUTE) as route:
            route.request([self._veth(node) for node in nodes])
            indexes = rtnl.link_indexes(route)
            route.request(
                [part for node in nodes for part in _toward(node, indexes[port(node.address)])]
            )
            route.request([part for node in nodes for part in _bounds(node, indexes)])

    def _veth(self, node: Identity) -> wire.Message:
        namespace = os.open(self._paths.namespaces(node.name) / "net", os.O_RDONLY | os.O_CLOEXEC)
        self._opened.append(namespace)
        near = rtnl.End(port(node.address), hardware(GATEWAY))
        far = rtnl.End(INTERFACE, hardware(node.address), namespace)
        return rtnl.veth(near, far, mtu=MTU)

    def _shape(self, node: Identity, sockets: Sockets) -> None:
        index = rtnl.link_index(sockets.route, INTERFACE)
        sockets.route.request(cables.settled(node, index))
        then = shaping.wanted_state(
            node, self._plan.egress(node.name), self._plan.ingress(node.name)
        )
        kernel = linkkernel.Kernel(sockets.route, sockets.filter, index, INTERFACE)
        kernel.apply(shaping.plan(index, shaping.State(), then))


def limits(node: Identity) -> dict[str, float | int]:
    """Return a node's base limits."""
    return {"cpu": node.cpu, "memory": node.memory, "pids": node.pids}


def _toward(node: Identity, index: int) -> list[wire.Message]:
    """Return what tells the switch the way to a node."""
    own = [way.address for way in cables.ways(node)]
    return cables.toward(own, index, hardware(node.address))


def _bounds(node: Identity, indexes: Mapping[str, int]) -> list[wire.Message]:
    """Return what bounds all that arrives at a node, at the switch's port to it."""
    index = indexes[port(node.address)]
    return shaping.plan(index, shaping.State(), shaping.arriving(node)).before


def make_switch(paths: Paths) -> None:
    """Make the router to which all nodes are cabled, in a network namespace of its own.

    A router rather than a bridge: nobody asks by ARP, nothing is flooded, a bridge's limit of 1,024
    ports is gone, and packets can be held back on the way (see the delay line).
    """
    gateways = {4: GATEWAY}
    if has_ipv6():
        gateways[6] = second(GATEWAY)
    with namespaces.host():
        cabling.become_router(gateways)
        pins = namespaces.current("net")
    namespaces.pin(pins, paths.switch)


def unplug(paths: Paths, addresses: Sequence[str]) -> None:
    """Delete the cables of the nodes with these addresses."""
    with namespaces.host():
        namespaces.enter(paths.switch, "net")
        with wire.Socket(wire.NETLINK_ROUTE) as route:
            indexes = rtnl.link_indexes(route)
            names = [port(address) for address in addresses]
            route.request([rtnl.delete_link(indexes[name]) for name in names if name in indexes])


def make_filesystem(image: Path, size: int) -> None:
    """Make an image of size bytes with an empty ext4 on it.

    Raises:
        MissingCapability: if mke2fs is not there.
        TestbedError: if it fails.
    """
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    try:
        formatting.make(str(image), "-F")
    except errors.CapabilityError as error:
        raise MissingCapability(str(error)) from error
    except errors.DisturbanceError as error:
        raise TestbedError(str(error)) from error


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file's data, leaving its holes as holes."""
    with source.open("rb") as old, target.open("wb") as new:
        end = os.fstat(old.fileno()).st_size
        os.truncate(new.fileno(), end)
        at = 0
        while at < end:
            try:
                start = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            at = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            _copy_range(old.fileno(), new.fileno(), start, at - start)


def _copy_range(source: int, target: int, start: int, length: int) -> None:
    offset = start
    while offset < start + length:
        offset += os.copy_file_range(source, target, start + length - offset, offset, offset)
