# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's reader of its seed: who it is, its keys, its network.

Runs in the guest, alone and before the network, with the standard library alone. The seed is
what cloud-init's NoCloud reads, of which it knows the keys that a testbed writes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_CARD = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_ADDRESS = re.compile(r"[0-9a-fA-F:.]+(/[0-9]{1,3})?")
_NUMBER = re.compile(r"[0-9]{1,9}")

# A file's path below the root: its mode and content.
Files = dict[str, tuple[int, str]]


class SeedError(Exception):
    """The seed does not say what a guest needs."""


def files(user: Mapping[str, Any], meta: Mapping[str, Any], network: Mapping[str, Any]) -> Files:
    """Return the files that a seed asks for.

    Args:
        user: its ``user-data``.
        meta: its ``meta-data``.
        network: its ``network-config``.

    Raises:
        SeedError: if one of them does not say what a guest needs.
    """
    hostname = user.get("hostname") or meta.get("local-hostname")
    keys = user.get("ssh_keys", {})
    wanted = {
        "etc/hostname": (0o644, _checked(_HOSTNAME, hostname, "hostname") + "\n"),
        "root/.ssh/authorized_keys": (0o600, _lines(user.get("ssh_authorized_keys", []))),
        "var/lib/pkgctl-seed/network": (0o644, setup(network)),
    }
    if "ed25519_private" in keys:
        private = keys["ed25519_private"].rstrip("\n") + "\n"
        wanted["etc/ssh/ssh_host_ed25519_key"] = (0o600, private)
    if "ed25519_public" in keys:
        wanted["etc/ssh/ssh_host_ed25519_key.pub"] = (0o644, _lines([keys["ed25519_public"]]))
    return wanted


def _lines(texts: list[str]) -> str:
    return "".join(f"{text.strip()}\n" for text in texts)


def setup(network: Mapping[str, Any]) -> str:
    """Return the shell commands that set the network up at each boot.

    ``card`` is a function of the program that reads them. All addresses and routes are one
    process's work.
    """
    cards = network.get("network", network).get("ethernets", {})
    lines = []
    batch: list[str] = []
    for key, card in cards.items():
        address = card.get("match", {}).get("macaddress", "").lower()
        name = _checked(_CARD, card.get("set-name", key), "name of a network card")
        lines.append(f"card {_checked(_MAC, address, 'macaddress')} {name}")
        batch += _card(name, card)
    return "\n".join([*lines, "ip -force -batch - <<END", *batch, "END", ""])


def _card(name: str, card: Mapping[str, Any]) -> Iterator[str]:
    if "mtu" in card:
        yield f"link set dev {name} mtu {_checked(_NUMBER, card['mtu'], 'mtu')}"
    for address in card.get("addresses", []):
        # An address that is assigned by plan needs no search for another owner.
        owned = " nodad" if ":" in address else ""
        yield f"address replace {_checked(_ADDRESS, address, 'address')} dev {name}{owned}"
    yield f"link set dev {name} up"
    for route in card.get("routes", []):
        to = route["to"] if route["to"] == "default" else _checked(_ADDRESS, route["to"], "route")
        via = _checked(_ADDRESS, route["via"], "gateway")
        family = "-6 " if ":" in via else ""
        metric = route.get("metric")
        last = f" metric {_checked(_NUMBER, metric, 'metric')}" if metric is not None else ""
        yield f"{family}route replace {to} via {via} dev {name}{last}"


def _checked(pattern: re.Pattern[str], value: object, what: str) -> str:
    text = str(value)
    if not pattern.fullmatch(text):
        raise SeedError(f"{text!r} is no {what}")
    return text


def read(path: Path) -> dict[str, Any]:
    """Return a part of the seed, JSON after any lines that begin with ``#``.

    Raises:
        SeedError: if it is not there, or something else.
    """
    try:
        lines = path.read_text().splitlines()
        content = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    except (OSError, ValueError) as error:
        raise SeedError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise SeedError(f"{path.name} is no JSON object")
    return content


def apply(seed: Path, state: Path, root: Path = Path("/")) -> bool:
    """Write what a seed asks for, unless it has been; say whether it was written.

    Args:
        seed: the folder of its parts.
        state: where it is kept which was the last one.
        root: the root of the guest's files.

    Raises:
        SeedError: if the seed is not right; then nothing is written.
    """
    meta = read(seed / "meta-data")
    instance = str(meta.get("instance-id", ""))
    if not instance:
        raise SeedError("meta-data has no instance-id")
    known = state / "instance-id"
    new = not known.exists() or known.read_text() != instance
    if new:
        wanted = files(read(seed / "user-data"), meta, read(seed / "network-config"))
        for path, (mode, content) in wanted.items():
            _write(root / path, mode, content)
        # Only when all that is on the disk may the seed count as applied: power may go any time.
        os.sync()
        _write(known, 0o644, instance)
    _write(state / "meta-data", 0o644, (seed / "meta-data").read_text())
    return new


def _write(path: Path, mode: int, content: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    beside.replace(path)


def main(seed: str, state: str) -> None:
    """Apply a seed to this machine, and give the kernel its new name."""
    try:
        if apply(Path(seed), Path(state)):
            name = Path("/etc/hostname").read_text().strip()
            Path("/proc/sys/kernel/hostname").write_text(name)
    except (SeedError, OSError) as error:
        sys.exit(f"pkgctl-seed: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
