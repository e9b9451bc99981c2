# SPDX-License-Identifier: GPL-3.0-or-later
"""The perturbations of an experiment file: the same words, with the experiment around them."""

from __future__ import annotations

import pytest

from pkgctl import documents, spec
from pkgctl.errors import SpecError

from .conftest import SMALL

SLOW = "slow: {site: edge-a, bw: 5mbit, delay: 40ms, start: 1s, duration: 2s}"


def with_words(*lines: str) -> str:
    return SMALL.replace(f"  {SLOW}\n", "".join(f"  {line}\n" for line in lines))


def test_what_is_drawn_follows_from_the_seed_of_the_experiment(small):
    text = with_words('slow: {node: "random 2 of *", health: paused}')

    def drawn(*settings: str) -> list[list[str]]:
        experiment = small(*settings, text=text)
        return [
            [*cell.body.disturbance("slow").plan(experiment.nodes)] for cell in experiment.cells
        ]

    first = drawn()

    assert drawn() == first
    assert len({tuple(names) for names in first}) == 1
    assert len({tuple(drawn(f"seed={seed}")[0]) for seed in range(20)}) > 5


def test_a_seed_of_its_own_goes_before_that_of_the_experiment(small):
    text = with_words("slow: {node: edge-1, health: paused, flap: 1s/1s/random, seed: 3}")

    assert small(text=text).cells[0].body.disturbance("slow").times()["seed"] == 3


def test_a_file_lies_beside_the_experiment(tmp_path):
    (tmp_path / "drive.csv").write_text("time,rate\n0,1mbit\n1,2mbit\n")
    text = with_words("slow: {site: edge-a, trace: drive.csv}")
    document = documents.parse(text, "small.yaml", "experiment")

    experiment = spec.parse(document, tmp_path / "small.yaml")

    read = experiment.cells[0].body.disturbance("slow")
    assert [row[0] for row in read.timing.trace] == [0.0, 1.0]
    assert experiment.values["perturbations"]["slow"]["trace"] == "drive.csv"


def test_one_that_waits_makes_the_run_no_longer(small):
    text = with_words("slow: {site: edge-a, bw: 5mbit, when: requests > 10, duration: 1s}")

    body = small(text=text).cells[0].body

    assert body.duration == 4.0


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["slow: {cpu: 0.1, lease: 5m}"], "lease: a perturbation of an experiment ends with its"),
        (["slow: {cpu: 0.1, name: x}"], "name: the experiment sets it"),
        (["slow: {cpu: 0.1, after: cut}"], "after: 'cut' is not applied in this cell"),
        (
            ["slow: {cpu: 0.1, after: cut}", "cut: {cpu: 0.1, after: slow}"],
            "after: slow waits for cut waits for slow",
        ),
        (["slow: {cpu: 0.1, when: job wbe ready}"], "when: no service or queue is called 'wbe'"),
        (["slow: {cpu: 0.1, when: node edge-9 down}"], "when: no node is called 'edge-9'"),
        (["slow: {site: edge-a, trace: none.csv}"], "trace: 'none.csv' cannot be read"),
    ],
)
def test_what_cannot_come_true_is_refused_with_its_place(small, lines, error):
    text = with_words(*lines).replace("perturb: [none, slow]", "perturb: [none, all]")

    with pytest.raises(SpecError) as caught:
        small(text=text)

    assert f"perturbations.slow: {error}" in str(caught.value)


def test_jobs_of_a_service_can_be_waited_for(small):
    for job in ("web", "web-0"):
        text = with_words(f"slow: {{cpu: 0.1, when: job {job} ready}}")
        assert small(text=text).cells[0].body.disturbance("slow").timing.when == f"job {job} ready"


def test_services_are_not_placed_at_random(small):
    text = SMALL.replace("on: {site: edge-a}", 'on: "random 1 of edge"')

    with pytest.raises(SpecError, match="nodes are drawn at random for perturbations only"):
        small(text=text)
