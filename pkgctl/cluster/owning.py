# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace of a testbed's experiments, and the object with which all of one's pods go."""

from __future__ import annotations

import time
import uuid
from http import HTTPStatus
from typing import Any

from pkgctl.cluster import podbodies
from pkgctl.cluster.client import ANSWER_SECONDS, Api
from pkgctl.cluster.podbodies import Owner
from pkgctl.errors import ClusterError, Refused

FORGET_SECONDS = 5.0
LEAVE_SECONDS = 60.0
_PAUSE = 0.5


def settle(api: Api, testbed: str) -> Owner:
    """Have a namespace with an owner in it, and nothing of an experiment that was killed.

    Raises:
        ClusterError: if the API does not answer, or refuses that.
    """
    space = _path(testbed)
    if _left(api, space) is None:
        api.post("/api/v1/namespaces", podbodies.namespace_body(testbed, temporary=True))
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


def leave(api: Api, testbed: str) -> None:
    """Delete the namespace, with all that is in it, if it was made by an experiment.

    Raises:
        ClusterError: if the API does not answer, or refuses that.
    """
    found = _namespace(api, _path(testbed), FORGET_SECONDS)
    labels = found["metadata"].get("labels") or {} if found else {}
    if labels.get(podbodies.TEMPORARY) == "true":
        api.delete(_path(testbed), within=FORGET_SECONDS)


def _path(testbed: str) -> str:
    return f"/api/v1/namespaces/{podbodies.namespace(testbed)}"


def _left(api: Api, space: str) -> Any:
    """Return the namespace, once it is not on its way out any more; None if there is none."""
    end = time.monotonic() + LEAVE_SECONDS
    while (found := _namespace(api, space)) and found["metadata"].get("deletionTimestamp"):
        if time.monotonic() > end:
            name = found["metadata"]["name"]
            raise ClusterError(f"the namespace {name} of an earlier experiment does not go")
        time.sleep(_PAUSE)
    return found


def _namespace(api: Api, space: str, within: float = ANSWER_SECONDS) -> Any:
    try:
        return api.get(space, within=within)
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
