# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace of a testbed's experiments: made, waited for, left."""

from __future__ import annotations

from typing import Any

import pytest

from pkgctl.cluster import owning, podbodies
from pkgctl.errors import ClusterError, Refused

SPACE = "/api/v1/namespaces/pkgctl-lab"


class Fake:
    """An API with one namespace at most, which takes a few looks to go."""

    def __init__(self, there: dict[str, Any] | None = None, looks: int = 0) -> None:
        self.there, self.looks = there, looks
        self.asked: list[str] = []

    def get(self, path: str, *, within: float = 0) -> Any:
        self.asked.append(f"GET {path}")
        if self.there and self.there["metadata"].get("deletionTimestamp"):
            self.looks -= 1
            self.there = self.there if self.looks >= 0 else None
        if self.there is None:
            raise Refused("not found", status=404)
        return self.there

    def post(self, path: str, body: Any) -> Any:
        self.asked.append(f"POST {path}")
        if path == "/api/v1/namespaces":
            self.there = body
        return {"metadata": {"uid": "u"}}

    def delete(self, path: str, body: Any = None, **query: Any) -> None:
        self.asked.append(f"DELETE {path}")


def space(*, temporary: bool, **meta: Any) -> dict[str, Any]:
    body = podbodies.namespace_body("lab", temporary=temporary)
    body["metadata"] |= meta
    return body


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(owning, "_PAUSE", 0.0)


def test_a_namespace_is_made_where_there_is_none_and_goes_with_the_experiment():
    api = Fake()

    owner = owning.settle(api, "lab")
    owning.leave(api, "lab")

    assert (owner.namespace, owner.uid) == ("pkgctl-lab", "u")
    assert api.asked[:2] == [f"GET {SPACE}", "POST /api/v1/namespaces"]
    assert api.asked[-1] == f"DELETE {SPACE}"


def test_a_namespace_that_somebody_else_made_stays():
    api = Fake(space(temporary=False))

    owning.settle(api, "lab")
    owning.leave(api, "lab")

    assert "POST /api/v1/namespaces" not in api.asked
    assert f"DELETE {SPACE}" not in api.asked


def test_no_namespace_is_left_where_there_is_none():
    api = Fake()

    owning.leave(api, "lab")

    assert api.asked == [f"GET {SPACE}"]


def test_one_that_is_on_its_way_out_is_waited_for():
    api = Fake(space(temporary=True, deletionTimestamp="now"), looks=3)

    owning.settle(api, "lab")

    assert api.asked[:5] == [f"GET {SPACE}"] * 4 + ["POST /api/v1/namespaces"]


def test_one_that_does_not_go_is_named(monkeypatch):
    monkeypatch.setattr(owning, "LEAVE_SECONDS", -1.0)
    api = Fake(space(temporary=True, deletionTimestamp="now"), looks=9)

    with pytest.raises(ClusterError, match="namespace pkgctl-lab of an earlier experiment"):
        owning.settle(api, "lab")


def test_what_is_refused_is_told():
    class Refusing(Fake):
        def get(self, path: str, *, within: float = 0) -> Any:
            raise Refused("no right", status=403)

    with pytest.raises(Refused, match="no right"):
        owning.leave(Refusing(), "lab")
