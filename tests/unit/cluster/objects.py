# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes and pods as the API has them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def raw_node(
    name: str = "n",
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    ready: bool = True,
    taints: Sequence[dict[str, str]] = (),
    labels: dict[str, str] | None = None,
    unschedulable: bool = False,
    **extra: str,
) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": memory, "pods": pods}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {"taints": list(taints), "unschedulable": unschedulable},
        "status": {
            "capacity": amounts,
            "allocatable": {**amounts, **extra},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True" if ready else "Unknown"},
            ],
        },
    }


def container(cpu: str = "", memory: str = "", name: str = "main", **more: Any) -> dict[str, Any]:
    asked = {"cpu": cpu, "memory": memory}
    requests = {key: text for key, text in asked.items() if text}
    return {"name": name, "image": "app:1", "resources": {"requests": requests}, **more}


def raw_pod(
    name: str = "p",
    *containers: dict[str, Any],
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "annotations": annotations or {},
            **(meta or {}),
        },
        "spec": {"containers": list(containers) or [container("100m", "64Mi")], **spec},
        "status": status or {},
    }
