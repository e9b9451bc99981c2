# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane of one server."""

from __future__ import annotations

import ipaddress
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import certificates, tokens
from .api import Client, RefusedError
from .children import Children, looks
from .saying import say
from .settings import Settings, UsageError, node_name

CLUSTER_CIDR, SERVICE_CIDR = "10.42.0.0/16", "10.43.0.0/16"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
_WATCHER = {
    "metadata": {"name": "system:k3s-controller"},
    "rules": [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    ],
}
_WATCHERS = {
    "metadata": {"name": "system:k3s-controller"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:k3s-controller",
    },
    "subjects": [{"kind": "User", "name": "system:k3s-controller"}],
}
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Server:
    """A server: its files, its programs, and what it lets others join with."""

    def __init__(self, settings: Settings, children: Children, version: str, ip: str) -> None:
        """Read what it is told, and what it was before."""
        self.settings, self.children, self.version, self.ip = settings, children, version, ip
        self.folder = settings.data_dir / "server"
        self.tls = self.folder / "tls"
        self.etcd_folder = self.folder / "db" / "etcd"
        self.in_cluster = settings.is_on("cluster-init") or bool(settings.text("server"))
        self.name = node_name(settings)
        self.token = self._token()
        agent_token = tokens.given(settings, "agent-token")
        self.agent_token = tokens.parse(agent_token).secret if agent_token else self.token
        if settings.text("flannel-backend", "vxlan") not in ("vxlan", "none"):
            raise UsageError("the stand-in for K3s has no flannel-backend but vxlan and none")

    @property
    def certificate(self) -> str:
        """The certificate by which others know it."""
        return (self.tls / "server-ca.crt").read_text()

    def admin(self) -> Client:
        """Return one who may do anything."""
        return Client(
            f"https://127.0.0.1:{self.settings.port}",
            trust=self.tls / "server-ca.crt",
            pair=self._pair("client-admin"),
        )

    def cidrs(self) -> dict[str, Any]:
        """Return what agents are told of the network."""
        services = ipaddress.ip_network(self._service_cidr)
        dns = self.settings.many("cluster-dns", [str(services[10])])
        return {
            "clusterCIDR": self._cluster_cidr,
            "clusterDNS": dns,
            "clusterDomain": self.settings.text("cluster-domain", "cluster.local"),
            "flannelBackend": self.settings.text("flannel-backend", "vxlan"),
            "port": self.settings.port,
        }

    def prepare(self) -> None:
        """Have keys, certificates and tokens."""
        if self.settings.text("server") and not self.etcd_folder.exists():
            self._take_over()
        certificates.make(self.children, self.tls, self._hosts(), self.ip)
        self._write_tokens()

    def start(self) -> None:
        """Start the programs, and return when the API is ready."""
        self.children.start("etcd", self._etcd())
        self._become_voter()
        # On a busy machine it may be later than kube-apiserver is ready to wait for it.
        self._wait_for(self._etcd_client(), "/health")
        self.children.start("kube-apiserver", self._apiserver())
        self.wait_until_ready()
        admin = self.admin()
        for kind, body in (("clusterroles", _WATCHER), ("clusterrolebindings", _WATCHERS)):
            _have(admin, f"{_RBAC}/{kind}", body)
        self.children.start("kube-controller-manager", self._controller_manager())
        if not self.settings.is_on("disable-scheduler"):
            self.children.start("kube-scheduler", self._scheduler())
        self._write_kubeconfig()

    def wait_until_ready(self) -> None:
        """Wait until the API says that it is ready."""
        self._wait_for(self.admin(), "/readyz")

    def _wait_for(self, client: Client, path: str) -> None:
        self._until(lambda: client.ask("GET", path))

    def _until(self, ask: Callable[[], object]) -> None:
        """Ask until there is an answer."""
        for pause in looks():
            if self.children.over.is_set():
                break
            if ended := self.children.ended():
                raise RuntimeError(ended)
            try:
                ask()
                return
            except OSError:
                time.sleep(pause)
        raise InterruptedError

    # What it keeps

    def _token(self) -> str:
        kept = self.folder / "token"
        before = tokens.parse(kept.read_text()).secret if kept.exists() else ""
        text = tokens.given(self.settings, "token")
        if self.settings.text("server") and not text:
            raise UsageError("--token is required to join a server")
        secret = tokens.parse(text).secret if text else before or secrets.token_hex(16)
        if before and secret != before:
            raise UsageError("bootstrap data already found and encrypted with different token")
        return secret

    def _write_tokens(self) -> None:
        full = tokens.format_token(self.certificate, "server", self.token)
        certificates.private(self.folder / "token", full)
        agent = self.folder / "agent-token"
        for link in (self.folder / "node-token", agent):
            link.unlink(missing_ok=True)
        (self.folder / "node-token").symlink_to(self.folder / "token")
        if self.agent_token == self.token:
            agent.symlink_to(self.folder / "token")
        else:
            text = tokens.format_token(self.certificate, "node", self.agent_token)
            certificates.private(agent, text)

    def _write_kubeconfig(self) -> None:
        path = Path(self.settings.text("write-kubeconfig") or KUBECONFIG)
        mode = int(self.settings.text("write-kubeconfig-mode") or "600", 8)
        text = certificates.kubeconfig(
            f"https://127.0.0.1:{self.settings.port}",
            self.tls / "server-ca.crt",
            self._pair("client-admin"),
        )
        certificates.private(path, text, mode)

    def _hosts(self) -> list[str]:
        first = str(ipaddress.ip_network(self._service_cidr)[1])
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        mine = ["localhost", "127.0.0.1", self.ip, first, self.name, os.uname().nodename]
        asked = self.settings.many("tls-san")
        more = self.settings.text("advertise-address")
        return list(dict.fromkeys([*names, *mine, *asked, *([more] if more else [])]))

    def _pair(self, name: str) -> tuple[Path, Path]:
        return self.tls / f"{name}.crt", self.tls / f"{name}.key"

    @property
    def _cluster_cidr(self) -> str:
        return self.settings.many("cluster-cidr", [CLUSTER_CIDR])[0]

    @property
    def _service_cidr(self) -> str:
        return self.settings.many("service-cidr", [SERVICE_CIDR])[0]

    # Several servers

    def _take_over(self) -> None:
        """Join another server: have its keys, and be told who its peers are."""
        client = self._other()
        answer = client.ask("GET", "/v1-k3s/bootstrap")
        certificates.take_over(self.tls, answer["files"])
        members = client.ask("POST", "/v1-k3s/members", self._peer())["members"]
        certificates.private(self.folder / "db" / "members", members + "\n")
        self._learner.touch()

    def _become_voter(self) -> None:
        """Count among the others' etcds once its own has what they have, and not before.

        Two that have to agree, one of which still starts, are a cluster without a leader.
        """
        if self._learner.exists():
            self._until(lambda: self._other().ask("POST", "/v1-k3s/promotion", self._peer()))
            self._learner.unlink()

    @property
    def _learner(self) -> Path:
        return self.folder / "db" / "learner"

    def _other(self) -> Client:
        given = tokens.given(self.settings, "token")
        return joined(self.settings.text("server"), given, "server")

    def _peer(self) -> dict[str, str]:
        return {"name": self.name, "url": f"https://{self.ip}:2380"}

    def add_member(self, name: str, url: str) -> str:
        """Let another server's etcd learn; return all members as etcd wants to be told."""
        if not self.in_cluster:
            raise RefusedError(400, "not using cluster-init: no other server can join")
        etcd = self._etcd_client()
        found = etcd.ask("POST", "/v3/cluster/member/list", {})["members"]
        for each in found:
            if each.get("name", "") == name or url in each["peerURLs"]:
                etcd.ask("POST", "/v3/cluster/member/remove", {"ID": each["ID"]})
        asked = {"peerURLs": [url], "isLearner": True}
        answer = etcd.ask("POST", "/v3/cluster/member/add", asked)
        return ",".join(
            f"{each.get('name') or name}={peer}"
            for each in answer["members"]
            for peer in each["peerURLs"]
        )

    def promote_member(self, url: str) -> None:
        """Let another server's etcd vote; refused while it has not learnt all."""
        etcd = self._etcd_client()
        for each in etcd.ask("POST", "/v3/cluster/member/list", {})["members"]:
            if url in each["peerURLs"] and each.get("isLearner"):
                etcd.ask("POST", "/v3/cluster/member/promote", {"ID": each["ID"]})

    def _etcd_client(self) -> Client:
        folder = self.tls / "etcd"
        return Client(
            "https://127.0.0.1:2379",
            trust=folder / "server-ca.crt",
            pair=(folder / "client.crt", folder / "client.key"),
        )

    # Its programs

    def _etcd(self) -> list[str]:
        tls, here = self.tls / "etcd", f"https://{self.ip}"
        peer = f"{here}:2380" if self.in_cluster else "http://127.0.0.1:2380"
        clients = "https://127.0.0.1:2379" + (f",{here}:2379" if self.in_cluster else "")
        members = self.folder / "db" / "members"
        joins = members.exists()
        return [
            f"--name={self.name}",
            f"--data-dir={self.etcd_folder}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={members.read_text().strip() if joins else f'{self.name}={peer}'}",
            f"--initial-cluster-state={'existing' if joins else 'new'}",
            "--client-cert-auth",
            f"--trusted-ca-file={tls / 'server-ca.crt'}",
            f"--cert-file={tls / 'server-client.crt'}",
            f"--key-file={tls / 'server-client.key'}",
            "--peer-client-cert-auth",
            f"--peer-trusted-ca-file={tls / 'peer-ca.crt'}",
            f"--peer-cert-file={tls / 'peer-server-client.crt'}",
            f"--peer-key-file={tls / 'peer-server-client.key'}",
            "--log-level=error",
            *_flags(self.settings.many("etcd-arg")),
        ]

    def _apiserver(self) -> list[str]:
        tls, get = self.tls, self.settings.text
        return [
            f"--version={self.version}",
            "--allow-privileged",
            "--etcd-servers=https://127.0.0.1:2379",
            f"--etcd-cafile={tls / 'etcd/server-ca.crt'}",
            f"--etcd-certfile={tls / 'etcd/client.crt'}",
            f"--etcd-keyfile={tls / 'etcd/client.key'}",
            f"--bind-address={get('bind-address', '0.0.0.0')}",
            f"--advertise-address={get('advertise-address') or self.ip}",
            f"--secure-port={self.settings.port}",
            f"--tls-cert-file={tls / 'serving-kube-apiserver.crt'}",
            f"--tls-private-key-file={tls / 'serving-kube-apiserver.key'}",
            f"--client-ca-file={tls / 'client-ca.crt'}",
            f"--kubelet-certificate-authority={tls / 'server-ca.crt'}",
            f"--kubelet-client-certificate={tls / 'client-kube-apiserver.crt'}",
            f"--kubelet-client-key={tls / 'client-kube-apiserver.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={tls / 'service.pub'}",
            f"--service-account-signing-key-file={tls / 'service.key'}",
            f"--service-cluster-ip-range={self._service_cidr}",
            f"--service-node-port-range={get('service-node-port-range', '30000-32767')}",
            "--profiling=false",
            *_flags(self.settings.many("kube-apiserver-arg")),
        ]

    def _controller_manager(self) -> list[str]:
        return [
            f"--version={self.version}",
            f"--kubeconfig={self._component('client-controller')}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.tls / 'service.key'}",
            f"--root-ca-file={self.tls / 'server-ca.crt'}",
            "--allocate-node-cidrs",
            f"--cluster-cidr={self._cluster_cidr}",
            f"--leader-elect={str(self.in_cluster).lower()}",
            "--bind-address=127.0.0.1",
            "--controllers=*,-node-route-controller,-cloud-node-lifecycle-controller",
            "--profiling=false",
            *_flags(self.settings.many("kube-controller-manager-arg")),
        ]

    def _scheduler(self) -> list[str]:
        return [
            f"--version={self.version}",
            f"--kubeconfig={self._component('client-scheduler')}",
            f"--leader-elect={str(self.in_cluster).lower()}",
            "--bind-address=127.0.0.1",
            "--profiling=false",
            *_flags(self.settings.many("kube-scheduler-arg")),
        ]

    def _component(self, name: str) -> Path:
        path = self.folder / "cred" / f"{name}.kubeconfig"
        url = f"https://127.0.0.1:{self.settings.port}"
        text = certificates.kubeconfig(url, self.tls / "server-ca.crt", self._pair(name))
        certificates.private(path, text)
        return path


