# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed's record: where it is, what it has to hold, and what each node is told of it.

A record is written by whoever makes the testbed. It is read here as what anybody could have
written: what is wrong with it is said in one line, and nothing else of it is used.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOCAL = Path("/run/pkgctl")
FILE = "state.json"
FORMAT = 1
DEFAULT = "default"
TESTBED_VARIABLE, ROOT_VARIABLE = "PKGCTL_TESTBED", "PKGCTL_STATE"
# The network of all nodes, whatever they are made of.
NETWORK = "10.77.0.0/16"
# Where a virtual machine sees its own folder, and its disks by their targets.
DIRECTORY = "/run/pkgctl"
_BY_TARGET = "/dev/disk/by-id/virtio-"
# vda is the system's disk and vdb the seed.
_FIRST_DISK = 2
_CONNECT_SECONDS = 10

Record = Mapping[str, Any]
_TESTBED = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_URI = re.compile(r"qemu(\+(unix|ssh|libssh2?|tls|tcp))?://[^\s\x00-\x1f]*")
_UNQUOTABLE = re.compile(r"[\"\x00-\x1f]")
# What a node has, and of which type.
_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "site": str,
    "kind": (str, type(None)),
    "role": (str, type(None)),
    "labels": dict,
    "address": str,
    "disks": dict,
    "cgroup": str,
    "directory": str,
}
_LOCAL_KEYS = {"namespaces": str}
_MACHINE_KEYS = {
    "host": str,
    "domain": str,
    "uri": str,
    "interface": str,
    "cpu": (int, float),
    "memory": int,
    "pids": int,
    "access_up": (int, type(None)),
    "access_down": (int, type(None)),
}


class RecordError(ValueError):
    """There is no record, or none that can be used; in one line."""


def root(environment: Mapping[str, str], home: Path) -> Path:
    """Return the folder in which the controller keeps its testbeds of virtual machines.

    Args:
        environment: the variables to go by.
        home: the user's own folder.
    """
    if given := environment.get(ROOT_VARIABLE):
        return Path(given).absolute()
    state = environment.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else home / ".local" / "state") / "pkgctl"


def places(name: str, environment: Mapping[str, str], home: Path) -> tuple[Path, Path]:
    """Return where the record of a testbed may be: that of a local one, then the other.

    Args:
        name: the testbed's.
        environment: the variables to go by.
        home: the user's own folder.

    Raises:
        RecordError: if no testbed can be called that.
    """
    if not _TESTBED.fullmatch(name):
        raise RecordError(
            f"{name!r} is no name of a testbed: up to 32 small letters, digits and inner dashes"
        )
    return LOCAL / name / FILE, root(environment, home) / name / FILE


def read(*candidates: Path) -> tuple[Path, Record]:
    """Return the first record that is there, and where it is.

    Raises:
        RecordError: if there is none, or it is none that this version can use.
    """
    for path in candidates:
        try:
            text = path.read_text()
        except FileNotFoundError:
            continue
        except PermissionError as error:
            if path != candidates[-1]:
                continue  # Those in /run are root's.
            raise _unread(path, error) from error
        except (OSError, UnicodeDecodeError) as error:
            raise _unread(path, error) from error
        return path, check(path, text)
    looked = " and no ".join(str(path) for path in candidates)
    raise RecordError(f"no testbed is up: run pkgctl up (there is no {looked})")


