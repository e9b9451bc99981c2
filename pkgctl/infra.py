# SPDX-License-Identifier: GPL-3.0-or-later
"""The only door to Pulumi: a testbed of virtual machines brought up by its program, and taken down.

The program is the one that `pulumi up` runs in the project's folder. Here its state is in files of
the testbed's own folder, so no account and no network is needed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkgctl import image, topology
from pkgctl.errors import PkgctlError, TestbedError
from pkgctl.local.holding import Outcome
from pkgctl.local.state import read_state
from pkgctl.nodeside import watchman
from pkgctl.remote import leftovers, needs, politely, ssh, stack, sweeping
from pkgctl.remote import wish as wishes
from pkgctl.remote.places import Places
from pkgctl.remote.progress import Progress, Say, thing
from pkgctl.remote.wish import Wish

if TYPE_CHECKING:
    from pulumi import automation

    from pkgctl.topology import Topology

    Output = Callable[[str], None] | None

_HIDDEN = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_ACCESS_TOKEN", "PULUMI_STACK")
_HINT = "`pkgctl up` again goes on, `pkgctl down` removes it"
ALLOWING = "--set replace_disks=true"
# How resources of the plugin are called here and by virsh.
_KINDS = {
    "libvirt:index/domain:Domain": "domain",
    "libvirt:index/network:Network": "network",
    "libvirt:index/pool:Pool": "pool",
    "libvirt:index/volume:Volume": "volume",
}


def up(wish: Wish, places: Places, say: Say, warn: Say, *, dry_run: bool = False) -> Outcome:
    """Bring a testbed to what is asked for, changing only what differs.

    Args:
        wish: what is asked for.
        places: where the testbed's things go.
        say: is told each line as it comes.
        warn: is told each warning.
        dry_run: only say what would change.

    Raises:
        MissingCapability: if this machine lacks something; nothing was made then.
        TestbedError: if something could not be made; what was made stays, to go on or to remove.
        KeyboardInterrupt: if the user ended it.
    """
    settings = stack.read(wish.settings(places.name, stack.settings(places)))
    hosts = wishes.uris(settings)
    needs.check(hosts, str(settings.get("image", "")))
    settings.setdefault("image", image.find("").fingerprint)
    started = time.monotonic()
    is_new = not places.run.is_dir()
    with stack.held(places), _left_as_it_was(places, is_new) if dry_run else nullcontext():
        stack.prepare(places)
        stack.write_settings(places, settings)
        stack.note_hosts(places, hosts)
        driven = Driven(places)
        with Progress(say, warn) as progress:
            if dry_run:
                driven.preview(progress)
            else:
                with _advised(warn):
                    _recover(driven, progress, say)
                    driven.up(progress)
    seconds = time.monotonic() - started
    return Outcome(bool(progress.lines), progress.lines, progress.warnings, seconds)


@contextmanager
def _advised(warn: Say) -> Iterator[None]:
    """Say how to go on, should the user end it."""
    try:
        yield
    except KeyboardInterrupt:
        warn(f"ended before it was done; {_HINT}")
        raise


@contextmanager
def _left_as_it_was(places: Places, is_new: bool) -> Iterator[None]:
    """Take back what a look ahead notes: the settings that were only tried."""
    before = stack.settings(places)
    try:
        yield
    finally:
        if is_new:
            _remove_folder(places)
        elif before:
            stack.write_settings(places, before)


def _remove_folder(places: Places) -> None:
    shutil.rmtree(places.run)
    with suppress(OSError):
        places.run.parent.rmdir()


def down(places: Places, say: Say, warn: Say, *, hosts: Sequence[str] = ()) -> Outcome:
    """Remove a testbed and all that it left, however its making ended.

    Args:
        places: where the testbed's things are.
        say: is told each line as it comes.
        warn: is told each warning.
        hosts: further hosts on which something of its name may be.

    Raises:
        TestbedError: if something would not go.
    """
    if not places.run.is_dir() and not hosts:
        return Outcome(False)
    was_there = places.run.is_dir()
    started = time.monotonic()
    with stack.held(places):
        lines, warnings = _destroy(places, say, warn)
        lines += _sweep(places, dict.fromkeys([*stack.noted_hosts(places), *hosts]), say)
        _hang_up(places)
        watchman.dismiss(places.run)
        _remove_folder(places)
    return Outcome(was_there or bool(lines), lines, warnings, time.monotonic() - started)


def _destroy(places: Places, say: Say, warn: Say) -> tuple[list[str], list[str]]:
    """Let the program's own stack remove what it made; return what went, and the warnings."""
    if not places.backend.is_dir() or not places.program.is_dir():
        return [], []
    needs.check([], image=None)
    with Progress(say, warn) as progress:
        try:
            leftovers.clear(places)
            driven = Driven(places)
            driven.unprotect()
            try:
                driven.destroy(progress)
            except TestbedError:
                # What somebody else removed meanwhile cannot be removed; a look at the world helps.
                progress.errors.clear()
                driven.destroy(progress, refresh=True)
            driven.forget()
        except TestbedError as error:
            progress.warnings.append(f"{error}; what is left is removed by its name")
            warn(progress.warnings[-1])
    return progress.lines, progress.warnings


