# SPDX-License-Identifier: GPL-3.0-or-later
"""A control plane for the time of a test: etcd and kube-apiserver, and what else is asked for.

It listens on the loopback only, on ports of its own, keeps all in a folder of its own, and is gone
afterwards. With fake nodes (kwok) pods that are bound to one are Running a moment later.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from . import assets

# Below the range from which the kernel takes ports for outgoing connections.
_PORTS = range(20000, 32000)
_GROUPS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
}
_TOKEN = "test-{}-3d5b1f7a9c2e4860"
FAKE = "kwok.x-k8s.io/node"
_libc = ctypes.CDLL(None)


class ControlPlane:
    """A running control plane.

    Attributes:
        folder: where all of its files are.
        url: where the API answers.
        certificate: whom to trust there.
        kubeconfig: the file with which everything is allowed.
    """

    def __init__(self, folder: Path, ports: tuple[int, int, int], *, controllers: bool) -> None:
        self.folder, self.ports = folder, ports
        self.url = f"https://127.0.0.1:{ports[2]}"
        self.certificate = folder / "certificates" / "apiserver.crt"
        self._controllers = controllers
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._prepare()
        self.kubeconfig = folder / "admin.yaml"

    # What a test does with it

    def api(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> dict[str, Any]:
        """Return the answer to a request; whatever is no success raises HTTPError."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        secret = _TOKEN.format("admin") if token is None else token
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {secret}", "Content-Type": kind},
        )
        trust = ssl.create_default_context(cafile=str(self.certificate))
        with urllib.request.urlopen(request, context=trust, timeout=120) as answer:
            return dict(json.load(answer))

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Return what kubectl prints; it must succeed."""
        done = subprocess.run(
            [assets.path("kubectl"), "--kubeconfig", self.kubeconfig, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def service_account(self, name: str, namespace: str = "default") -> Path:
        """Return the kubeconfig of a service account, which is made if it is not there."""
        with contextlib.suppress(urllib.error.HTTPError):
            account = {"metadata": {"name": name}}
            self.api("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        answer = self.api(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
        )
        return self._kubeconfig(f"{namespace}-{name}", str(answer["status"]["token"]))

    def fake_nodes(self, count: int, *, cpu: str = "8", memory: str = "32Gi") -> list[str]:
        """Make nodes that kwok plays, and return their names once all are Ready."""
        names = [f"fake-{number}" for number in range(count)]
        for name in names:
            self.api("POST", "/api/v1/nodes", _fake_node(name, cpu, memory))
        self.wait_for(lambda: set(names) <= self.ready_nodes(), "fake nodes to be Ready")
        return names

    def ready_nodes(self) -> set[str]:
        """Return the nodes that are Ready, and that nothing keeps from taking pods."""
        return {
            node["metadata"]["name"]
            for node in self.api("GET", "/api/v1/nodes")["items"]
            if not node["spec"].get("taints") and _is_ready(node)
        }

    def wait_for(self, there: Any, what: str, timeout: float = 240) -> Any:
        """Return what a function returns as soon as it is true."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self._look_after()
            with contextlib.suppress(OSError):
                if found := there():
                    return found
            time.sleep(0.05)
        raise AssertionError(f"waited {timeout} s for {what}\n{self.logs()}")

    def logs(self, lines: int = 15) -> str:
        """Return the end of every program's log."""
        tails = {
            path.stem: path.read_text(errors="replace").splitlines()[-lines:]
            for path in sorted(self.folder.glob("*.log"))
        }
        return "\n".join(f"--- {name}\n" + "\n".join(tail) for name, tail in tails.items())

    # Its programs

    def start(self, program: str) -> None:
        """Start one of its programs: etcd, kube-apiserver, kube-scheduler and so on."""
        words = [str(assets.path(program)), *self._arguments(program)]
        with (self.folder / f"{program}.log").open("ab") as log:
            self._running[program] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_die_with_parent,
            )

    def stop(self, program: str, *, kill: bool = False) -> None:
        """Stop one of them."""
        running = self._running.pop(program)
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()

    def start_api(self) -> None:
        """Start the API again, and wait until it is ready."""
        self.start("kube-apiserver")
        self.wait_until_ready()

    def stop_api(self) -> None:
        """Stop the API; what it knows stays."""
        self.stop("kube-apiserver", kill=True)

    def wait_until_ready(self) -> None:
        """Wait until the API says that it is ready."""
        self.wait_for(self._is_ready, "the API")

    def processes(self) -> Mapping[str, int]:
        """Return the process ids of what is running."""
        return {name: running.pid for name, running in self._running.items()}

    def close(self) -> None:
        """Kill all that is left."""
        for program in reversed(list(self._running)):
            self.stop(program, kill=True)

    def _is_ready(self) -> bool:
        request = urllib.request.Request(f"{self.url}/readyz")
        trust = ssl.create_default_context(cafile=str(self.certificate))
        with urllib.request.urlopen(request, context=trust, timeout=5) as answer:
            return bool(answer.status == 200)

    def _look_after(self) -> None:
        for name, running in self._running.items():
            if (code := running.poll()) is not None:
                raise AssertionError(f"{name} ended with {code}\n{self.logs()}")

    # Its files

    def _prepare(self) -> None:
        subprocess.run(
            [assets.path("pki"), "key", self.folder / "accounts"], check=True, timeout=240
        )
        lines = [
            f'{_TOKEN.format(name)},{user},{name},"{group}"'
            for name, (user, group) in _GROUPS.items()
        ]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        for name in _GROUPS:
            self._kubeconfig(name, _TOKEN.format(name))

    def _kubeconfig(self, name: str, token: str) -> Path:
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path = self.folder / f"{name}.yaml"
        path.touch(0o600)
        path.write_text(json.dumps(text, indent=1))
        return path

    def _arguments(self, program: str) -> list[str]:
        return {
            "etcd": self._etcd,
            "kube-apiserver": self._apiserver,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
            "kwok": self._kwok,
        }[program]()

    def _etcd(self) -> list[str]:
        client, peer, _ = (f"http://127.0.0.1:{port}" for port in self.ports)
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        # Both wait for controllers: for an account in each namespace, and for a taint to go.
        off = [] if self._controllers else ["ServiceAccount", "TaintNodesByCondition"]
        return [
            f"--etcd-servers=http://127.0.0.1:{self.ports[0]}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.ports[2]}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.43.0.0/16",
            f"--disable-admission-plugins={','.join(off)}",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            f"--kubeconfig={self.folder / 'controllers.yaml'}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.certificate}",
            f"--flex-volume-plugin-dir={self.folder / 'plugins'}",
            "--leader-elect=false",
            "--secure-port=0",
        ]

    def _scheduler(self) -> list[str]:
        return [
            f"--kubeconfig={self.folder / 'scheduler.yaml'}",
            "--leader-elect=false",
            "--secure-port=0",
        ]

    def _kwok(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE}=fake",
            "--node-lease-duration-seconds=40",
            "--cidr=10.0.0.1/24",
            "--node-ip=10.0.0.1",
        ]


