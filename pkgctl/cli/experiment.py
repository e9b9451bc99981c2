# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl experiment``, ``report`` and ``compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pkgctl.cli.text import as_json, output_option

if TYPE_CHECKING:
    from pkgctl.experiment.lab import Cluster, Maker
    from pkgctl.experiment.runner import Ending, Options
    from pkgctl.local.paths import Paths
    from pkgctl.spec import Experiment

RESULTS = Path("results")
INTERRUPTED = 130
EXISTING = "existing"
FOLDER = click.Path(path_type=Path)


@click.command(short_help="Run a whole experiment and write its report.")
@click.argument("name", metavar="NAME")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key.")
@click.option("--repeats", type=click.IntRange(1), help="The same as --set repeats=N.")
@click.option("--results", type=FOLDER, default=RESULTS, show_default=True, help="Where to.")
@click.option("--dry-run", is_flag=True, help="Only show the plan and how long it takes.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="latest",
    metavar="[RUN]",
    help="Go on with a run (the latest by default): only what is missing.",
)
@click.option(
    "--keep", is_flag=True, help="Leave the testbed, or the namespace, that was made for this."
)
@click.option(
    "--force",
    is_flag=True,
    help="Run on a testbed that is in use or not as asked; resume with other inputs.",
)
@click.option("--name", "testbed", metavar="TESTBED", help="The testbed to run on, or to make.")
@click.option(
    "--provider",
    type=click.Choice(["local", "libvirt", "existing"]),
    help="What a testbed's nodes are made of that is not up; or one that is up, and is a "
    "Kubernetes cluster as well.  [default: local]",
)
@click.option("--host", "hosts", multiple=True, metavar="URI", help="A libvirt host for them.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With existing: the way to the cluster; else the one that was installed on the testbed.",
)
@click.option("--context", "cluster_context", metavar="NAME", help="Which context of that file.")
@click.option("--image", metavar="NAME", help="With existing: the image that pods are made of.")
@output_option
@click.pass_context
def experiment(
    context: click.Context,
    name: str,
    settings: tuple[str, ...],
    repeats: int | None,
    results: Path,
    dry_run: bool,
    resume: str | None,
    keep: bool,
    force: bool,
    testbed: str | None,
    provider: str | None,
    hosts: tuple[str, ...],
    kubeconfig: Path | None,
    cluster_context: str | None,
    image: str | None,
    output: str,
) -> None:
    """Run the experiment NAME: a file, or one that comes with pkgctl.

    \b
    Examples:
      pkgctl experiment scaling.yaml
      pkgctl experiment scaling --repeats 1 --set factors.replicas=[1,2]
      pkgctl experiment trace.yaml --set trace=requests.csv
      pkgctl experiment scaling --resume
      pkgctl experiment scaling --provider libvirt --name lab
      pkgctl experiment node_loss --provider existing --name lab
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl import spec
    from pkgctl.experiment import demand
    from pkgctl.experiment.runner import Options

    if repeats is not None:
        settings = (*settings, f"repeats={repeats}")
    found = spec.load(name, settings)
    demand.check(found, on_kubernetes=provider == EXISTING)
    place, maker = _testbed(testbed, provider, hosts)
    cluster = _cluster(place, provider, kubeconfig, cluster_context, image)
    run = _find(results, found.head.name, resume)
    command = " ".join(["pkgctl", *sys.argv[1:]])
    options = Options(results, place, maker, cluster, keep, force, run, command)
    plan = _plan(found, options)
    if dry_run:
        click.echo(as_json(plan) if output == "json" else "\n".join(plan["outline"]))
        return
    ending = _perform(found, options, plan, quiet=output == "json")
    _conclude(ending, output, context)


def _testbed(
    name: str | None, provider: str | None, hosts: tuple[str, ...]
) -> tuple[Paths, Maker | None]:
    """Return the places of the testbed, and what makes it if it has to be made of machines."""
    from pkgctl.remote import places

    if provider in (None, EXISTING):
        if hosts:
            raise click.UsageError("--host has no effect here; it needs --provider libvirt")
        return places.find(name), None
    places.refuse_taken(name, provider)
    if provider == "local":
        return places.find(name), None
    from pkgctl import infra
    from pkgctl.remote import wish

    place = places.places(name)
    return place, infra.Making(place, wish.hosts(hosts), lambda line: click.echo(line, err=True))


def _cluster(
    place: Paths,
    provider: str | None,
    kubeconfig: Path | None,
    context: str | None,
    image: str | None,
) -> Cluster | None:
    """Return the cluster that runs the jobs, if the testbed is one."""
    if provider != EXISTING:
        if kubeconfig or context or image:
            raise click.UsageError(
                "--kubeconfig, --context and --image are about a cluster; add --provider existing"
            )
        return None
    from pkgctl.cluster.existing import Existing

    return Existing(place, kubeconfig, context, image)


def _find(results: Path, name: str, resume: str | None) -> Path | None:
    """Return the run to go on with, if any."""
    from pkgctl.experiment import resume as resuming

    return resuming.find(results, name, resume) if resume else None


def _plan(found: Experiment, options: Options) -> dict[str, Any]:
    from pkgctl.experiment import plan, resume, runner

    todo = plan.runs(found)
    if options.resume is not None:
        record = resume.read(options.resume)
        if not options.force:
            resume.check(record, found, options.resume)
        todo = resume.missing(resume.merge(record, found), todo)
    return {
        "name": found.head.name,
        "runs": [
            {"cell": run.cell.id, "repeat": run.repeat, "seed": run.seed, "folder": run.folder}
            for run in todo
        ],
        "seconds": round(plan.estimate(found, todo)),
        "outline": runner.outline(found, todo),
    }


def _perform(found: Experiment, options: Options, plan: dict[str, Any], *, quiet: bool) -> Ending:
    from pkgctl.experiment import runner
    from pkgctl.experiment.progress import Progress

    progress = Progress(None if quiet else sys.stderr)
    for line in plan["outline"]:
        progress.say(line)
    return runner.perform(found, options, progress)


def _conclude(ending: Ending, output: str, context: click.Context) -> None:
    """Write the report, say what came out, and end with the code that fits."""
    from pkgctl import report

    page = report.build(ending.path)
    if output == "json":
        facts = {"run": str(ending.path), "status": ending.status, "report": str(page)}
        click.echo(as_json({**facts, "bad_links": ending.bad_links}))
    else:
        click.echo(report.summary_text(ending.path))
    if ending.status == "interrupted":
        click.echo(f"interrupted; go on with --resume {ending.path}", err=True)
        context.exit(INTERRUPTED)
    if ending.status == "failed":
        context.exit(1)


@click.command(epilog="Example: pkgctl report results/scaling-20260101-120000")
@click.argument("run", type=FOLDER)
@output_option
def report(run: Path, output: str) -> None:
    """Write the report of a RUN again, from what was measured."""
    from pkgctl import report as reports

    page = reports.build(run)
    click.echo(as_json({"report": str(page)}) if output == "json" else reports.summary_text(run))


@click.command(epilog="Example: pkgctl compare results/scaling-1 results/scaling-2")
@click.argument("first", type=FOLDER)
@click.argument("second", type=FOLDER)
def compare(first: Path, second: Path) -> None:
    """Say how the run SECOND differs from the run FIRST, cell by cell."""
    from pkgctl import report as reports

    click.echo(reports.compare(first, second))
