# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that the roles make of local nodes, for tests, and where their releases come from.

Those are of the stand-in for K3s, unless PKGCTL_K3S_BUNDLE names bundles of K3s itself: folders
that `pkgctl cluster bundle` made, the oldest first, with a colon between them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pkgctl import playbook
from pkgctl.local import paths
from pkgctl.nodeside import channel
from tests import controlgroups
from tests.waiting import soon

from . import assets, images
from .standin import pack

VARIABLE = "PKGCTL_K3S_BUNDLE"
# The releases of the stand-in, the oldest first.
VERSIONS = (pack.VERSION, "v1.34.4+k3s2", "v1.34.4+k3s3")
LOCK = "bundle.lock.json"
DATA = "/run/pkgctl/disks/k3s/data"
_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}}}
spec:
  nodeName: {node}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: pkgctl.test/busy:1
    imagePullPolicy: Never
    command: [/busy, {words}]
    resources: {{limits: {{cpu: {cpu}, memory: {memory}}}}}
"""
# All that K3s or a container could have left on a node.
LEFT = r"""
ls -d /etc/rancher /var/lib/rancher /var/lib/kubelet /var/lib/cni /run/k3s /run/flannel \
  /var/log/pods /var/log/containers \
  /run/pkgctl/disks/k3s /usr/local/bin/k3s /run/netns/cni-* 2>/dev/null
ip -o link show | grep -E 'cni0|flannel|veth' || true
grep -E 'k3s|kubelet|netns/cni|/proc/sys/' /proc/self/mounts || true
nft list ruleset | grep -E 'KUBE-|CNI-|FLANNEL' || true
"""


def pod(node: str, *words: str, cpu: str = "50m", memory: str = "16Mi") -> str:
    """Return the manifest of a node's pod, which serves, or runs other words of its program."""
    shown = ", ".join(json.dumps(word) for word in words or ("serve", "80"))
    return _POD.format(node=node, words=shown, cpu=cpu, memory=memory)


class Releases:
    """Bundles of releases that follow one another, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take those that the environment names, else those of the stand-in."""
        self._folder = folder
        self._given = [Path(each) for each in os.environ.get(VARIABLE, "").split(":") if each]

    def bundle(self, number: int = 0) -> Path:
        """Return the bundle of a release, 0 being the oldest."""
        if not self._given:
            return self._locked(VERSIONS[number])
        if number >= len(self._given):
            pytest.skip(f"needs {number + 1} releases, and {VARIABLE} names {len(self._given)}")
        return self._with_busy(self._given[number])

    def version(self, number: int = 0) -> str:
        """Return which version that is."""
        return str(json.loads((self.bundle(number) / LOCK).read_text())["version"])

    def _locked(self, version: str) -> Path:
        """Return the bundle that `pkgctl cluster bundle` makes of files at hand."""
        target = self._folder / version
        if not target.exists():
            words = ["cluster", "bundle", version, "--from", str(pack.cached(version))]
            done = pkgctl(*words, "--to", str(target))
            assert done.returncode == 0, done.stderr
        return target

    def _with_busy(self, bundle: Path) -> Path:
        """Return a copy of a bundle that has the image of the tests' pods too."""
        lock = json.loads((bundle / LOCK).read_text())
        target = self._folder / f"given-{lock['version']}"
        if not target.exists():
            part = shutil.copytree(bundle, target.with_suffix(".part"))
            archive = part / "amd64" / "busy.tar"
            images.write(archive, [images.busy()])
            content = archive.read_bytes()
            entry = {"arch": "amd64", "kind": "images", "file": "amd64/busy.tar", "source": ""}
            sums = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            lock["files"].append({**entry, **sums})
            (part / LOCK).write_text(json.dumps(lock))
            part.rename(target)
        return target