@contextmanager
def control_plane(
    *, controllers: bool = False, scheduler: bool = False, fake_nodes: int | None = None
) -> Iterator[ControlPlane]:
    """Run a control plane.

    Args:
        controllers: whether kube-controller-manager runs too.
        scheduler: whether kube-scheduler does, with its default settings.
        fake_nodes: how many nodes kwok plays; without a number it does not run.
    """
    programs = ["etcd", "kube-apiserver"]
    programs += ["kube-controller-manager"] if controllers else []
    programs += ["kube-scheduler"] if scheduler else []
    programs += [] if fake_nodes is None else ["kwok"]
    for program in ["pki", *programs]:
        assets.path(program)
    with ExitStack() as held:
        folder = Path(tempfile.mkdtemp(prefix="pkgctl-kubernetes-"))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        plane = ControlPlane(folder, _free_ports(held), controllers=controllers)
        held.callback(plane.close)
        plane.start("etcd")
        plane.start_api()
        for program in programs[2:]:
            plane.start(program)
        if controllers:
            accounts = "/api/v1/namespaces/default/serviceaccounts/default"
            plane.wait_for(lambda: plane.api("GET", accounts), "the default account")
        if fake_nodes:
            plane.fake_nodes(fake_nodes)
        yield plane


def _free_ports(held: ExitStack) -> tuple[int, int, int]:
    """Return ports that are free, and that no other control plane of ours takes meanwhile."""
    locks = Path(tempfile.gettempdir()) / "pkgctl-kubernetes-ports"
    locks.mkdir(exist_ok=True)
    found: list[int] = []
    while len(found) < 3:
        port = random.SystemRandom().choice(_PORTS)
        lock = held.enter_context((locks / str(port)).open("w"))
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_free(port):
                found.append(port)
    return found[0], found[1], found[2]


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    """Whatever becomes of the test, its programs do not outlive it."""
    _libc.prctl(1, signal.SIGKILL)
    os.setsid()


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions: Sequence[Mapping[str, str]] = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _fake_node(name: str, cpu: str, memory: str) -> dict[str, Any]:
    room = {"cpu": cpu, "memory": memory, "pods": "110"}
    return {
        "metadata": {
            "name": name,
            "annotations": {FAKE: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
        },
        "status": {"allocatable": room, "capacity": room},
    }