def _sweep(places: Places, hosts: Iterable[str], say: Say) -> list[str]:
    """Remove from all hosts what has the testbed's name; return what went.

    Raises:
        TestbedError: if a host does not answer, or refuses.
    """
    lines, failures = [], []
    for uri in hosts:
        try:
            lines += sweeping.remove(uri, places.name)
        except TestbedError as error:
            failures.append(str(error))
    for line in lines:
        say(line)
    if failures:
        raise TestbedError(
            f"{'; '.join(failures)}; what testbed {places.name!r} has there is not removed: let"
            f" the host answer and run this again (what is known of it is in {places.run})"
        )
    return lines


def _hang_up(places: Places) -> None:
    with suppress(PkgctlError):
        for there in ssh.targets(read_state(places)):
            ssh.hang_up(there)


def _recover(driven: Driven, progress: Progress, say: Say) -> None:
    """Bring the stack's state to what the world is, after changes by hand or a killed `up`.

    What was made and never noted is removed, for it would be in the way of making it again.
    """
    was_cut_short = leftovers.clear(driven.places) or driven.has_pending()
    if driven.is_empty() and not was_cut_short:
        return
    for line in driven.refresh(progress):
        say(f"found: {line}")
    if was_cut_short:
        say("found: an earlier up was cut short; going on with it")
        keep = driven.things()
        for uri in stack.noted_hosts(driven.places):
            for line in sweeping.remove(uri, driven.places.name, keep):
                say(line)


class Making:
    """A testbed for the time of one experiment: made by the program, and taken down."""

    def __init__(self, places: Places, hosts: Sequence[wishes.Host], say: Say) -> None:
        """Make the testbed of some places on libvirt hosts, and say each line as it comes."""
        self._places = places
        self._hosts = hosts
        self._say = say

    def bring(self, asked: Topology) -> Outcome:
        """Bring the testbed to a topology.

        Raises:
            MissingCapability, TestbedError: if it cannot be had.
        """
        run = self._places.run
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = run / "topology.yaml"
        path.write_text(topology.dumps(asked), encoding="utf-8")
        return up(Wish(str(path), self._hosts), self._places, self._say, self._say)

    def remove(self) -> None:
        """Take the testbed down."""
        down(self._places, self._say, self._say)


