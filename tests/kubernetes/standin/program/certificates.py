# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys and certificates of a server, under the names that K3s gives them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from .children import Children

AUTHORITIES = ("server-ca", "client-ca", "etcd/peer-ca", "etcd/server-ca")
# What servers share: whoever has it can be one.
SHARED = (*(f"{name}.{end}" for name in AUTHORITIES for end in ("crt", "key")),)
SHARED += ("service.key", "service.pub")
_CLIENTS = {
    "client-admin": ("system:admin", "system:masters"),
    "client-controller": ("system:kube-controller-manager", ""),
    "client-scheduler": ("system:kube-scheduler", ""),
    "client-kube-apiserver": ("system:apiserver", "system:masters"),
    "client-k3s-controller": ("system:k3s-controller", ""),
}


def make(children: Children, folder: Path, hosts: Sequence[str], node_ip: str) -> None:
    """Make what is lacking, and certificates for these hosts."""
    (folder / "etcd").mkdir(parents=True, exist_ok=True)
    for each in (folder.parent, folder):
        each.chmod(0o700)
    for name in AUTHORITIES:
        children.run("pki", "ca", folder / name, f"k3s-{name.replace('/', '-')}")
    for name, (user, group) in _CLIENTS.items():
        children.run("pki", "sign", folder / "client-ca", folder / name, user, group)
    children.run("pki", "key", folder / "service")
    sign = ["pki", "sign"]
    serving = [folder / "server-ca", folder / "serving-kube-apiserver", "kube-apiserver", ""]
    children.run(*sign, *serving, *hosts)
    local = ["localhost", "127.0.0.1", node_ip]
    etcd = folder / "etcd"
    children.run(*sign, etcd / "server-ca", etcd / "server-client", "etcd-server", "", *local)
    children.run(*sign, etcd / "server-ca", etcd / "client", "etcd-client")
    children.run(*sign, etcd / "peer-ca", etcd / "peer-server-client", "etcd-peer", "", *local)


def shared(folder: Path) -> dict[str, str]:
    """Return what another server needs."""
    return {name: (folder / name).read_text() for name in SHARED}


def take_over(folder: Path, files: dict[str, str]) -> None:
    """Have what another server gave."""
    (folder / "etcd").mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o700)
    for name, text in files.items():
        if name in SHARED:
            private(folder / name, text)


def private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that from its first moment has its mode, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    part.write_text(text)
    part.chmod(mode)
    part.rename(path)


def kubeconfig(server: str, trust: Path, pair: tuple[Path, Path]) -> str:
    """Return a kubeconfig that holds all that it needs."""
    certificate, key = pair
    cluster = {"server": server, "certificate-authority-data": _packed(trust)}
    user = {"client-certificate-data": _packed(certificate), "client-key-data": _packed(key)}
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": cluster}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
        "preferences": {},
        "users": [{"name": "default", "user": user}],
    }
    return json.dumps(text, indent=2) + "\n"


def _packed(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
