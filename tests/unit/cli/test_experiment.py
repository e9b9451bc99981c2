# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from pkgctl import cli
from pkgctl.cli import experiment
from pkgctl.errors import ResultsError, SpecError, TestbedError
from pkgctl.experiment.runner import Ending


@pytest.fixture
def invoke():
    def call(*arguments):
        return CliRunner().invoke(cli.cli, arguments, standalone_mode=False)

    return call


def test_a_dry_run_shows_the_plan_and_makes_nothing(invoke, tmp_path):
    result = invoke("experiment", "scaling.yaml", "--dry-run", "--results", str(tmp_path))

    assert result.exception is None
    assert "8 cells × 3 repeats, 24 runs to make, about" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_as_json_lists_each_run_with_its_seed(invoke):
    result = invoke("experiment", "scaling", "--repeats", "1", "--dry-run", "-o", "json")

    plan = json.loads(result.output)
    assert len(plan["runs"]) == 8
    assert len({run["seed"] for run in plan["runs"]}) == 1
    assert plan["seconds"] > 0


def test_an_unknown_experiment_is_bad_input(invoke):
    result = invoke("experiment", "scalling")

    assert isinstance(result.exception, SpecError)
    assert "did you mean scaling?" in str(result.exception)


def test_nothing_to_go_on_with_is_bad_input(invoke, tmp_path):
    result = invoke("experiment", "scaling", "--resume", "--results", str(tmp_path))

    assert isinstance(result.exception, ResultsError)


@pytest.mark.parametrize("command", [("report", "nowhere"), ("compare", "nowhere", "else")])
def test_a_folder_without_results_is_bad_input(invoke, command):
    result = invoke(*command)

    assert isinstance(result.exception, ResultsError)
    assert "nowhere" in str(result.exception)


def ended(folder, status, bad_links=0):
    """Say what came out of an experiment that ended like this; return its exit code and words."""
    record = {"format": 1, "name": "small", "question": "Does it?", "cells": [], "status": status}
    (folder / "run.json").write_text(json.dumps(record))

    @click.command()
    @click.pass_context
    def command(context):
        experiment._conclude(Ending(folder, status, bad_links), "json", context)

    return CliRunner().invoke(command)


@pytest.mark.parametrize(("status", "code"), [("complete", 0), ("failed", 1), ("interrupted", 130)])
def test_the_exit_code_says_how_an_experiment_ended(tmp_path, status, code):
    result = ended(tmp_path, status)

    assert result.exit_code == code
    assert json.loads(result.stdout)["status"] == status
    assert (tmp_path / "report.html").is_file()


def test_an_interrupted_experiment_says_how_to_go_on(tmp_path):
    assert f"--resume {tmp_path}" in ended(tmp_path, "interrupted").stderr


def test_a_forced_run_on_links_that_are_not_as_asked_ends_well_and_tells_of_them(tmp_path):
    result = ended(tmp_path, "complete", bad_links=2)

    assert result.exit_code == 0
    assert json.loads(result.stdout)["bad_links"] == 2


WORDS = {
    "unit": (("bw=5mbps",), "did you mean 5mbit"),
    "unknown word": (("bandwith=5mbit",), "did you mean bw?"),
    "no value": (("bw=",), "no word=value"),
    "no equals": (("bw",), "no word=value"),
    "twice": (("bw=5mbit", "bw=6mbit"), "bw is given twice"),
    "nothing": (("src=edge-1",), "nothing to do"),
}


@pytest.mark.parametrize(("words", "expected"), WORDS.values(), ids=WORDS.keys())
def test_words_of_a_perturbation_are_judged_before_anything_runs(invoke, words, expected):
    result = invoke("perturb", *words, "--testbed", "no-such-testbed")

    assert isinstance(result.exception, SpecError)
    assert expected in str(result.exception)


WISHES = {
    "kind": (("web",), "--service or --batch"),
    "name": (("Web One", "--service"), "is no name"),
    "cpu": (("web", "--service", "--cpu", "2x"), "--cpu: "),
    "memory": (("web", "--service", "--memory", "5mb"), "--memory: .*did you mean 5Mi"),
    "on": (("web", "--service", "--on", "edge-a"), "write one such as site=edge-a"),
    "seconds": (("web", "--service", "--cpu-seconds", "2"), "belongs to --batch"),
    "timeout": (("web", "--service", "--timeout", "2"), "--timeout: "),
}


@pytest.mark.parametrize(("words", "expected"), WISHES.values(), ids=WISHES.keys())
def test_a_job_that_cannot_be_meant_is_refused(invoke, words, expected):
    result = invoke("job", "run", *words, "--name", "no-such-testbed")

    assert isinstance(result.exception, SpecError)
    with pytest.raises(SpecError, match=expected):
        raise result.exception


def test_a_dry_run_of_a_job_needs_no_testbed(invoke):
    words = ("job", "run", "web", "--service", "--replicas", "2", "--on", "site=edge-a")

    result = invoke(*words, "--dry-run", "-o", "json")

    assert json.loads(result.output)["on"] == {"site": "edge-a"}


@pytest.mark.parametrize("command", ["list", "rm x", "logs x", "scale x 2", "resize x --cpu 1"])
def test_jobs_without_a_testbed_are_an_error_in_one_line(invoke, command):
    result = invoke("job", *command.split(), "--name", "no-such-testbed")

    assert isinstance(result.exception, TestbedError)
    assert "no testbed 'no-such-testbed' is up" in str(result.exception)


@pytest.mark.parametrize("command", ["experiment", "report", "compare", "perturb", "heal"])
def test_the_help_of_each_command_has_an_example(invoke, command):
    assert "Example" in invoke(command, "--help").output


@pytest.mark.parametrize("command", ["run", "list", "logs", "scale", "resize", "rm"])
def test_the_help_of_each_job_command_has_an_example(invoke, command):
    assert "Example: pkgctl job" in invoke("job", command, "--help").output


def test_a_cluster_is_asked_for_where_it_is_used(invoke):
    result = invoke("experiment", "scaling", "--dry-run", "--kubeconfig", "config")

    assert isinstance(result.exception, click.UsageError)
    assert "add --provider existing" in str(result.exception)


def test_a_testbed_that_is_a_cluster_has_to_be_up(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("pkgctl.local.holding.require_root", lambda: None)
    words = ["--name", "no-such", "--results", str(tmp_path / "results")]

    result = invoke("experiment", "scaling", "--provider", "existing", *words)

    assert isinstance(result.exception, TestbedError)
    assert list(tmp_path.iterdir()) == []


def test_kube_scheduler_needs_a_cluster(invoke):
    result = invoke("experiment", "node_loss", "--dry-run")

    assert isinstance(result.exception, SpecError)
    assert "kube-scheduler decides on Kubernetes only" in str(result.exception)
    again = invoke("experiment", "node_loss", "--dry-run", "--provider", "existing")
    assert again.exception is None
