# SPDX-License-Identifier: GPL-3.0-or-later
"""The only door to Ansible: play a playbook of the project and say what it changed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pkgctl import project
from pkgctl.errors import PlayError
from pkgctl.nodeside import records

Runner = Callable[..., Any]
_FAILED = ("runner_on_failed", "runner_on_unreachable", "runner_item_on_failed")
# What a play is told, and what it writes on the controller, goes with the play.
_FOLDER, _VARIABLES = "pkgctl-play-", "variables.json"
_GUARD = Path(__file__).with_name("playguard.py")


@dataclass(frozen=True)
class Play:
    """What a playbook did.

    Attributes:
        stats: for each host how many tasks were ok, changed, failed, skipped, unreachable.
        failures: for each host that failed, its own words.
        events: what happened on which host, in order: event, host, task, created, result.
    """

    playbook: str
    stats: Mapping[str, Mapping[str, int]]
    failures: Mapping[str, str]
    events: Sequence[Mapping[str, Any]]

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        return sum(counts.get("changed", 0) for counts in self.stats.values())


def play(
    playbook: str,
    variables: Mapping[str, Any],
    *,
    testbed: str,
    artifacts: Path | None = None,
    limit: str | None = None,
    check: bool = False,
    strict: bool = True,
    told: Callable[[str], None] | None = None,
    runner: Runner | None = None,
) -> Play:
    """Play ``ansible/<playbook>`` on a testbed.

    If this process is killed meanwhile, the play and all that it has started end too.

    Args:
        playbook: its file name.
        variables: extra variables; values of None are left out.
        testbed: the testbed whose nodes are the hosts.
        artifacts: where Ansible's own record of the play is kept; None keeps none.
        limit: only these hosts.
        check: only say what would change.
        strict: take a failure for an error; else it is told in the value.
        told: hears the name of each task when it begins.
        runner: what runs a playbook, as ``ansible_runner.run`` does.

    Raises:
        PlayError: if it failed on some host, with each host's own words.
    """
    with _private_folder(testbed) as scratch:
        folder = artifacts or scratch
        folder.mkdir(parents=True, exist_ok=True)
        options = _options(folder, scratch, playbook, variables, testbed)
        options["ident"] = _ident(folder, playbook)
        if limit:
            options["limit"] = limit
        if check:
            options["cmdline"] = "--check --diff"
        if told is not None:
            options["event_handler"] = _teller(told)
        found = _read(playbook, (runner or _guarded(scratch))(**options))
        # It holds the environment of whoever asked for the play, whatever that is.
        (folder / "artifacts" / options["ident"] / "command").unlink(missing_ok=True)
    if found.failures and strict:
        raise PlayError(playbook, found.failures)
    return found


def _teller(told: Callable[[str], None]) -> Callable[[Mapping[str, Any]], bool]:
    """Return what hears events from the runner, and keeps all of them."""

    def hear(event: Mapping[str, Any]) -> bool:
        if event["event"] == "playbook_on_task_start":
            told(str(event.get("event_data", {}).get("name", "")))
        return True

    return hear


def _guarded(scratch: Path) -> Runner:
    """Return what runs a playbook in such a way that it does not outlive this process."""

    def run(**options: Any) -> Any:
        import ansible_runner

        heard = {key: options.pop(key, None) for key in ("event_handler", "cancel_callback")}
        config = ansible_runner.RunnerConfig(**options)
        config.prepare()
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(scratch)]
        config.command = [*guard, *config.command]
        found = ansible_runner.Runner(config, **heard)
        found.run()
        return found

    return run


@contextlib.contextmanager
def _private_folder(testbed: str) -> Iterator[Path]:
    """Give a folder that nobody else may read, and that is gone afterwards."""
    place = _home(testbed)
    for left in place.glob(f"{_FOLDER}*") if place else ():
        if not _is_in_use(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{_FOLDER}{os.getpid()}-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _home(testbed: str) -> Path | None:
    """Return the testbed's own folder, with which all in it goes; None if there is none."""
    found = records.places(testbed, os.environ, Path.home())
    return next((each.parent for each in found if os.access(each.parent, os.W_OK)), None)


