# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl cluster``: Kubernetes on the nodes, and our scheduler for its pods."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import click

from pkgctl.cli.cluster_bundle import bundle
from pkgctl.cli.cluster_nodes import install, kubeconfig, reset, status, upgrade

kubeconfig_option = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="How to reach the cluster; else $KUBECONFIG, else ~/.kube/config.",
)
context_option = click.option(
    "--context", metavar="NAME", help="Which context of that file; else its current one."
)
name_option = click.option(
    "--name",
    default="pkgctl",
    show_default=True,
    help="The schedulerName of the pods that are to be scheduled.",
)
namespace_option = click.option(
    "--namespace", default="pkgctl", show_default=True, help="Where the scheduler's lease is."
)


@click.group(short_help="Have Kubernetes on the nodes, and schedule its pods.")
def cluster() -> None:
    """Have Kubernetes on the nodes, and schedule its pods.

    Example: pkgctl cluster install --bundle bundle/v1.34.4+k3s1
    """


for _command in (bundle, install, status, kubeconfig, upgrade, reset):
    cluster.add_command(_command)


@cluster.command("scheduler")
@kubeconfig_option
@context_option
@click.option(
    "--policy",
    default="least-allocated",
    show_default=True,
    help="Who decides: a scheduler as experiments name it, or package.module:Class.",
)
@name_option
@namespace_option
@click.option("--seed", type=int, help="Of what is drawn by chance; else another each time.")
def run_scheduler(
    kubeconfig: Path | None,
    context: str | None,
    policy: str,
    name: str,
    namespace: str,
    seed: int | None,
) -> None:
    """Find nodes for the pods that name this scheduler, until stopped.

    Of several that run at once one works, and another takes over when it is gone. What the
    scheduler needs of a cluster is printed by: pkgctl cluster manifests

    Example: pkgctl cluster scheduler --kubeconfig admin.conf --policy most-allocated
    """
    from pkgctl.cluster.client import connect
    from pkgctl.cluster.scheduler import Options, PodScheduler

    def say(text: str) -> None:
        click.echo(text, err=True)

    options = Options(name=name, policy=policy, namespace=namespace, seed=seed, has_fuse=True)
    api = connect(kubeconfig, context, agent="pkgctl-scheduler")
    scheduler = PodScheduler(api, options, say)

    _at_signal(scheduler.stop)
    scheduler.run()
    say(f"stopped; {scheduler.bound} pods were bound")


def _at_signal(stop: Callable[[], None]) -> None:
    """Call ``stop`` at Ctrl-C or SIGTERM, in a thread of its own; the second ends the program."""
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # for threads that are started from here too

    def wait() -> None:
        signal.sigwait(ending)
        stop()
        os._exit(128 + signal.sigwait(ending))

    threading.Thread(target=wait, name="signals", daemon=True).start()


@cluster.command("manifests")
@name_option
@namespace_option
@click.option(
    "--experiments", "testbed", metavar="TESTBED", help="What experiments on it need instead."
)
def print_manifests(name: str, namespace: str, testbed: str | None) -> None:
    """Print what the scheduler needs of a cluster, as YAML for kubectl.

    A namespace, a service account, and the rights that it needs, no others.

    Example: pkgctl cluster manifests | kubectl apply -f -
    """
    import yaml

    from pkgctl.cluster.manifests import experiment_manifests, scheduler_manifests
    from pkgctl.local import paths

    if testbed is not None:
        found = experiment_manifests(paths.paths(testbed).name)
    else:
        found = scheduler_manifests(name, namespace)
    click.echo(yaml.safe_dump_all(found, sort_keys=False), nl=False)
