# SPDX-License-Identifier: GPL-3.0-or-later
"""From a pod as the API has it to where in its life the job is; pure.

The API's own times have whole seconds. So a step is stamped when the watch tells of it, and what
the API says of it is kept beside that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pkgctl.cluster import quantities
from pkgctl.cluster.podbodies import CACHED, FETCH, FETCHED, MAIN, TOKEN
from pkgctl.cluster.pods import ANNOTATION
from pkgctl.scheduling.backend import JobState

# No waiting helps against these.
_FATAL = ("ErrImageNeverPull", "InvalidImageName")
_ORDINARY = ("ContainerCreating", "PodInitializing")
_KILLED_BY_MEMORY = "OOMKilled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What matters of a job's pod.

    Attributes:
        job, token: which job it is, and which of its pods.
        uid, node, address: of the pod.
        phase: Pending, Running, Succeeded or Failed.
        artifact: what its node has to have first, by name.
        fetching: whether it does not have that yet.
        cached: whether its artifact was on the node already.
        fetched: the seconds that it took to have it there, once it is.
        started: whether its program was started.
        ready: whether Kubernetes says that it is ready.
        trouble: what went wrong, in words.
        fatal: whether that is for good.
        leaving: whether it is being deleted.
        disrupted: why Kubernetes took it from its node, if it did.
        cpu, memory: what it may use.
        restarts: how often its program was started again.
        times: the API's own, by what happened.
    """

    job: str
    token: str
    uid: str
    node: str = ""
    address: str = ""
    phase: str = "Pending"
    artifact: str = ""
    fetching: bool = False
    cached: bool = False
    fetched: float | None = None
    started: bool = False
    ready: bool = False
    trouble: str = ""
    fatal: bool = False
    leaving: bool = False
    disrupted: str = ""
    cpu: float | None = None
    memory: int | None = None
    restarts: int = 0
    times: tuple[tuple[str, str], ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether its program will not run again."""
        return self.fatal or self.phase in ("Succeeded", "Failed")


def read(raw: Mapping[str, Any]) -> Facts | None:
    """Return what matters of a pod; None if it is no job's."""
    meta, status = raw["metadata"], raw.get("status") or {}
    known = meta.get("annotations") or {}
    if TOKEN not in known:
        return None
    main = _state_of(status, "containerStatuses", MAIN)
    fetch = _state_of(status, "initContainerStatuses", FETCH)
    fetched = _ended(fetch)
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    how, took = _fetched(fetched)
    trouble, fatal = _trouble(status, main, fetch, conditions)
    cpu, memory = _given(raw["spec"], main)
    return Facts(
        job=known.get(f"{ANNOTATION}job", meta["name"]),
        token=known[TOKEN],
        uid=meta["uid"],
        node=raw["spec"].get("nodeName") or "",
        address=status.get("podIP") or "",
        phase=status.get("phase") or "Pending",
        artifact=known.get(f"{ANNOTATION}artifact", ""),
        fetching=bool(raw["spec"].get("initContainers")) and fetched.get("exitCode") != 0,
        cached=how == CACHED,
        fetched=took,
        started=bool(_running(main) or _ended(main)),
        ready=_holds(conditions, "Ready"),
        trouble=trouble,
        fatal=fatal,
        leaving=bool(meta.get("deletionTimestamp")),
        disrupted=_disruption(conditions),
        cpu=cpu,
        memory=memory,
        restarts=main.get("restartCount") or 0,
        times=tuple(_times(meta, conditions, main, fetched)),
    )


def advance(
    before: JobState, facts: Facts | None, now: float, *, stopping: bool, delegated: bool
) -> JobState:
    """Return where a job is, now that this is known of its pod.

    Args:
        before: where it was.
        facts: of its pod; None if there is no pod any more.
        now: when that came.
        stopping: whether we told it to end.
        delegated: whether Kubernetes decides where it runs.
    """
    if before.has_ended:
        return before
    if facts is None:
        return _gone(before, now, stopping=stopping)
    stamps = dict(before.stamps)
    for step in _reached(facts, delegated=delegated):
        stamps.setdefault(step, now)
    if facts.fetched is not None and "artifact" in stamps:
        # Kubernetes tells of it by whole seconds only; who fetched it knows how long that took.
        begun = max(stamps["bound"], stamps["artifact"] - facts.fetched)
        stamps.setdefault("fetching", begun)
    labels = {**before.labels, "restarts": facts.restarts, "api": dict(facts.times)}
    if facts.address:
        labels["host"] = facts.address
    moved = replace(
        before,
        node=facts.node or before.node,
        status=_status(facts),
        cached=facts.cached,
        cpu=facts.cpu,
        memory=facts.memory,
        stamps=stamps,
        labels=labels,
        error=facts.trouble or None,
    )
    if facts.has_ended:
        return _ended_by_itself(moved, facts, now, stopping=stopping)
    if (facts.leaving or facts.disrupted) and not stopping:
        return lose(moved, f"Kubernetes took it away: {facts.disrupted or 'deleted'}", now)
    return moved


def lose(before: JobState, error: str, now: float) -> JobState:
    """Return a job that is lost, for no fault of its own."""
    return _end(before, "failed", now, error=error, lost=True)


def refuse(before: JobState, error: str, now: float) -> JobState:
    """Return a job whose pod could not be made, or be bound."""
    return _end(before, "failed", now, error=error)


def _gone(before: JobState, now: float, *, stopping: bool) -> JobState:
    if stopping:
        return _end(before, "stopped", now)
    return lose(before, "Kubernetes took it away: deleted", now)


def _ended_by_itself(job: JobState, facts: Facts, now: float, *, stopping: bool) -> JobState:
    if stopping:
        return _end(job, "stopped", now)
    if facts.phase == "Succeeded" and not facts.fatal:
        return _end(job, "finished", now)
    error = facts.trouble or facts.disrupted or "it failed"
    return _end(job, "failed", now, error=error, lost=bool(facts.disrupted))


def _end(
    job: JobState, status: str, now: float, *, error: str | None = None, lost: bool = False
) -> JobState:
    stamps = {**job.stamps, "finished": job.stamps.get("finished", now)}
    return replace(job, status=status, stamps=stamps, error=error, lost=lost)


def _fetched(ended: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return whether an artifact was fetched or cached, and how long it took to have it."""
    how, _, took = (ended.get("message") or "").strip().partition(" ")
    if ended.get("exitCode") != 0 or how not in (CACHED, FETCHED):
        return "", None
    return how, float(took or 0.0)


def _reached(facts: Facts, *, delegated: bool) -> Iterator[str]:
    if not facts.node:
        return
    if delegated:
        yield "decided"
    yield "bound"
    if facts.fetching:
        return
    yield "artifact"
    if facts.started:
        yield "started"
    if facts.ready:
        yield "ready"


def _status(facts: Facts) -> str:
    if facts.ready:
        return "running"
    return "pulling" if facts.fetching and facts.node else "starting"


def _state_of(status: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    return next((each for each in status.get(kind) or () if each["name"] == name), {})


def _running(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("state") or {}).get("running") or {}


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("state") or {}).get("terminated") or {}


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("state") or {}).get("waiting") or {}


def _holds(conditions: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return (conditions.get(name) or {}).get("status") == "True"


def _disruption(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    if not _holds(conditions, "DisruptionTarget"):
        return ""
    return str(conditions["DisruptionTarget"].get("reason") or "disrupted")


def _trouble(
    status: Mapping[str, Any],
    main: Mapping[str, Any],
    fetch: Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]],
) -> tuple[str, bool]:
    """Return what keeps a pod from running, in words, and whether it does so for good."""
    for container in (fetch, main):
        waits = _waiting(container)
        if waits.get("reason") and waits["reason"] not in _ORDINARY:
            return _words(waits), waits["reason"] in _FATAL
        if words := _complaint(_ended(container)):
            return words, False
    placed = conditions.get("PodScheduled") or {}
    if placed.get("status") == "False":
        return _words(placed), False
    return (_words(status), False) if status.get("reason") else ("", False)


def _words(each: Mapping[str, Any]) -> str:
    return ": ".join(str(each[key]) for key in ("reason", "message") if each.get(key))


def _complaint(ended: Mapping[str, Any]) -> str:
    """Return why a container failed, in words; nothing if it did not."""
    if ended.get("reason") == _KILLED_BY_MEMORY:
        return f"it ran out of memory ({_KILLED_BY_MEMORY})"
    code = ended.get("exitCode") or 0
    if code == 0:
        return ""
    lines = (ended.get("message") or "").strip().splitlines()
    return lines[-1] if lines else f"it ended with exit code {code}"


def _given(spec: Mapping[str, Any], main: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Return what a pod may use: what its node says, else what was asked for."""
    asked = spec["containers"][0].get("resources") or {}
    limits = (main.get("resources") or asked).get("limits") or {}
    cpu, memory = limits.get("cpu"), limits.get("memory")
    return (
        None if cpu is None else quantities.millicores(str(cpu)) / 1000,
        None if memory is None else quantities.whole(str(memory)),
    )


def _times(
    meta: Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]],
    main: Mapping[str, Any],
    fetched: Mapping[str, Any],
) -> Iterator[tuple[str, str]]:
    found = {
        "created": meta.get("creationTimestamp"),
        "bound": _since(conditions, "PodScheduled"),
        "artifact": fetched.get("finishedAt"),
        "started": (_running(main) or _ended(main)).get("startedAt"),
        "ready": _since(conditions, "Ready"),
        "finished": _ended(main).get("finishedAt"),
    }
    yield from ((step, str(when)) for step, when in found.items() if when)


def _since(conditions: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    return conditions[name].get("lastTransitionTime") if _holds(conditions, name) else None
