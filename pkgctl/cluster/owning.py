# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace of a testbed's experiments, and the object with which all of one's pods go."""

from __future__ import annotations

import uuid
from http import HTTPStatus

from pkgctl.cluster import podbodies
from pkgctl.cluster.client import Api
from pkgctl.cluster.podbodies import Owner
from pkgctl.errors import Refused

FORGET_SECONDS = 5.0


def settle(api: Api, testbed: str) -> Owner:
    """Have a namespace with an owner in it, and nothing of an experiment that was killed.

    Raises:
        ClusterError: if the API does not answer, or refuses that.
    """
    space = f"/api/v1/namespaces/{podbodies.namespace(testbed)}"
    try:
        api.get(space)
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        api.post("/api/v1/namespaces", podbodies.namespace_body(testbed))
    chosen = podbodies.selector(testbed)
    for kind in ("pods", "configmaps"):
        api.delete(f"{space}/{kind}", podbodies.deletion(0), labelSelector=chosen)
    owner = Owner(testbed, f"experiment-{uuid.uuid4().hex[:8]}")
    made = api.post(f"{space}/configmaps", podbodies.owner_body(owner))
    return Owner(testbed, owner.name, made["metadata"]["uid"])


def forget(api: Api, owner: Owner) -> None:
    """Delete an owner; what it owns goes soon after it."""
    path = f"/api/v1/namespaces/{owner.namespace}/configmaps/{owner.name}"
    api.delete(path, {"propagationPolicy": "Background"}, within=FORGET_SECONDS)
