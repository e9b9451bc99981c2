# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment sends to the API, as data: its namespace, its owner, its jobs as pods; pure.

Every pod is owned by one object of the experiment, so that all of them go with it. What a pod asks
for is also its limit, so that Kubernetes guarantees it, as the nodes' own agent does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pkgctl.cluster import quantities
from pkgctl.cluster.pods import ANNOTATION
from pkgctl.scheduling.job import Artifact, Job
from pkgctl.scheduling.resources import Resources

LABEL = "pkgctl.dev/"
MANAGED = ("app.kubernetes.io/managed-by", "pkgctl")
# Nobody else's: a `pkgctl cluster scheduler` may run in the same cluster.
OURS, KUBERNETES = "pkgctl-experiment", "default-scheduler"
PORT = 8000
MAIN, FETCH = "main", "fetch"
TOKEN = f"{ANNOTATION}token"
TEMPORARY = f"{LABEL}temporary"
CACHE = "/var/cache/pkgctl"
GRACE_SECONDS = 2
CACHED = "cached"
FETCHED = "fetched"
MODULES = ("fcntl", "os", "sys", "time")  # that the text below imports
# An artifact that another pod is fetching is waited for, and one that is there is not fetched.
_FETCH = f"""\
import fcntl, os, sys, time
began = time.monotonic()
path = sys.argv[2]
lock = os.open(os.path.dirname(path) + "/." + os.path.basename(path), os.O_CREAT | os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
how, code = "{CACHED}", 0
if not os.path.exists(path):
    python = "{{python}}"
    how = "{FETCHED}"
    code = os.spawnv(os.P_WAIT, python, [python, "-S", "-E", "{{fetch}}", *sys.argv[1:]])
if code == 0:
    with open("/dev/termination-log", "w") as said:
        said.write(f"{{how}} {{time.monotonic() - began:.3f}}")
sys.exit(abs(code))
"""
# Leaves those files of a folder whose names are given.
_CLEAN = """cd "$0" 2>/dev/null || exit 0
for file in * .[!.]*; do
  for kept in "$@"; do [ "$file" = "$kept" ] && continue 2; done
  rm -f -- "$file"
done"""
_LONGEST = 63
_UNFIT = re.compile(r"[^a-z0-9-]+")
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Runtime:
    """What containers are made of.

    Attributes:
        image: its name on the nodes, or in a registry.
        python: the interpreter in it.
        programs: the folder of our programs in it.
        pull: Never where the image was put on the nodes, else IfNotPresent.
    """

    image: str
    python: str
    programs: str
    pull: str = "Never"

    def command(self, name: str) -> list[str]:
        """Return the command that runs one of our programs."""
        return [self.python, "-S", "-E", f"{self.programs}/{name}.py"]

    def fetch(self, artifact: Artifact, url: str) -> list[str]:
        """Return the command that has an artifact in the node's cache."""
        text = _FETCH.replace("{python}", self.python)
        text = text.replace("{fetch}", f"{self.programs}/fetch.py")
        path = f"{CACHE}/{artifact.name}"
        return [self.python, "-S", "-E", "-c", text, url, path, str(artifact.bytes)]


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that an experiment's pods go with.

    Attributes:
        testbed: on which they run.
        name, uid: of the object.
    """

    testbed: str
    name: str
    uid: str = ""

    @property
    def namespace(self) -> str:
        """Where all of it is."""
        return namespace(self.testbed)


def namespace(testbed: str) -> str:
    """Return the namespace of a testbed's experiments."""
    return f"pkgctl-{testbed}"


def pod_name(job: str) -> str:
    """Return a job's name as Kubernetes takes it; names that differ stay different."""
    fit = _UNFIT.sub("-", job.lower()).strip("-")
    if fit == job and len(fit) <= _LONGEST:
        return fit
    mark = hashlib.sha256(job.encode()).hexdigest()[:8]
    return f"{fit[: _LONGEST - 9].strip('-')}-{mark}".lstrip("-")


def selector(testbed: str) -> str:
    """Return what picks out whatever experiments on a testbed made."""
    return f"{MANAGED[0]}={MANAGED[1]},{LABEL}testbed={testbed}"


def namespace_body(testbed: str, *, temporary: bool) -> Body:
    """Return the namespace; its pods use a folder of their nodes.

    Args:
        testbed: whose.
        temporary: whether it goes with the experiment that made it.
    """
    labels = {
        **_labels(testbed),
        TEMPORARY: "true" if temporary else "false",
        "pod-security.kubernetes.io/enforce": "privileged",
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace(testbed), "labels": labels},
    }


