# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl job``: run, list, logs, scale, resize and rm."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pkgctl.cli.text import as_json, output_option, table

if TYPE_CHECKING:
    from pkgctl.jobs import Started
    from pkgctl.local.backend import LocalBackend
    from pkgctl.scheduling.backend import JobState

Command = TypeVar("Command", bound=Callable[..., Any])
WAIT_SECONDS = 60.0


@click.group(epilog="Example: pkgctl job run web --service --replicas 3 --wait")
def job() -> None:
    """Run, list, resize and remove jobs on the nodes of a testbed."""


def _common(command: Command) -> Command:
    option = click.option("--name", "testbed", metavar="TESTBED", help="Which testbed.")
    return output_option(option(command))


@job.command(
    "run",
    epilog="Example: pkgctl job run web --service --replicas 3 --cpu 100m --on site=edge-a --wait",
)
@click.argument("name")
@click.option("--service", "kind", flag_value="service", help="It answers requests until removed.")
@click.option("--batch", "kind", flag_value="batch", help="It works and ends.")
@click.option(
    "--replicas", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many."
)
@click.option("--cpu", default="100m", show_default=True, help="Cores for each.")
@click.option("--memory", default="48Mi", show_default=True, help="Memory for each.")
@click.option("--artifact", default="0", help="What a node has to fetch first, such as 2Mi.")
@click.option("--cpu-seconds", type=float, help="Batch: how much it computes.  [default: 1]")
@click.option("--in", "bytes_in", default="0", help="Batch: input, fetched from --from.")
@click.option("--out", "bytes_out", default="0", help="Batch: output, sent to --from.")
@click.option("--from", "source", metavar="NODE", help="Where its users, or its data, are.")
@click.option("--scheduler", default="least-allocated", show_default=True, help="Who decides.")
@click.option("--on", multiple=True, metavar="KEY=VALUE", help="node, site, role, kind, label.")
@click.option("--wait", is_flag=True, help="Until services are ready and batch jobs have ended.")
@click.option("--timeout", default="60s", show_default=True, help="How long to wait.")
@click.option("--dry-run", is_flag=True, help="Only say what would be started.")
@_common
def run(
    name: str,
    kind: str | None,
    on: tuple[str, ...],
    wait: bool,
    timeout: str,
    dry_run: bool,
    testbed: str | None,
    output: str,
    **words: Any,
) -> None:
    """Run NAME as a service or a batch job; a scheduler decides where."""
    from pkgctl import jobs

    wish = _wish(name, kind, on, words)
    seconds = _read("--timeout", timeout)
    if dry_run:
        click.echo(as_json(vars(wish)) if output == "json" else f"would start {wish}")
        return
    with _backend(testbed) as backend:
        started = jobs.run(backend, wish)
        if wait:
            jobs.wait(backend, started.jobs, seconds)
        _show_started(backend, started, output)


def _wish(name: str, kind: str | None, on: Sequence[str], words: dict[str, Any]) -> Any:
    from pkgctl import jobs
    from pkgctl.errors import SpecError
    from pkgctl.spec.fields import job_label

    if kind is None:
        raise SpecError("say what it is: --service or --batch")
    seconds = words.pop("cpu_seconds")
    if kind == "service" and seconds is not None:
        raise SpecError("--cpu-seconds belongs to --batch; a service computes per request")
    try:
        job_label(name)
    except ValueError as error:
        raise SpecError(str(error)) from error
    sizes: dict[str, Any] = {
        key: int(_read(f"--{key}", words.pop(key))) for key in ("memory", "artifact")
    }
    moved: dict[str, Any] = {
        f"bytes_{way}": int(_read(f"--{way}", words.pop(f"bytes_{way}"))) for way in ("in", "out")
    }
    return jobs.Wish(
        name,
        work=None if kind == "service" else 1.0 if seconds is None else seconds,
        cpu=_read("--cpu", words.pop("cpu")),
        on=_choice(on),
        **sizes,
        **moved,
        **words,
    )


def _read(option: str, text: str | None) -> Any:
    """Return the number that an option's text means; None stays None."""
    from pkgctl.errors import SpecError
    from pkgctl.nodeside import units

    readers = {"--cpu": units.cpu, "--timeout": units.duration}
    try:
        return None if text is None else readers.get(option, units.size)(text)
    except ValueError as error:
        raise SpecError(f"{option}: {error}") from error


