# SPDX-License-Identifier: GPL-3.0-or-later
"""A node: it joins, runs containerd and the kubelet, and connects its pods with those of others."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import certificates, containers
from .api import Client, RefusedError
from .children import Children, looks
from .network import Network, Node, node_of
from .saying import say
from .server import joined
from .settings import Settings, UsageError, node_name

_PASSWORD = Path("/etc/rancher/node/password")
_WATCH = 300
_HEALTH = "http://127.0.0.1:10248/healthz"


class Agent:
    """A node of a cluster."""

    def __init__(self, settings: Settings, children: Children, version: str) -> None:
        """Know who it is."""
        self.settings, self.children, self.version = settings, children, version
        self.folder = settings.data_dir / "agent"
        self.name, self.ip = node_name(settings), node_ip(settings)
        self._told: dict[str, Any] = {}
        self._images: dict[Path, tuple[int, int]] = {}
        self._known: dict[str, Node] = {}
        self._network: Network | None = None
        self._mine: Node | None = None
        self._url = ""

    def join(self, url: str, token: str) -> None:
        """Be let in, however long that takes."""
        while not self.children.over.is_set():
            try:
                client = joined(url, token, "node")
                body = {"name": self.name, "ip": self.ip, "password": _password()}
                self._told = client.ask("POST", "/v1-k3s/join", body)
                self._write(url)
                return
            except RefusedError as error:
                say(f"Failed to join {url}: {error.status}: {error}", "error")
            except OSError as error:
                say(f"Waiting to retrieve agent configuration; server is not ready: {error}")
            self._look_after(2)
        raise InterruptedError

    def start(self) -> None:
        """Start the programs, and return when the kubelet is well."""
        containers.start(self.settings, self.children)
        containers.import_images(self.settings, self.children, self._images)
        self.children.start("kubelet", self._kubelet())
        for job in (self._connect, self._import):
            threading.Thread(target=self._again, args=(job,), daemon=True).start()
        for pause in looks():
            if self.children.over.is_set():
                break
            try:
                with urllib.request.urlopen(_HEALTH, timeout=5):
                    return
            except OSError:
                self._look_after(pause)
        raise InterruptedError

    def _look_after(self, pause: float) -> None:
        if ended := self.children.ended():
            raise RuntimeError(ended)
        self.children.over.wait(pause)

    def _again(self, job: Any) -> None:
        while not self.children.over.is_set():
            try:
                job()
            except (OSError, RuntimeError, ValueError) as error:
                say(f"{type(error).__name__}: {error}; trying again", "warning")
            self.children.over.wait(2)

    # Its files

    def _write(self, url: str) -> None:
        for name, text in self._told["files"].items():
            certificates.private(self.folder / name, text)
        host = url.rstrip("/").removeprefix("https://").rpartition(":")
        bare = host[0] if host[1] and host[2].isdigit() else host[2]
        self._url = f"https://{bare}:{self._told['port']}"
        trust = self.folder / "server-ca.crt"
        text = certificates.kubeconfig(self._url, trust, self._pair("client-kubelet"))
        certificates.private(self.folder / "kubelet.kubeconfig", text)
        drop_ins = self.folder / "etc" / "kubelet.conf.d"
        drop_ins.mkdir(parents=True, exist_ok=True)
        (self.folder / "pod-manifests").mkdir(exist_ok=True)
        defaults = json.dumps(self._configuration(), indent=1)
        (drop_ins / "00-k3s-defaults.conf").write_text(defaults + "\n")

    def _pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def _configuration(self) -> dict[str, Any]:
        certificate, key = self._pair("serving-kubelet")
        resolve = self.settings.text("resolv-conf") or "/etc/resolv.conf"
        room = {"imagefs.available": "5%", "nodefs.available": "5%"}
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.folder / "client-ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "systemd" if containers.has_systemd() else "cgroupfs",
            "clusterDNS": self._told["clusterDNS"],
            "clusterDomain": self._told["clusterDomain"],
            "containerRuntimeEndpoint": f"unix://{containers.SOCKET}",
            "evictionHard": room,
            "evictionMinimumReclaim": dict.fromkeys(room, "10%"),
            "failSwapOn": False,
            "resolvConf": resolve if Path(resolve).exists() else "",
            "serializeImagePulls": False,
            "staticPodPath": str(self.folder / "pod-manifests"),
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
        }

    def _kubelet(self) -> list[str]:
        labels = ",".join(self.settings.many("node-label"))
        taints = ",".join(self.settings.many("node-taint"))
        given = self.settings.many("kubelet-arg")
        return [
            f"--version={self.version}",
            f"--config-dir={self.folder / 'etc' / 'kubelet.conf.d'}",
            f"--kubeconfig={self.folder / 'kubelet.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.ip}",
            *([f"--node-labels={labels}"] if labels else []),
            *([f"--register-with-taints={taints}"] if taints else []),
            *(each if each.startswith("-") else f"--{each}" for each in given),
        ]

    # What goes on beside

    def _import(self) -> None:
        while not self.children.over.wait(5):
            containers.import_images(self.settings, self.children, self._images)

    def _connect(self) -> None:
        """Have a network as soon as this node has addresses, and reach the pods of others."""
        if self._told["flannelBackend"] == "none":
            self.children.over.wait()
            return
        if self._network is None:
            interface = self.settings.text("flannel-iface")
            cluster = self._told["clusterCIDR"]
            self._network = Network(self.children, interface, self.ip, cluster)
        for _ in self._changes():
            now = self._known.get(self.name)
            if now is not None and now != self._mine:
                self._network.configure(self.folder / "etc" / "cni" / "net.d", now)
                self._mine = now
            others = {name: node for name, node in self._known.items() if name != self.name}
            self._network.reaches(others if self._mine is not None else {})

    def _changes(self) -> Iterator[None]:
        """Keep what is known of the nodes, and yield whenever that may have changed."""
        pair = self._pair("client-k3s-controller")
        client = Client(self._url, trust=self.folder / "server-ca.crt", pair=pair)
        found = client.ask("GET", "/api/v1/nodes")
        self._known = {node.name: node for each in found["items"] if (node := node_of(each))}
        yield
        version = found["metadata"]["resourceVersion"]
        for event in client.watch(f"/api/v1/nodes?resourceVersion={version}", _WATCH):
            if event["type"] == "ERROR":
                return
            node = node_of(event["object"])
            self._known.pop(event["object"]["metadata"]["name"], None)
            if node is not None and event["type"] != "DELETED":
                self._known[node.name] = node
            yield


def watch_nodes(client: Client, seen: Any, gone: Any) -> None:
    """Tell of every node that changes, and of every one that is deleted."""
    found = client.ask("GET", "/api/v1/nodes")
    for each in found["items"]:
        seen(each)
    version = found["metadata"]["resourceVersion"]
    for event in client.watch(f"/api/v1/nodes?resourceVersion={version}", _WATCH):
        if event["type"] == "DELETED":
            gone(event["object"]["metadata"]["name"])
        elif event["type"] != "ERROR":
            seen(event["object"])


def node_ip(settings: Settings) -> str:
    """Return the address of this node: the one that it is told, or that of the way out."""
    given = [each for each in settings.many("node-ip") if ":" not in each]
    if given:
        return given[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.connect(("192.0.2.1", 9))
        except OSError as error:
            raise UsageError("no default route is there, and no node-ip is given") from error
        return str(tried.getsockname()[0])


def _password() -> str:
    if not _PASSWORD.exists():
        certificates.private(_PASSWORD, secrets.token_hex(16) + "\n")
    return _PASSWORD.read_text().strip()


def wait_for_end(children: Children) -> int:
    """Return what to exit with, once a program has ended or the end is asked for."""
    while not children.over.wait(0.5):
        if ended := children.ended():
            say(ended, "fatal")
            return 1
    return 0
