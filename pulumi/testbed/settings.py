# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack's configuration says, checked: every error names the key at fault."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pkgctl.errors import SpecError, nearest
from pkgctl.local import paths
from pkgctl.nodeside import units
from pkgctl.remote import ssh

LOCAL, LIBVIRT = "local", "libvirt"
PROVIDERS = (LOCAL, LIBVIRT)
IMPAIRMENTS = ("auto", "netem", "delay line")
FOLDER = "/var/lib/libvirt/images"
HERE = {"name": "here", "uri": "qemu:///system"}

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_KEYS = ("name", "uri", "address", "cpu", "memory", "network", "folder")
_MOST_MEMORY = 2**20
_T = TypeVar("_T")

Get = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs libvirt.

    Attributes:
        uri: where its libvirt answers.
        network: the management network between it and its nodes.
        folder: where the testbed's pool gets its folder.
        address: where the other hosts reach it; empty for an only host.
        cpu: cores that its nodes may have in all, None without a limit.
        memory: bytes that its nodes may have in all, None without a limit.
    """

    name: str
    uri: str
    network: ipaddress.IPv4Network
    folder: str = FOLDER
    address: str = ""
    cpu: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """A stack's configuration; see Pulumi.yaml for what each part means."""

    topology: str
    provider: str
    testbed: str
    hosts: tuple[Host, ...]
    image: str = ""
    ssh_key: str = ""
    impairment: str = "auto"
    system_memory: int = 256
    settle: bool = True
    patience: int = 600
    replace_disks: bool = False


def read(get: Get) -> Settings:
    """Return the settings of a stack.

    Args:
        get: gives a key's text, or None if it is not set.

    Raises:
        SpecError: naming the key at fault.
    """
    network = _network(get("network") or "192.168.177.0/24", "network")
    return Settings(
        topology=_text(get, "topology", "three-sites"),
        provider=_word(get, "provider", PROVIDERS),
        testbed=_testbed(_text(get, "testbed", paths.DEFAULT)),
        hosts=_hosts(get("hosts"), network),
        image=get("image") or "",
        ssh_key=get("ssh_key") or "",
        impairment=_word(get, "impairment", IMPAIRMENTS),
        system_memory=_number(get, "system_memory", 256, 64, _MOST_MEMORY),
        settle=_flag(get, "settle", True),
        patience=_number(get, "patience", 600, 1, 86_400),
        replace_disks=_flag(get, "replace_disks", False),
    )


def public_key(path: str) -> str:
    """Return the public key in a file, in one line; nothing for no path.

    Raises:
        SpecError: if there is none, above all if the file is a private key.
    """
    if not path:
        return ""
    try:
        text = Path(path).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}", key="ssh_key") from error
    if "PRIVATE KEY" in text:
        raise SpecError(f"{path} is a private key; give the public one, {path}.pub", key="ssh_key")
    if "\n" in text or not text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise SpecError(f"{path} is no public key of SSH", key="ssh_key")
    return text


def _text(get: Get, key: str, default: str) -> str:
    text = get(key)
    if text is None:
        return default
    if not text.strip():
        raise SpecError("is empty", key=key)
    return text


def _word(get: Get, key: str, known: tuple[str, ...]) -> str:
    word = _text(get, key, known[0])
    if word not in known:
        raise SpecError(f"found {word!r}; {nearest(word, known)}", key=key)
    return word


def _number(get: Get, key: str, default: int, least: int, most: int) -> int:
    text = _text(get, key, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise SpecError(f"found {text!r}; a whole number from {least} to {most}", key=key)
    return int(text)


def _flag(get: Get, key: str, default: bool) -> bool:
    text = _text(get, key, str(default).lower())
    if text not in ("true", "false"):
        raise SpecError(f"found {text!r}; write true or false", key=key)
    return text == "true"


def _testbed(name: str) -> str:
    try:
        return paths.paths(name).name
    except SpecError as error:
        raise SpecError(str(error), key="testbed") from error


def _network(text: object, key: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise SpecError(f"{error}; write such as 192.168.177.0/24", key=key) from error
    if not 8 <= network.prefixlen <= 29:
        raise SpecError(f"{network} has no fitting size; /8 to /29 have", key=key)
    return network


def _hosts(text: str | None, first: ipaddress.IPv4Network) -> tuple[Host, ...]:
    entries = _entries(text) or [HERE]
    hosts = tuple(_host(index, entry, first) for index, entry in enumerate(entries))
    _refuse_twins([host.name for host in hosts], "name")
    _refuse_twins([host.uri for host in hosts], "uri")
    for index, host in enumerate(hosts):
        if len(hosts) > 1 and not host.address:
            what = f"{host.name} needs an address, by which the other hosts reach it"
            raise SpecError(what, key=f"hosts[{index}].address")
        clash = next((each for each in hosts[:index] if each.network.overlaps(host.network)), None)
        if clash:
            what = f"{host.network} overlaps that of {clash.name}, {clash.network}"
            raise SpecError(what, key=f"hosts[{index}].network")
    return hosts


def _entries(text: str | None) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(text or "[]")
    except ValueError as error:
        raise SpecError(f"is no list of {{name, uri}}: {error}", key="hosts") from error
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise SpecError("is no list; write - {name: here, uri: qemu:///system}", key="hosts")
    return entries


def _host(index: int, entry: Mapping[str, Any], first: ipaddress.IPv4Network) -> Host:
    place = f"hosts[{index}]"
    for key in entry:
        if key not in _KEYS:
            raise SpecError(f"unknown key; {nearest(key, _KEYS)}", key=f"{place}.{key}")
    name, uri = str(entry.get("name", "")), str(entry.get("uri", ""))
    if not _NAME.fullmatch(name):
        raise SpecError(f"found {name!r}; small letters, digits and dashes", key=f"{place}.name")
    folder = str(entry.get("folder", FOLDER))
    if not folder.startswith("/"):
        raise SpecError(f"found {folder!r}; a full path on the host", key=f"{place}.folder")
    return Host(
        name=name,
        uri=_uri(uri, f"{place}.uri"),
        network=_network(entry.get("network") or _following(first, index), f"{place}.network"),
        folder=folder.rstrip("/"),
        address=_given(_address, entry.get("address"), f"{place}.address") or "",
        cpu=_given(_cpu, entry.get("cpu"), f"{place}.cpu"),
        memory=_given(_size, entry.get("memory"), f"{place}.memory"),
    )


def _following(first: ipaddress.IPv4Network, index: int) -> str:
    """Return the network of the same size that comes so many after the first."""
    base = int(first.network_address) + index * first.num_addresses
    return f"{ipaddress.IPv4Address(base)}/{first.prefixlen}"


def _given(parse: Callable[[object], _T], value: object, key: str) -> _T | None:
    if value is None:
        return None
    try:
        return parse(value)
    except (ValueError, TypeError) as error:
        raise SpecError(str(error), key=key) from error


def _address(value: object) -> str:
    return str(ipaddress.ip_address(str(value)))


def _cpu(value: object) -> float:
    return float(units.cpu(str(value)))


def _size(value: object) -> int:
    return int(units.size(str(value)))


def _uri(uri: str, key: str) -> str:
    if not urlsplit(uri).scheme.startswith("qemu"):
        example = "qemu:///system or qemu+ssh://root@host/system"
        raise SpecError(f"found {uri!r}; write such as {example}", key=key)
    if wrong := ssh.nameless(uri):
        raise SpecError(wrong, key=key)
    return uri


def _refuse_twins(values: list[str], key: str) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise SpecError(f"{value} is given twice", key=f"hosts[{index}].{key}")