def _choice(texts: Sequence[str]) -> dict[str, str] | None:
    from pkgctl.errors import SpecError

    choice: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise SpecError(f"--on {text!r} is no choice; write one such as site=edge-a")
        choice[key] = value
    return choice or None


@job.command("list", epilog="Example: pkgctl job list -o json")
@_common
def list_(testbed: str | None, output: str) -> None:
    """List the jobs, with what each step of their start took."""
    with _backend(testbed) as backend:
        _show(list(backend.jobs.values()), output)


@job.command(epilog="Example: pkgctl job logs web-0")
@click.argument("id")
@click.option("--name", "testbed", metavar="TESTBED", help="Which testbed.")
def logs(id: str, testbed: str | None) -> None:
    """Print what the job ID has printed."""
    from pkgctl import jobs

    with _backend(testbed) as backend:
        jobs.find(backend, id)
        click.echo(backend.output(id), nl=False)


@job.command(epilog="Example: pkgctl job scale web 5 --wait")
@click.argument("service")
@click.argument("replicas", type=click.IntRange(0, 1000))
@click.option("--wait", is_flag=True, help="Until the new replicas are ready.")
@_common
def scale(service: str, replicas: int, wait: bool, testbed: str | None, output: str) -> None:
    """Bring SERVICE to a number of REPLICAS."""
    from pkgctl import jobs

    with _backend(testbed) as backend:
        started = jobs.scale(backend, service, replicas)
        if wait:
            jobs.wait(backend, started.jobs, WAIT_SECONDS)
        _show_started(backend, started, output)


@job.command(epilog="Example: pkgctl job resize web-0 --cpu 0.5")
@click.argument("id")
@click.option("--cpu", help="Cores.")
@click.option("--memory", help="Memory.")
@_common
def resize(id: str, cpu: str | None, memory: str | None, testbed: str | None, output: str) -> None:
    """Let the job ID go on with other resources, without a restart."""
    from pkgctl import jobs
    from pkgctl.errors import SpecError

    if cpu is None and memory is None:
        raise SpecError("nothing to change; give --cpu or --memory")
    with _backend(testbed) as backend:
        found = jobs.resize(backend, id, _read("--cpu", cpu), _read("--memory", memory))
        _show([found], output)


@job.command(epilog="Example: pkgctl job rm web")
@click.argument("names", nargs=-1, required=True)
@_common
def rm(names: tuple[str, ...], testbed: str | None, output: str) -> None:
    """Stop and forget jobs, or all replicas of services."""
    from pkgctl import jobs

    with _backend(testbed) as backend:
        removed = jobs.remove(backend, names)
    click.echo(as_json(removed) if output == "json" else f"removed {', '.join(removed)}")


@contextlib.contextmanager
def _backend(testbed: str | None) -> Iterator[LocalBackend]:
    from pkgctl.local.backend import LocalBackend
    from pkgctl.remote import places

    with contextlib.closing(LocalBackend(places.find(testbed))) as backend:
        yield backend


def _show_started(backend: LocalBackend, started: Started, output: str) -> None:
    from pkgctl.errors import TestbedError

    _show([backend.jobs[name] for name in started.jobs], output)
    if started.refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in started.refused.items())
        raise TestbedError(f"no place for {reasons}")


def _show(found: Sequence[JobState], output: str) -> None:
    from pkgctl import jobs

    if output == "json":
        click.echo(as_json([_facts(each) for each in found]))
    elif found:
        header = ("ID", "NODE", "STATUS", "CPU", "MEMORY", *map(str.upper, jobs.STEPS[1:]))
        click.echo(table(header, [_row(each) for each in found]))


def _facts(found: JobState) -> dict[str, Any]:
    from pkgctl import jobs

    facts = {key: getattr(found, key) for key in found.__slots__}
    return {**facts, "overheads": jobs.overheads(found)}


def _row(found: JobState) -> list[object]:
    """Return a line of the table: what a job is, and how long each step took."""
    from pkgctl import jobs
    from pkgctl.nodeside import units

    took = jobs.overheads(found)
    return [
        found.id,
        found.node,
        found.status,
        units.show_cpu(found.cpu) if found.cpu else "-",
        units.show_size(found.memory) if found.memory else "-",
        *(f"{took[step] * 1e3:.0f} ms" if step in took else "-" for step in jobs.STEPS[1:]),
    ]
