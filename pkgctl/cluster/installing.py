# SPDX-License-Identifier: GPL-3.0-or-later
"""K3s on the nodes of a testbed: installed, upgraded, taken off again, and the way to its API."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from pkgctl import playbook
from pkgctl.cluster import runtime
from pkgctl.errors import ClusterError, SpecError
from pkgctl.local.paths import Paths
from pkgctl.local.state import read_state
from pkgctl.nodeside import records
from pkgctl.remote.places import Places

API_PORT = 6443
_PATIENCE = 2.0  # seconds that one of several servers may take to answer
# What goes with the cluster: secrets that were drawn, the administrator's kubeconfig, and what it
# was made with, so that it is upgraded, or made again, with the same.
_FOLDER, _KUBECONFIG, _VARIABLES = "k3s", "kubeconfig", "variables.json"
# Variables that are lists or mappings, written as YAML; those that name files on this machine.
_STRUCTURED = ("extra_images", "extra_manifests", "k3s_left_out", "k3s_node_labels")
_FILES = ("extra_images", "extra_manifests")
# Variables that hold for one play alone.
_FLEETING = ("airgap_dir", "k3s_at_once", "k3s_patience", "k3s_version")
# Variables that are secrets, and the files from which they are taken.
_SECRETS = {"token": "token", "agent_token": "agent-token"}
_HAS_SECRETS = "registries_config_yaml"
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which nodes of a testbed are the cluster.

    Attributes:
        servers: those that run the API, the first of which begins it.
        agents: the others.
    """

    servers: tuple[str, ...]
    agents: tuple[str, ...]


def members(paths: Paths) -> Cluster:
    """Return which nodes of a testbed are servers and which agents.

    Raises:
        TestbedError: if the testbed is not up.
        SpecError: if its labels say nothing that can be.
    """
    try:
        roles = records.cluster(read_state(paths))
    except records.RecordError as error:
        raise SpecError(str(error)) from error
    of = {role: tuple(n for n, each in roles.items() if each == role) for role in roles.values()}
    return Cluster(of.get(records.SERVER, ()), of.get(records.AGENT, ()))


def install(
    paths: Paths, bundle: Path, variables: Mapping[str, Any], told: Told, *, dry_run: bool = False
) -> playbook.Play:
    """Make a testbed's nodes a cluster, or bring it back to what it should be.

    Args:
        paths: the testbed.
        bundle: the folder of a locked release.
        variables: what the roles are told besides, as texts; those that are lists or mappings
            as YAML, and ``@`` with a file's name for its content. They are remembered for later
            plays; an empty text forgets one.
        told: hears what is done.
        dry_run: only say what would change.

    Raises:
        PlayError: with each node's own words.
        SpecError: if there is no bundle in the folder, or no server among the nodes.
    """
    return _play("k3s/site.yml", paths, bundle, variables, told, dry_run=dry_run)


def upgrade(
    paths: Paths, bundle: Path, variables: Mapping[str, Any], told: Told, *, dry_run: bool = False
) -> playbook.Play:
    """Bring a cluster to the release of another bundle; pods go on."""
    members(paths)  # without a testbed, that is what there is to say
    if not kubeconfig_path(paths).exists():
        raise ClusterError("there is no cluster to upgrade; pkgctl cluster install makes one")
    return _play("k3s/upgrade.yml", paths, bundle, variables, told, dry_run=dry_run)


def reset(
    paths: Paths, nodes: Sequence[str], told: Told, *, dry_run: bool = False
) -> playbook.Play:
    """Take the cluster off nodes, with all that it made there; off all if none is named.

    Raises:
        PlayError: with each node's own words.
        SpecError: if a node is none of the cluster.
    """
    known = members(paths)
    for name in nodes:
        if name not in (*known.servers, *known.agents):
            raise SpecError(f"{name} is no node of the cluster of testbed {paths.name}")
    return playbook.play(
        "k3s/reset.yml",
        {},
        testbed=paths.name,
        limit=",".join(nodes) or None,
        told=told,
        check=dry_run,
    )


def _play(
    name: str,
    paths: Paths,
    bundle: Path,
    variables: Mapping[str, Any],
    told: Told,
    *,
    dry_run: bool,
) -> playbook.Play:
    if not members(paths).servers:
        raise SpecError("no node is a server of the cluster; label one with k3s: server")
    if not (bundle / "bundle.lock.json").is_file():
        raise SpecError(
            "there is no bundle.lock.json in it; pkgctl cluster bundle makes one", file=str(bundle)
        )
    for variable in variables.keys() & _SECRETS.keys():
        file = paths.run / _FOLDER / _SECRETS[variable]
        raise SpecError(f"{variable} would show in the process list; write it into {file} instead")
    if not variables.get(_HAS_SECRETS, "@").startswith("@"):
        raise SpecError(f"{_HAS_SECRETS} would show in the process list; give it as @FILE")
    kept = paths.run / _FOLDER / _VARIABLES
    read = {key: _read_value(key, text) for key, text in variables.items()}
    given = {key: each for key, each in {**_recalled(kept), **read}.items() if each != ""}
    lasting = {key: each for key, each in given.items() if key not in _FLEETING}
    # What experiments run in pods; it is in no registry.
    given["extra_images"] = [str(runtime.image().archive), *given.get("extra_images", ())]
    given["airgap_dir"] = str(bundle.absolute())
    play = playbook.play(name, given, testbed=paths.name, told=told, check=dry_run)
    if not dry_run:
        write_private(kept, json.dumps(lasting))
    return play