def joined(url: str, text: str, user: str) -> Client:
    """Return a client to a server's door for those who join, whom the token trusts."""
    parts = url.rstrip("/").removeprefix("https://").rpartition(":")
    host, port = (parts[0], int(parts[2])) if parts[1] and parts[2].isdigit() else (parts[2], 6443)
    door = f"https://{host}:{port + 1}"
    token = tokens.parse(text)
    certificate = str(Client(door, trust=None).ask("GET", "/cacerts"))
    if not token.trusts(certificate):
        raise RefusedError(401, "token CA hash does not match the Cluster CA certificate hash")
    return Client(door, trust=certificate, password=(user, token.secret))


def apply_manifests(server: Server, seen: dict[Path, float]) -> None:
    """Apply what is new in the folder of manifests; what is disabled or skipped is left."""
    folder = server.folder / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    disabled = set(server.settings.many("disable"))
    kubeconfig = server.settings.text("write-kubeconfig") or KUBECONFIG
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".yaml", ".yml", ".json") or path.stem in disabled:
            continue
        if path.with_name(f"{path.name}.skip").exists() or seen.get(path) == path.stat().st_mtime:
            continue
        seen[path] = path.stat().st_mtime
        cache = f"--cache-dir={server.folder / 'kubectl'}"
        words = ["--kubeconfig", kubeconfig, cache, "apply", "--server-side", "--force-conflicts"]
        try:
            server.children.run("kubectl", *words, "-f", path)
            say(f"Applied manifest {path}")
        except RuntimeError as error:
            seen.pop(path)
            say(f"Failed to apply {path}: {error}", "error")


def _have(client: Client, path: str, body: dict[str, Any]) -> None:
    try:
        client.ask("POST", path, body)
    except RefusedError as error:
        if error.status != 409:
            raise


def _flags(given: Sequence[str]) -> list[str]:
    return [each if each.startswith("-") else f"--{each}" for each in given]
