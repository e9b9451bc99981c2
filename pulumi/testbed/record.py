# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbed's record: what it is, for playbooks, schedulers and pkgctl, in the user's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from pkgctl.errors import SpecError
from pkgctl.nodeside import records, watchman
from testbed.files import FileProvider, prune, save
from testbed.provider import Props


class RecordProvider(FileProvider):
    """Writes the record and the nodes' host keys; removes both with the stack."""

    compared = ("state", "host_keys")

    def delete(self, _id: str, _props: Props) -> None:
        """Remove both, after whoever reads them and starts nodes that have gone."""
        path = Path(_id)
        watchman.dismiss(path.parent)
        path.unlink(missing_ok=True)
        known_hosts(path).unlink(missing_ok=True)
        for folder in ("agent", "nodes"):
            shutil.rmtree(path.parent / folder, ignore_errors=True)
        prune(path.parent)

    def _write(self, props: Props) -> Props:
        path = Path(props["path"])
        lines = [f"{name} {key}\n" for name, key in sorted(props["host_keys"].items())]
        save(known_hosts(path), "".join(lines).encode())
        save(path, props["state"].encode())
        watchman.welcome(path.parent)
        return dict(props)


class Record(pulumi.dynamic.Resource, module="testbed", name="Record"):
    """The record."""

    path: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        path: str,
        state: pulumi.Input[str],
        host_keys: Mapping[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare the record.

        Args:
            name: the resource's.
            path: its file.
            state: what it says, as JSON.
            host_keys: the public host key of each node.
            opts: the resource's.
        """
        props: dict[str, Any] = {"path": path, "state": state, "host_keys": host_keys}
        super().__init__(RecordProvider(), name, props, opts)


def known_hosts(path: Path) -> Path:
    """Return the file of the host keys that belongs to a record."""
    return path.with_name("known_hosts")


def known(path: Path) -> Mapping[str, Any]:
    """Return what a record says of each node; nothing where there is none.

    Raises:
        SpecError: if there is something else.
    """
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SpecError(f"is no record of a testbed: {error}", file=path) from error
    if not isinstance(state, dict) or state.get("format") != records.FORMAT:
        raise SpecError(f"is no record of a testbed of format {records.FORMAT}", file=path)
    nodes: Mapping[str, Any] = state["nodes"]
    return nodes


def complete(state: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Return a record with what the hosts were found to be.

    Args:
        state: the rest of it.
        types: kvm or qemu for each host by name.
    """
    uris = {node["hypervisor"]: node["uri"] for node in state["nodes"].values()}
    hosts = {name: {"uri": uris[name], "type": types[name]} for name in types if name in uris}
    return {**state, "hypervisors": hosts}