def _recalled(kept: Path) -> dict[str, Any]:
    """Return the variables of the play before."""
    return dict(json.loads(kept.read_text())) if kept.exists() else {}


def _read_value(key: str, text: str) -> Any:
    """Return what a variable is told, which may be no text; one word stands for a list of it."""
    if text.startswith("@"):
        text = _content(text[1:])
    if not text or key not in _STRUCTURED:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{key} is no YAML: {text}") from error
    wanted: type = dict if key == "k3s_node_labels" else list
    if wanted is list and isinstance(value, str):
        value = [value]
    if key in _FILES and isinstance(value, list):
        return [str(Path(str(each)).absolute()) for each in value]
    if not isinstance(value, wanted):
        example = "{zone: north}" if wanted is dict else "[a, b]"
        raise SpecError(f"{key} is not as it should be; write it such as {key}={example}")
    return value


def _content(name: str) -> str:
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("cannot be read", file=name) from error


# The way to its API.


def kubeconfig_path(paths: Paths) -> Path:
    """Return where the administrator's kubeconfig of a testbed's cluster is kept."""
    return paths.run / _FOLDER / _KUBECONFIG


def kubeconfig(paths: Paths) -> Path:
    """Return a kubeconfig with which this machine reaches the testbed's cluster.

    Its context, cluster and user are called ``pkgctl-`` and the testbed's name.

    Raises:
        ClusterError: if the testbed has no cluster.
    """
    kept = kubeconfig_path(paths)
    if not kept.exists():
        raise ClusterError(f"testbed {paths.name} has no cluster; pkgctl cluster install makes one")
    text = kept.read_text()
    server = _address(paths, text)
    fresh = renamed(text, f"pkgctl-{paths.name}", server)
    path = kept.with_name("config")
    if not path.exists() or path.read_text() != fresh:
        write_private(path, fresh)
    return path


def _address(paths: Paths, text: str) -> str:
    """Return how the API is reached from here."""
    servers = members(paths).servers
    port = urlsplit(_server_of(yaml.safe_load(text))).port or API_PORT
    if isinstance(paths, Places):
        nodes = read_state(paths)["nodes"]
        return f"https://{_answering([nodes[each]['host'] for each in servers], port)}:{port}"
    from pkgctl.cluster import gateway

    return gateway.ensure(paths, servers, port)


def _answering(hosts: Sequence[str], port: int) -> str:
    """Return the first of some hosts that answers at a port; the first of all if none does."""
    for host in hosts if len(hosts) > 1 else ():
        with suppress(OSError), socket.create_connection((host, port), timeout=_PATIENCE):
            return host
    return hosts[0]


def _server_of(config: Mapping[str, Any]) -> str:
    return str(config["clusters"][0]["cluster"]["server"])


def renamed(text: str, name: str, server: str) -> str:
    """Return the kubeconfig of one cluster under another name, with another address."""
    config = yaml.safe_load(text)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    cluster = {**cluster, "server": server}
    return _dumped(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all at once; a link to it stays one."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = (path if path.exists() else path.parent).stat()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        if os.geteuid() == 0:
            # Who runs this by sudo keeps what is theirs.
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
    fresh.replace(path)


# A user's own kubeconfig.

_LISTS = ("clusters", "users", "contexts")
_DOUBTFUL = re.compile(r"[yn]$|[-+.]?[0-9]", re.IGNORECASE)


def merge(own: Path, ours: Path) -> str:
    """Put our context into a user's own kubeconfig, where all else stays; return its name."""
    config, addition = _read(own), yaml.safe_load(ours.read_text())
    name = str(addition["current-context"])
    _take_out(config, name)
    for key in _LISTS:
        config[key] = [*(config.get(key) or []), *addition[key]]
    config.setdefault("current-context", name)
    write_private(own, _dumped(config))
    return name


def withdraw(own: Path, name: str) -> bool:
    """Take our context, cluster and user out of a user's own kubeconfig; return if any was in."""
    if not own.exists():
        return False
    config = _read(own)
    before = json.dumps(config, default=str)
    _take_out(config, name)
    if json.dumps(config, default=str) == before:
        return False
    write_private(own, _dumped(config))
    return True


class _Dumper(yaml.SafeDumper):
    """Writes YAML that kubectl reads as it was meant: to it n is no text, and neither is 1e5."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Quote what other readers may take for a number or a truth value."""
        style = '"' if _DOUBTFUL.match(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def _dumped(config: Mapping[str, Any]) -> str:
    return str(yaml.dump(config, Dumper=_Dumper, sort_keys=False))


def _take_out(config: dict[str, Any], name: str) -> None:
    for key in _LISTS:
        if config.get(key):
            config[key] = [each for each in config[key] if each.get("name") != name]
    if config.get("current-context") == name:
        del config["current-context"]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"apiVersion": "v1", "kind": "Config"}
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SpecError("is no kubeconfig", file=str(path)) from error
    if config is None:
        return {}
    if not isinstance(config, dict) or any(
        not isinstance(config.get(key) or [], list) for key in _LISTS
    ):
        raise SpecError("is no kubeconfig", file=str(path))
    return config