class Lab:
    """A local testbed, and what is done with its cluster."""

    def __init__(self, name: str, folder: Path, within: Sequence[str] = ()) -> None:
        """Know its name, a folder for bundles, and words before each command."""
        self.name, self.within = name, within
        self.place = paths.paths(name)
        self.releases = Releases(folder)

    def pkgctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Return how a command on this testbed ended."""
        return pkgctl(*words, testbed=self.name, within=self.within)

    def said(self, *words: str) -> str:
        """Return what a command says, which must succeed."""
        done = self.pkgctl(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def cluster(self, command: str, number: int = 0, *words: str):
        """Return how an installation or an upgrade to a release ended."""
        bundle = self.releases.bundle(number)
        return self.pkgctl("cluster", command, "--bundle", str(bundle), *words)

    def changed(self, command: str, number: int = 0, *words: str) -> str:
        """Return what an installation or an upgrade, which must succeed, says of its changes."""
        done = self.cluster(command, number, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def differences(self, number: int = 0) -> list[str]:
        """Return what an installation over the one that is there finds to change.

        A service that has ended by itself is no difference: on a busy machine servers lose their
        lease, end, and are started again by whoever comes first.
        """
        given = {"airgap_dir": str(self.releases.bundle(number))}
        played = playbook.play("k3s/site.yml", given, testbed=self.name)
        changed = [each for each in played.events if each["result"].get("changed")]
        told = [(each, each["result"].get("actions", ["?"])) for each in changed]
        return [
            f"{each['host']}: {each['task']}: {acts}"
            for each, acts in told
            if not all(act.startswith("start ") for act in acts)
        ]

    def on(self, node: str, script: str) -> str:
        """Return what a script on a node prints; it must succeed."""
        done = self.pkgctl("exec", node, "--", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def groups_of_pods(self) -> list[str]:
        """Return the control groups of pods of all nodes, in every hierarchy."""
        return [
            each for each in controlgroups.below(self.place.cgroup) if each.endswith("/kubepods")
        ]

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Return what kubectl prints, by the kubeconfig that pkgctl gives; it must succeed."""
        done = self.attempt(*words, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempt(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Return how kubectl ended."""
        config = self.said("cluster", "kubeconfig", "--path")
        return subprocess.run(
            [*self.within, assets.path("kubectl"), f"--kubeconfig={config}", *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the nodes as `pkgctl cluster status` shows them, by name."""
        found = json.loads(self.said("cluster", "status", "-o", "json"))
        return {each["node"]: each for each in found["nodes"]}

    def ready(self) -> set[str]:
        """Return the names of the nodes that are ready."""
        return {name for name, each in self.nodes().items() if each["ready"] == "yes"}

    def start_pods(self, *nodes: str) -> None:
        """Have a pod on each of some nodes, and wait until they run."""
        for node in nodes:
            self.kubectl("apply", "-f", "-", given=pod(node))
        wait = ("wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
        assert soon(lambda: self.kubectl(*wait))

    def pods(self) -> dict[str, tuple[str, str, int, str]]:
        """Return each pod's address, and its container's id, restarts and start."""
        found = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        shown = {}
        for pod in found:
            container = pod["status"]["containerStatuses"][0]
            shown[pod["metadata"]["name"]] = (
                pod["status"].get("podIP", ""),
                container["containerID"],
                container["restartCount"],
                container["state"]["running"]["startedAt"],
            )
        return shown

    def started(self) -> dict[str, int]:
        """Return the process of K3s on each node."""
        units = channel.call(self.place.agent / "agent.sock", "unit-list")["units"]
        return {each["node"]: each["pid"] for each in units if each["name"].startswith("k3s")}


def pkgctl(
    *words: str, testbed: str = "", within: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Return how a command ended."""
    return subprocess.run(
        command(*words, within=within),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=environment(testbed),
    )


def command(*words: str, within: Sequence[str] = ()) -> list[str]:
    """Return the words by which a command is started."""
    return [*within, sys.executable, "-m", "pkgctl", *words]


def environment(testbed: str) -> dict[str, str]:
    """Return the environment of a command, in which no kubeconfig of the user's own is named."""
    return {**os.environ, "PKGCTL_TESTBED": testbed, "KUBECONFIG": "/nowhere"}


def settings() -> list[str]:
    """Return what a kubelet would set for the whole machine."""
    names = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
    return [Path("/proc/sys", name).read_text() for name in names]