class Driven:
    """A testbed's stack, driven by Pulumi's Automation API."""

    def __init__(self, places: Places) -> None:
        """Choose the stack, and make it if it is not there yet.

        Raises:
            TestbedError: if Pulumi refuses.
        """
        from pulumi import automation

        self.places = places
        self._errors = (automation.CommandError, automation.InvalidVersionError)
        with self._told(None):
            self._command = _command()
            self._stack = automation.create_or_select_stack(
                stack_name=places.name,
                work_dir=str(places.program),
                opts=automation.LocalWorkspaceOptions(
                    env_vars=stack.environment(places),
                    pulumi_command=self._command,
                ),
            )

    def up(self, progress: Progress) -> None:
        """Make what is asked for.

        Raises:
            TestbedError: in the words of the first resource that failed.
        """
        with self._told(progress, _HINT):
            self._stack.up(on_event=progress.event, color="never", show_secrets=False)

    def preview(self, progress: Progress) -> None:
        """Say what would be made."""
        with self._told(progress):
            self._stack.preview(on_event=progress.event, color="never")

    def refresh(self, progress: Progress) -> list[str]:
        """Note what the world is like; return what is gone or does not run."""
        seen = _Seen()
        with self._told(progress):
            self._stack.refresh(
                on_event=seen.event, color="never", show_secrets=False, clear_pending_creates=True
            )
        return seen.lines

    def destroy(self, progress: Progress, *, refresh: bool = False) -> None:
        """Remove all that the stack knows."""
        with self._told(progress):
            self._stack.destroy(
                on_event=progress.event,
                color="never",
                show_secrets=False,
                continue_on_error=True,
                refresh=refresh,
            )

    def unprotect(self) -> None:
        """Let go what is protected from being replaced, for all of it is to go."""
        if any(each.get("protect") for each in self._resources()):
            self._run("state", "unprotect", "--all", "--yes")

    def forget(self) -> None:
        """Remove the stack itself, which is empty."""
        with self._told(None):
            self._stack.workspace.remove_stack(self.places.name)

    def has_pending(self) -> bool:
        """Return whether something was begun and never ended."""
        return bool(self._deployment().get("pending_operations"))

    def is_empty(self) -> bool:
        """Return whether the stack holds nothing."""
        return not self._resources()

    def things(self) -> set[sweeping.Thing]:
        """Return what the stack knows of libvirt's things: what each is, and its name there."""
        return set(_things(self._resources()))

    def _resources(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self._deployment().get("resources") or []
        return found

    def _deployment(self) -> Mapping[str, Any]:
        with self._told(None):
            return self._stack.export_stack().deployment or {}

    def _run(self, *words: str) -> None:
        with self._told(None):
            self._command.run(
                [*words, "--stack", self.places.name],
                str(self.places.program),
                stack.environment(self.places),
            )

    @contextmanager
    def _told(self, progress: Progress | None, hint: str = "") -> Iterator[None]:
        """Turn Pulumi's failures into one line: the words of what failed first."""
        try:
            yield
        except self._errors as error:
            reasons = progress.errors if progress is not None else []
            reason = reasons[0] if reasons else _last_words(error)
            more = f" (and {len(reasons) - 1} more failures)" if len(reasons) > 1 else ""
            ending = f"; {hint}" if hint else ""
            reason = reason.replace("pulumi config set replace_disks true", ALLOWING)
            raise TestbedError(f"{reason}{more}{ending}") from error


def _things(resources: list[Mapping[str, Any]]) -> Iterator[sweeping.Thing]:
    for each in resources:
        kind, outputs = _KINDS.get(each.get("type", "")), each.get("outputs") or {}
        if kind == "volume":
            yield kind, f"{outputs.get('pool')}/{outputs.get('name')}"
        elif kind is not None:
            yield kind, str(outputs.get("name"))


class _Seen:
    """Hears what a look at the world finds: what is gone, and what does not run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, event: Any) -> None:
        """Take one of the engine's events."""
        if event.res_outputs_event is None:
            return
        step = event.res_outputs_event.metadata
        if step.type not in _KINDS:
            return
        if getattr(step.op, "value", step.op) == "delete":
            self.lines.append(f"{thing(step.urn)} is gone")
        elif "running" in (step.detailed_diff or {}):
            self.lines.append(f"{thing(step.urn)} does not run")


def _last_words(error: Exception) -> str:
    """Return the last line of what Pulumi wrote to stderr; that is where it says why it stopped."""
    _, _, text = str(error).rpartition("stderr: ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "pulumi failed and did not say why"


def _command() -> automation.PulumiCommand:
    """Return Pulumi's command, run so that an interruption reaches it as one, and once."""
    from pulumi import automation

    class Polite(automation.PulumiCommand):
        """Runs Pulumi in a session of its own, and passes on what ends this process."""

        def run(
            self,
            args: list[str],
            cwd: str,
            additional_env: Mapping[str, str],
            on_output: Output = None,
            on_error: Output = None,
        ) -> automation.CommandResult:
            """Run a Pulumi command and return its result.

            Raises:
                CommandError: if it failed.
                KeyboardInterrupt: if it was interrupted, after it has ended.
            """
            words = [self.command, "--non-interactive", *args]
            done = politely.run(words, cwd, _environment(additional_env), on_output)
            result = automation.CommandResult(done.stdout, done.stderr, done.returncode)
            if result.code:
                raise automation.errors.create_command_error(result)
            return result

    found = needs.which("pulumi")
    home = Path(found).parent.parent if found and Path(found).parent.name == "bin" else None
    return Polite(root=str(home) if home else None, skip_version_check=True)


def _environment(additional: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    found = {**kept, **additional, "PULUMI_AUTOMATION_API": "true"}
    if command := needs.which("pulumi"):
        # Its own plugins are beside it.
        found["PATH"] = os.pathsep.join([str(Path(command).parent), found.get("PATH", os.defpath)])
    return found