def _unread(path: Path, error: Exception) -> RecordError:
    return RecordError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def check(path: Path, text: str) -> Record:
    """Return the record that a text holds.

    Raises:
        RecordError: in one line that names the file and what is wrong with it.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not a testbed's state: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or "nodes" not in record:
        raise RecordError(f"{path} is not a testbed's state of format {FORMAT}")
    try:
        _check(record)
    except RecordError as error:
        raise RecordError(f"{path} is not a testbed's state: {error}") from error
    return record


def is_remote(record: Record) -> bool:
    """Return whether the nodes are machines of their own, reached by SSH."""
    return bool(record.get("provider", "local") != "local")


def _check(record: Record) -> None:
    _typed(record, {"testbed": str, "nodes": dict}, "it")
    if record.get("provider", "local") not in ("local", "libvirt"):
        raise RecordError(f"provider is {record['provider']!r}, not local or libvirt")
    more = _MACHINE_KEYS if is_remote(record) else _LOCAL_KEYS
    for name, node in record["nodes"].items():
        if not _NODE.fullmatch(name) or ".." in name:
            raise RecordError(f"{name!r} is no name of a node")
        if not isinstance(node, dict):
            raise RecordError(f"node {name} is no mapping")
        _typed(node, {**_KEYS, **more}, f"node {name}")
    cluster(record)
    if is_remote(record):
        _check_remote(record)


def _typed(found: Mapping[str, Any], keys: Mapping[str, Any], what: str) -> None:
    for key, wanted in keys.items():
        if key not in found:
            raise RecordError(f"{what} has no {key}")
        if not isinstance(found[key], wanted) or isinstance(found[key], bool):
            raise RecordError(f"the {key} of {what} cannot be {str(found[key])[:40]!r}")


def _check_remote(record: Record) -> None:
    _typed(record, {"access": dict, "links": dict}, "it")
    access = record["access"]
    _typed(access, {"user": str, "port": int, "key": str, "known_hosts": str}, "access")
    if not _PLAIN.fullmatch(access["user"]) or not 0 < access["port"] < 1 << 16:
        raise RecordError(f"access cannot be {access['user']!r} at port {access['port']}")
    for key in ("key", "known_hosts"):
        if not access[key].startswith("/") or _UNQUOTABLE.search(access[key]):
            raise RecordError(f"the {key} of access is no path: {access[key]!r}")
    for name, node in record["nodes"].items():
        _check_machine(name, node)
        _check_links(record["links"].get(name, {}), f"the links of {name}")


def _check_machine(name: str, node: Mapping[str, Any]) -> None:
    for key in ("address", "host"):
        try:
            ipaddress.IPv4Address(node[key])
        except ValueError as error:
            raise RecordError(f"the {key} of node {name}: {error}") from error
    if not _URI.fullmatch(node["uri"]):
        raise RecordError(f"the uri of node {name} is none of libvirt: {node['uri']!r}")
    if not _PLAIN.fullmatch(node["domain"]):
        raise RecordError(f"the domain of node {name} cannot be {node['domain']!r}")
    for disk, found in node["disks"].items():
        if not isinstance(found, dict):
            raise RecordError(f"disk {disk} of node {name} is no mapping")
        _typed(found, {"size": int, "mount": str}, f"disk {disk} of node {name}")


def _check_links(row: object, what: str) -> None:
    if not isinstance(row, dict) or not all(isinstance(cell, dict) for cell in row.values()):
        raise RecordError(f"{what} are no mapping of qualities")


# What nodes that are machines of their own are told.


def identity(record: Record, name: str) -> dict[str, Any]:
    """Return what a virtual machine is to know of itself, but what delays packets there."""
    nodes = record["nodes"]
    node = nodes[name]
    others = {other: each for other, each in nodes.items() if other != name}
    return {
        "name": name,
        "testbed": record["testbed"],
        "interface": node["interface"],
        "address": node["address"],
        "network": NETWORK,
        "peers": {other: each["address"] for other, each in others.items()},
        "access": node["access_up"],
        "access_down": node["access_down"],
        "cgroup": node["cgroup"],
        "cpu": node["cpu"],
        "memory": node["memory"],
        "pids": node["pids"],
        "disks": {
            disk: {"image": image(number), "mount": each["mount"], "size": each["size"]}
            for number, (disk, each) in enumerate(node["disks"].items())
        },
        "directory": DIRECTORY,
        "address6": node.get("address6") or "",
        "peers6": {
            other: each["address6"] for other, each in others.items() if each.get("address6")
        },
    }


def image(number: int) -> str:
    """Return the device of a virtual machine's data disk, by its number in the topology."""
    rest, letters = number + _FIRST_DISK + 1, ""
    while rest:
        rest, digit = divmod(rest - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return f"{_BY_TARGET}vd{letters}"


def base(record: Record, name: str) -> dict[str, Any]:
    """Return what a virtual machine is by its topology: its links both ways, and its limits."""
    node, links = record["nodes"][name], record["links"]
    ingress = {other: row[name] for other, row in links.items() if name in row and other != name}
    egress = {other: cell for other, cell in links.get(name, {}).items() if other != name}
    return {
        "egress": _shaped(egress),
        "ingress": _shaped(ingress),
        "limits": {key: node[key] for key in ("cpu", "memory", "pids")},
    }


def _shaped(row: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the links that are not as if nothing were there."""
    return {other: cell for other, cell in row.items() if any(cell.values())}


# What Ansible is told.


def common(record: Record) -> dict[str, Any]:
    """Return the variables that all nodes share which are machines of their own."""
    access = record["access"]
    return {
        "ansible_connection": "ssh",
        "ansible_user": access["user"],
        "ansible_port": access["port"],
        "ansible_ssh_private_key_file": access["key"],
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_timeout": _CONNECT_SECONDS,
        # A machine that was started again knows nothing of a connection from before.
        "ansible_ssh_retries": 1,
    }


def described(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Ansible is told of a node whatever it is made of."""
    return {
        **{f"pkgctl_{key}": node[key] for key in ("cpu", "memory") if key in node},
        "pkgctl_site": node["site"],
        "pkgctl_kind": node["kind"],
        "pkgctl_role": node["role"],
        "pkgctl_labels": node["labels"],
        "pkgctl_address": node["address"],
        "pkgctl_disks": sorted(node["disks"]),
        "pkgctl_cgroup": node["cgroup"],
        "pkgctl_directory": node["directory"],
    }


# The label that says what a node is in a cluster: server, agent or none.
CLUSTER_LABEL = "k3s"
SERVER, AGENT, NEITHER = "server", "agent", "none"


def cluster(record: Record) -> dict[str, str]:
    """Return which nodes are servers and which agents of a cluster; the others are left out.

    The label says it. Where none names a server, the first node of role ``cloud`` is the one, else
    the first of all; whoever has no label is an agent.

    Raises:
        RecordError: if a label says something else.
    """
    asked = {name: node["labels"].get(CLUSTER_LABEL, "") for name, node in record["nodes"].items()}
    for name, word in asked.items():
        if word not in ("", SERVER, AGENT, NEITHER):
            raise RecordError(
                f"node {name} has the label {CLUSTER_LABEL}: {word!r};"
                f" it can be {SERVER}, {AGENT} or {NEITHER}"
            )
    if SERVER not in asked.values():
        free = [name for name, word in asked.items() if not word]
        clouds = [name for name in free if record["nodes"][name]["role"] == "cloud"]
        asked.update(dict.fromkeys((clouds or free)[:1], SERVER))
    return {name: word or AGENT for name, word in asked.items() if word != NEITHER}


def variables(record: Record, name: str, folder: Path) -> dict[str, Any]:
    """Return a node's own variables.

    Args:
        record: the testbed's record.
        name: the node's name.
        folder: the record's own.
    """
    node = record["nodes"][name]
    found = described(node)
    if not is_remote(record):
        return {**found, "pkgctl_namespaces": node["namespaces"]}
    return {
        **found,
        "ansible_host": node["host"],
        "ansible_ssh_common_args": shlex.join(_options(record, name)),
        "ansible_control_path": _control_path(record, name),
        "pkgctl_domain": node["domain"],
        "pkgctl_uri": node["uri"],
        "pkgctl_controller_directory": str(folder / "nodes" / name),
        "pkgctl_identity": identity(record, name),
        "pkgctl_base": base(record, name),
    }


def _options(record: Record, name: str) -> list[str]:
    """Return SSH's options: a node is known by its name, and noticed when it is gone."""
    # SSH takes a path with spaces in quotes, and a percent sign for the beginning of a variable.
    known = record["access"]["known_hosts"].replace("%", "%%")
    options = {
        "UserKnownHostsFile": f'"{known}"',
        "StrictHostKeyChecking": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": name,
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        **_jump(record["nodes"][name]["uri"]),
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _jump(uri: str) -> dict[str, str]:
    """Return the way to the networks of a host elsewhere: through the host, as libvirt goes."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("/")[2]
    if "ssh" not in parts.scheme or not re.fullmatch(r"([\w.-]+@)?[\w.:\[\]-]+", host):
        return {}
    return {"ProxyJump": host}


def _control_path(record: Record, name: str) -> str:
    """Return where connections to a node are shared: not with one that had its address before."""
    known = f"{record['access']['known_hosts']} {name} {record['nodes'][name]['host']}"
    digest = hashlib.sha256(known.encode()).hexdigest()[:12]
    return f"%(directory)s/{digest}"