def _is_in_use(folder: Path) -> bool:
    """Return whether the process is there that made a folder for its play."""
    pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
    return not pid.isdigit() or Path("/proc", pid).exists()


def _ident(folder: Path, playbook: str) -> str:
    """Return the name of the play's own folder: base-1, perturb-2, in the order of the plays."""
    before = folder / "artifacts"
    number = 1 + (len(list(before.iterdir())) if before.is_dir() else 0)
    return f"{Path(playbook).stem}-{number}"


def _options(
    folder: Path, scratch: Path, playbook: str, variables: Mapping[str, Any], testbed: str
) -> dict[str, Any]:
    ansible = project.ansible()
    # In a file, for everybody sees the words of a command line.
    told = scratch / _VARIABLES
    told.write_text(json.dumps({key: each for key, each in variables.items() if each is not None}))
    return {
        "private_data_dir": str(folder),
        "project_dir": str(ansible),
        "playbook": playbook,
        "inventory": str(project.inventories() / "testbed.yml"),
        "extravars": str(told),
        "envvars": {**_environment(ansible, testbed), "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp")},
        "quiet": True,
        # Without one, the runner would put signal handlers of its own in the place of ours.
        "cancel_callback": lambda: False,
        "suppress_env_files": True,
        "settings": {"suppress_ansible_output": True, "runner_mode": "subprocess"},
    }


def _environment(ansible: Path, testbed: str) -> dict[str, str]:
    """Return what Ansible is told by its environment: whose nodes, and which programs to use."""
    return {
        "ANSIBLE_CONFIG": str(ansible / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PKGCTL_TESTBED": testbed,
        "PATH": os.pathsep.join([str(_tools()), os.environ.get("PATH", os.defpath)]),
    }


def _tools() -> Path:
    """Return the folder of ansible-playbook, which is installed beside this interpreter."""
    return Path(sys.executable).parent


def _read(playbook: str, result: Any) -> Play:
    """Return the runner's result as our own value."""
    events = [dict(event) for event in result.events]
    stats = _stats(events)
    failures = _failures(events, stats)
    if not failures and (result.rc or result.status != "successful"):
        failures = {"ansible": _last_words(result) or f"status {result.status}"}
    return Play(playbook, stats, failures, tuple(map(_event, events)))


def _stats(events: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return for each host its counts, from the last event of the play."""
    ends = (event["event_data"] for event in events if event["event"] == "playbook_on_stats")
    data: Mapping[str, Any] = next(ends, {})
    kinds = {"ok": "ok", "changed": "changed", "failures": "failed", "dark": "unreachable"}
    hosts = {host for kind in kinds for host in data.get(kind, {})}
    return {
        host: {name: data.get(kind, {}).get(host, 0) for kind, name in kinds.items()}
        for host in sorted(hosts)
    }


def _failures(
    events: Sequence[Mapping[str, Any]], stats: Mapping[str, Mapping[str, int]]
) -> dict[str, str]:
    """Return the first words of each host that failed, which the end of the play tells."""
    failures: dict[str, str] = {}
    for event in events:
        data = event.get("event_data", {})
        host = data.get("host", "?")
        # A task may not mind that an item fails, or that somebody is not reached.
        counts = stats.get(host, {})
        has_failed = not stats or counts.get("failed") or counts.get("unreachable")
        if event["event"] in _FAILED and has_failed and not data.get("ignore_errors"):
            failures.setdefault(host, _words(data))
    return failures


def _words(data: Mapping[str, Any]) -> str:
    """Return what a host said of its failure, in one line."""
    result = data.get("res", {})
    text = result.get("msg") or result.get("stderr") or result.get("module_stderr") or "failed"
    return " ".join(str(text).split())


def _last_words(result: Any) -> str:
    """Return the last line that Ansible itself printed, which is where it says why it stopped."""
    lines = [line.strip() for line in result.stdout.read().splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "[ERROR]"))]
    return str((errors or lines or [""])[-1])


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event.get("event_data", {})
    return {
        "event": event["event"],
        "created": event.get("created"),
        "host": data.get("host"),
        "task": data.get("task"),
        "result": data.get("res", {}),
    }
