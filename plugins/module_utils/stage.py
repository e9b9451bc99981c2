# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes as the agent handles them: who they are, and the hands that change them, kept ready.

A change of a link is to happen within milliseconds of its time, so the agent keeps each node's
description and two netlink sockets in its network, and parses contents before they are due.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import condition, daemon, delayclient, identity, kinds, layers, links, namespaces, quotas
from .change import Change
from .errors import AgentError, DisturbanceError, KernelError
from .identity import Identity
from .linkkernel import Kernel
from .quality import Quality

Body = Mapping[str, Any]
Qualities = Mapping[str, Quality]
# Nodes whose sockets are kept, two for each; most processes may have 1,024 descriptors.
_KEPT = 192
_STALE = frozenset({errno.ENODEV, errno.ENXIO, errno.EBADF, errno.ENETDOWN})


@dataclass(slots=True)
class _Known:
    """A node's description as it was last read, and from which file."""

    stamp: tuple[int, int]
    node: Identity
    kernel: Kernel | None = None


class Stage:
    """The nodes of one testbed."""

    def __init__(self, directory: Path) -> None:
        """Handle the nodes of the testbed in directory."""
        self._directory = directory
        self._known: dict[str, _Known] = {}
        self._parsed: dict[tuple[str, str], tuple[Body, Qualities, Qualities]] = {}
        self._prepared: dict[tuple[str, str], tuple[Body | None, links.Prepared]] = {}
        self._delays = directory / "agent" / delayclient.SOCKET

    def node(self, name: str) -> Identity:
        """Return a node's identity, from outside of it.

        Raises:
            AgentError: if there is none of that name.
        """
        return self._look_up(name).node

    def names(self) -> list[str]:
        """Return the names of all nodes."""
        return sorted(path.name for path in self._directory.glob("nodes/*"))

    def known(self) -> dict[str, Identity]:
        """Return the nodes that can be read; one that is being made cannot."""
        found = {}
        for name in self.names():
            with suppress(DisturbanceError):
                found[name] = self.node(name)
        return found

    def finished(self) -> list[str]:
        """Return the names of the nodes that whoever makes the testbed has finished making."""
        try:
            made = json.loads((self._directory / "state.json").read_text())["nodes"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [name for name in self.names() if name in made]

    def delays_packets(self) -> bool:
        """Return whether the delay line is needed: not if every node there is has netem."""
        known = self.known()
        return not known or not all(node.has_netem for node in known.values())

    def _look_up(self, name: str) -> _Known:
        path = self._directory / "nodes" / name / "node.json"
        try:
            if "/" in name or name in ("", ".", ".."):
                raise FileNotFoundError
            status = path.stat()
        except (OSError, ValueError):
            self._forget(name)
            raise AgentError(f"there is no node {name[:64]!r}") from None
        stamp = (status.st_mtime_ns, status.st_ino)
        known = self._known.get(name)
        if known is None or known.stamp != stamp:
            self._forget(name)
            known = self._known[name] = _Known(stamp, identity.load(path))
        return known

    def _forget(self, name: str) -> None:
        self._prepared = {key: each for key, each in self._prepared.items() if key[0] != name}
        known = self._known.pop(name, None)
        if known is not None and known.kernel is not None:
            known.kernel.__exit__()

    def detach(self) -> None:
        """Share no socket with the process of which the caller is a child."""
        for name in list(self._known):
            self._forget(name)

    def sweep(self) -> None:
        """Let go of nodes that are gone: an open socket keeps a network alive."""
        there = set(self.names())
        for name in set(self._known) - there:
            self._forget(name)
        self._parsed = {key: each for key, each in self._parsed.items() if key[0] in there}

    def prepare(self, name: str, kind: str, layer: str, body: Body | None) -> None:
        """Do what can be done before a content is due."""
        known = self._look_up(name)
        if kind != "link":
            return
        egress, ingress = self._parse(name, layer, body)
        self._prepared[name, layer] = (
            body,
            links.prepare(
                known.node,
                self._kernel(known),
                self._delays,
                layer=layer,
                egress=egress,
                ingress=ingress,
                present=body is not None,
            ),
        )

    def _parse(self, name: str, layer: str, body: Body | None) -> tuple[Qualities, Qualities]:
        """Return a content's qualities; those of the last one of each layer are kept."""
        if body is None:
            return {}, {}
        last = self._parsed.get((name, layer))
        if last is not None and last[0] is body:
            return last[1], last[2]
        egress, ingress = (kinds.qualities(body.get(way, {})) for way in ("egress", "ingress"))
        self._parsed[name, layer] = (body, egress, ingress)
        return egress, ingress

    def _kernel(self, known: _Known) -> Kernel:
        if known.kernel is None:
            held = [each for each in self._known.values() if each.kernel is not None]
            if len(held) >= _KEPT and held[0].kernel is not None:
                held[0].kernel.__exit__()
                held[0].kernel = None
            with self._inside(known.node.name, "net"):
                known.kernel = Kernel.here(known.node.interface)
        return known.kernel

    @contextmanager
    def _inside(self, name: str, *which: str) -> Iterator[None]:
        with namespaces.returning(*which):
            try:
                namespaces.enter(self._directory / "ns" / name, *which)
            except OSError as error:
                raise AgentError(f"{name} cannot be entered: {error.strerror}") from error
            yield

    def set(
        self, name: str, kind: str, layer: str, body: Body | None, *, dry_run: bool = False
    ) -> Change:
        """Set a layer's part of one kind on a node, or take it away.

        Raises:
            DisturbanceError: one line.
        """
        if body is None:
            self._parsed.pop((name, layer), None)
        if kind == "link":
            ready = None if dry_run else self._prepared.pop((name, layer), None)
            if ready is not None and ready[0] is body and (done := self._commit(ready[1])):
                return done
            return self._set_link(name, layer, body, dry_run=dry_run)
        self._look_up(name)
        with self._inside(name, *namespaces.KINDS):
            return kinds.set_layer(identity.load(), kind, layer, body, force=True, dry_run=dry_run)

    @staticmethod
    def _commit(prepared: links.Prepared) -> Change | None:
        """Return what a prepared change did; None if it has to be made from the beginning."""
        try:
            return prepared.commit()
        except DisturbanceError:
            return None

    def _set_link(self, name: str, layer: str, body: Body | None, *, dry_run: bool) -> Change:
        egress, ingress = self._parse(name, layer, body)
        for last in (False, True):
            known = self._look_up(name)
            try:
                return links.change(
                    known.node,
                    layer=layer,
                    egress=egress,
                    ingress=ingress,
                    present=body is not None,
                    dry_run=dry_run,
                    kernel=self._kernel(known),
                    delays=self._delays,
                )
            except (KernelError, AgentError) as error:
                if last or not self._mend(name, error):
                    raise
        raise AssertionError  # The second round returns or raises.

    def _mend(self, name: str, error: Exception) -> bool:
        """Return whether what failed may go well now: fresh sockets, or another delay line."""
        if isinstance(error, KernelError):
            self._forget(name)
            return error.errno in _STALE
        return not daemon.is_going_down(self._directory) and daemon.ensure(
            "delayline", self._directory, self._delays
        )

    def converge(self, name: str, kind: str) -> Change:
        """Bring a node to what its stored layers of one kind ask for.

        Raises:
            DisturbanceError: one line.
        """
        self._look_up(name)
        with self._inside(name, *namespaces.KINDS):
            return kinds.converge(identity.load(), kind)

    def stored(self, name: str, kind: str) -> layers.Layers:
        """Return a node's layers of one kind."""
        return layers.load(Path(self.node(name).directory, kinds.store(kind)))

    def holds(self, name: str, layer: str) -> bool:
        """Return whether a layer is on a node in any kind."""
        return any(layer in self.stored(name, kind) for kind in kinds.NAMES)

    def standing(self, name: str, kind: str, layer: str, body: Body) -> Body:
        """Return what a node's other layers add up to, from which a ramp of this one starts."""
        others = {key: each for key, each in self.stored(name, kind).items() if key != layer}
        if kind == "quota":
            return quotas.composed(others)
        if kind != "link":
            return {}
        asked, access = links.wanted(others), self.node(name).access
        return {
            way: {
                peer: {"rate": found[peer].rate if peer in found else access}
                for peer in body.get(way, {})
            }
            for way, found in (("egress", asked.egress), ("ingress", asked.ingress))
        }

    def health(self, name: str) -> str:
        """Return the condition in which a node should be, such as ``running``."""
        return condition.load(self.node(name).directory)
