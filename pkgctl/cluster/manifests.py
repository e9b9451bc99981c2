# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scheduler needs of a cluster, as data: a namespace, an account, and its few rights."""

from __future__ import annotations

from typing import Any

from pkgctl.cluster import podbodies
from pkgctl.cluster.scheduler import NAMESPACE, lease_name

_RBAC = "rbac.authorization.k8s.io"
_LABELS = {"app.kubernetes.io/managed-by": "pkgctl"}


def scheduler_manifests(name: str = "pkgctl", namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """Return the objects, in the order in which they can be made.

    Args:
        name: the ``schedulerName`` of its pods.
        namespace: where its account and its lease are.
    """
    account = lease_name(name)
    return [
        _object("v1", "Namespace", namespace),
        _object("v1", "ServiceAccount", account, namespace),
        _object(f"{_RBAC}/v1", "ClusterRole", account, rules=_cluster_rules()),
        _binding("ClusterRole", account, namespace),
        _object(f"{_RBAC}/v1", "Role", account, namespace, rules=_lease_rules(account)),
        _binding("Role", account, namespace),
    ]


def experiment_manifests(testbed: str) -> list[dict[str, Any]]:
    """Return what experiments on a testbed need of a cluster, in an order to make it.

    Whoever they are run by may read nodes and pods, and all else in their own namespace only.
    """
    space, account = podbodies.namespace(testbed), podbodies.OURS
    reader = f"{account}-{testbed}"
    watching = [_rule("", ["nodes", "pods"], ["get", "list", "watch"])]
    looking = {**_rule("", ["namespaces"], ["get"]), "resourceNames": [space]}
    return [
        podbodies.namespace_body(testbed, temporary=False),
        _object("v1", "ServiceAccount", account, space),
        _object(f"{_RBAC}/v1", "ClusterRole", reader, rules=[*watching, looking]),
        _binding("ClusterRole", reader, space, account),
        _object(f"{_RBAC}/v1", "Role", account, space, rules=_experiment_rules()),
        _binding("Role", account, space),
    ]


def _experiment_rules() -> list[dict[str, Any]]:
    return [
        _rule("", ["pods", "configmaps"], ["create", "delete", "deletecollection"]),
        _rule("", ["pods/binding", "pods/eviction"], ["create"]),
        _rule("", ["pods/resize"], ["patch"]),
        _rule("", ["pods/log"], ["get"]),
        _rule("events.k8s.io", ["events"], ["create"]),
    ]


def _cluster_rules() -> list[dict[str, Any]]:
    return [
        _rule("", ["nodes", "pods"], ["get", "list", "watch"]),
        _rule("", ["pods/binding", "pods/eviction"], ["create"]),
        _rule("events.k8s.io", ["events"], ["create"]),
    ]


def _lease_rules(name: str) -> list[dict[str, Any]]:
    leases = "coordination.k8s.io"
    return [
        # A right to create cannot be bound to a name.
        _rule(leases, ["leases"], ["create"]),
        {**_rule(leases, ["leases"], ["get", "update"]), "resourceNames": [name]},
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _object(version: str, kind: str, name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    meta = {"name": name, **place, "labels": dict(_LABELS)}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def _binding(role: str, name: str, namespace: str, account: str = "") -> dict[str, Any]:
    return _object(
        f"{_RBAC}/v1",
        f"{role}Binding",
        name,
        "" if role == "ClusterRole" else namespace,
        roleRef={"apiGroup": _RBAC, "kind": role, "name": name},
        subjects=[
            {"kind": "ServiceAccount", "name": account or name, "namespace": namespace},
        ],
    )
