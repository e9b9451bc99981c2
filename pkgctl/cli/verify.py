# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl verify``: whether a running testbed is what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pkgctl.cli.testbed import name_option
from pkgctl.cli.text import as_json, output_option, table

if TYPE_CHECKING:
    from pkgctl.local.paths import Paths
    from pkgctl.nodeside import verdicts, verification
    from pkgctl.remote.places import Places

_COLUMNS = (
    "FROM", "TO", "RTT ASKED", "SEEN", "±", "GOODPUT ASKED", "SEEN", "±", "LOSS ASKED", "SEEN", "±",
    "VERDICT",
)  # fmt: skip


@click.command("verify", short_help="Say whether the nodes and links are what was asked for.")
@name_option
@click.option(
    "--sample",
    type=click.IntRange(1),
    is_flag=False,
    flag_value=0,
    metavar="[COUNT]",
    help="Measure a sample that covers every pair of sites (what is done by default).",
)
@click.option("--all", "everything", is_flag=True, help="Measure every directed pair of nodes.")
@click.option("--pair", "texts", multiple=True, metavar="FROM:TO", help="Measure this pair.")
@click.option("--budget", metavar="TIME", default="60s", show_default=True, help="Time to take.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which sample is drawn.")
@click.option("--read-back-only", is_flag=True, help="Compare only; measure nothing.")
@output_option
def verify(
    name: str | None,
    sample: int | None,
    everything: bool,
    texts: tuple[str, ...],
    budget: str,
    seed: int,
    read_back_only: bool,
    output: str,
) -> None:
    """Say whether the nodes and links of a testbed are what was asked for.

    First what the kernel has is read back and compared with the layers in force; then pairs of
    nodes are measured. Layers may be on: what is in force now is what is asked. Ends with 4 if
    anything differs.

    \b
    Examples:
      pkgctl verify
      pkgctl verify --all --budget 5m
      pkgctl verify --pair edge-1:cloud-1 --pair cloud-1:edge-1
      pkgctl verify --read-back-only
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.remote import places

    place = places.find(name)
    modes = [word for word, given in (("--all", everything), ("--pair", texts)) if given]
    modes += ["--sample"] * (sample is not None)
    if len(modes) > 1:
        raise click.UsageError(f"{' and '.join(modes)} exclude one another")
    mode = "all" if everything else "sample"
    pairs, seconds = _chosen(place, mode, sample or None, texts, budget, seed)
    drift = _drift(place)
    if drift or read_back_only:
        verdicts = []
    elif isinstance(place, places.Places):
        words = {"all": True} if everything else {"sample": sample or None, "seed": seed}
        verdicts = _measure_machines(place, pairs if texts else None, words, budget)
    else:
        verdicts = _measure(place, pairs, seconds)
    _show(drift, verdicts, output, read_back_only=read_back_only)
    _conclude(drift, verdicts)


def _chosen(
    place: Paths, mode: str, count: int | None, texts: Sequence[str], budget: str, seed: int
) -> tuple[list[verification.Pair], float]:
    import random

    from pkgctl.errors import SpecError
    from pkgctl.local import probing, testbed
    from pkgctl.nodeside import verification

    sites = probing.sites(testbed.read_state(place))
    try:
        seconds = verification.read_budget(budget)
        if texts:
            return verification.read_pairs(texts, sites), seconds
        return verification.choose(sites, mode, random.Random(seed), count), seconds
    except ValueError as error:
        raise SpecError(str(error)) from error


def _drift(place: Paths) -> dict[str, list[str]]:
    from pkgctl.remote.places import Places

    if isinstance(place, Places):
        from pkgctl.remote import verifying

        return verifying.drift(place)
    from pkgctl.local import readback
    from pkgctl.local.holding import require_root

    require_root()
    return readback.drift(place)


def _measure(
    place: Paths, pairs: Sequence[verification.Pair], seconds: float
) -> list[verdicts.Verdict]:
    from contextlib import closing

    from pkgctl.local import foresight, probing
    from pkgctl.local.backend import LocalBackend

    foresight.learn()
    with closing(LocalBackend(place)) as backend:
        return probing.verify(backend, pairs, seconds)


def _measure_machines(
    place: Places,
    pairs: Sequence[verification.Pair] | None,
    words: Mapping[str, Any],
    budget: str,
) -> list[verdicts.Verdict]:
    from pkgctl.remote import verifying

    plays = [words] if pairs is None else verifying.plays(pairs)
    return verifying.measure(place, [{**each, "budget": budget} for each in plays])


def _show(
    drift: dict[str, list[str]],
    verdicts: Sequence[verdicts.Verdict],
    output: str,
    *,
    read_back_only: bool,
) -> None:
    if output == "json":
        click.echo(as_json({"drift": drift, "links": [each.row() for each in verdicts]}))
        return
    if not drift:
        click.echo("read back: every node is as asked")
    for node, lines in drift.items():
        for line in lines:
            click.echo(f"{node}: {line}")
    if drift or read_back_only:
        return
    click.echo(table(_COLUMNS, [_row(each) for each in verdicts]))
    for each in verdicts:
        if each.reason and each.verdict != "pass":
            click.echo(f"{each.src} → {each.dst}: {each.reason}")


def _row(each: verdicts.Verdict) -> list[str]:
    return [
        each.src,
        each.dst,
        *_times(each),
        *_rates(each),
        *_shares(each),
        each.verdict,
    ]


def _times(each: verdicts.Verdict) -> list[str]:
    found = "-" if each.rtt_p50 is None else f"{each.rtt_p50 * 1e3:.2f}ms"
    return [f"{each.asked_rtt * 1e3:.2f}ms", found, f"{each.tolerance_rtt * 1e3:.2f}ms"]


def _rates(each: verdicts.Verdict) -> list[str]:
    numbers = (each.goodput_expected, each.goodput, each.tolerance_goodput)
    return ["-" if one is None else f"{one / 1e6:.3g}mbit" for one in numbers]


def _shares(each: verdicts.Verdict) -> list[str]:
    numbers = (each.loss_expected, each.loss, each.tolerance_loss)
    return ["-" if one is None else f"{one * 100:.3g}%" for one in numbers]


def _conclude(drift: dict[str, Any], verdicts: Sequence[verdicts.Verdict]) -> None:
    """End with 4, and say so in a line, if anything is not as asked.

    Raises:
        VerificationFailed: if so.
    """
    from pkgctl.errors import VerificationFailed

    if drift:
        first, lines = next(iter(drift.items()))
        more = sum(map(len, drift.values())) - 1
        rest = f", and {more} more differences" if more else ""
        raise VerificationFailed(f"drift on {', '.join(drift)}: {first}: {lines[0]}{rest}")
    failed = [f"{each.src} → {each.dst}" for each in verdicts if each.verdict == "fail"]
    if failed:
        what = "pair is" if len(failed) == 1 else "pairs are"
        raise VerificationFailed(f"{len(failed)} {what} not as asked: {', '.join(failed[:8])}")