def owner_body(owner: Owner) -> Body:
    """Return the object that owns all pods of an experiment."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": owner.name, "labels": _labels(owner.testbed)},
        "data": {"about": "owns the pods of an experiment; they go with it"},
    }


def pod(
    job: Job,
    owner: Owner,
    token: str,
    runtime: Runtime,
    program: tuple[str, Sequence[str]],
    *,
    service: str,
    scheduler: str,
    source: str | None = None,
) -> Body:
    """Return a job as a pod.

    Args:
        job: the job.
        owner: with what it goes.
        token: what tells this pod from any other of its name, ever.
        runtime: of what its containers are made.
        program: which of our programs it runs, and with which options.
        service: the service or queue to which it belongs.
        scheduler: who finds a node for it.
        source: where its artifact comes from, if it has one.
    """
    name, options = program
    resources = _resources(job.resources)
    main: Body = {
        "name": MAIN,
        "image": runtime.image,
        "imagePullPolicy": runtime.pull,
        "command": [*runtime.command(name), *options],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _security(),
        # Neither needs the container to be started again.
        "resizePolicy": [
            {"resourceName": each, "restartPolicy": "NotRequired"} for each in ("cpu", "memory")
        ],
        **resources,
    }
    if job.work is None:
        main |= {"ports": [{"containerPort": PORT}], "readinessProbe": _probe()}
    spec: Body = {
        "schedulerName": scheduler,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [main],
    }
    if job.artifact is not None and source is not None:
        spec |= _fetching(runtime, job.artifact, source, resources)
    if scheduler == KUBERNETES and job.nodes is not None:
        spec["affinity"] = _only_on(job.nodes)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job.id),
            "labels": {
                **_labels(owner.testbed),
                f"{LABEL}service": pod_name(service),
                f"{LABEL}job": pod_name(job.id),
                f"{LABEL}run": owner.name,
            },
            "annotations": {f"{ANNOTATION}job": job.id, TOKEN: token, **_artifact(job)},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name, "uid": owner.uid}
            ],
        },
        "spec": spec,
    }


def binding(name: str, uid: str, node: str) -> Body:
    """Return what puts this very pod on a node."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def eviction(name: str, space: str) -> Body:
    """Return what asks for a pod to leave, as far as budgets of disruptions allow it."""
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": space},
    }


def deletion(grace: float) -> Body:
    """Return how a pod is deleted."""
    return {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": round(grace)}


def resize(resources: Resources) -> Body:
    """Return a pod's change of resources; an amount of zero stays as it is."""
    return {"spec": {"containers": [{"name": MAIN, **_resources(resources)}]}}


def _artifact(job: Job) -> dict[str, str]:
    return {f"{ANNOTATION}artifact": job.artifact.name} if job.artifact else {}


def clean(keep: Iterable[str]) -> list[str]:
    """Return the command that deletes what pods have fetched on a node, but what is to stay."""
    return ["/bin/sh", "-c", _CLEAN, CACHE, *sorted(keep)]


def _labels(testbed: str) -> dict[str, str]:
    return {MANAGED[0]: MANAGED[1], f"{LABEL}testbed": testbed}


def _resources(asked: Resources) -> Body:
    amounts = {}
    if asked.cpu:
        amounts["cpu"] = quantities.show_millicores(asked.millicores)
    if asked.memory:
        amounts["memory"] = quantities.show_bytes(asked.memory)
    return {"resources": {"requests": amounts, "limits": amounts}} if amounts else {}


def _security() -> Body:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _probe() -> Body:
    """Return what asks whether a replica listens; a busy one does, whatever else it is at."""
    return {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "timeoutSeconds": 1}


def _fetching(runtime: Runtime, artifact: Artifact, source: str, resources: Body) -> Body:
    container = {
        "name": FETCH,
        "image": runtime.image,
        "imagePullPolicy": runtime.pull,
        "command": runtime.fetch(artifact, source),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _security(),
        "volumeMounts": [{"name": "artifacts", "mountPath": CACHE}],
        **resources,
    }
    folder = {"path": CACHE, "type": "DirectoryOrCreate"}
    return {"initContainers": [container], "volumes": [{"name": "artifacts", "hostPath": folder}]}


def _only_on(nodes: Iterable[str]) -> Body:
    """Return the wish for some nodes, by their names."""
    field = {"key": "metadata.name", "operator": "In"}
    # The API takes a single name for each match of a field.
    terms = [{"matchFields": [{**field, "values": [name]}]} for name in sorted(nodes)]
    needed = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": needed}}
