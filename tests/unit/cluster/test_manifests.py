# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import yaml
from click.testing import CliRunner

from pkgctl.cli import cli
from pkgctl.cluster.manifests import experiment_manifests, scheduler_manifests


def test_all_names_follow_from_that_of_the_scheduler_and_its_namespace():
    found = scheduler_manifests("mine", "lab")

    assert {each["metadata"]["name"] for each in found} == {"lab", "mine-scheduler"}
    kinds = {each["kind"]: each for each in found}
    assert kinds["ClusterRoleBinding"]["subjects"][0]["namespace"] == "lab"
    assert kinds["RoleBinding"]["metadata"]["namespace"] == "lab"
    (_, rule) = kinds["Role"]["rules"]
    assert rule["resourceNames"] == ["mine-scheduler"]


def test_no_right_is_given_by_a_wildcard():
    rules = [rule for each in scheduler_manifests() for rule in each.get("rules", ())]

    assert rules
    assert not [rule for rule in rules if "*" in [*rule["verbs"], *rule["resources"]]]


def test_they_are_printed_as_yaml():
    done = CliRunner().invoke(cli, ["cluster", "manifests", "--name", "mine"])

    assert list(yaml.safe_load_all(done.output)) == scheduler_manifests("mine")


def test_a_kubeconfig_that_is_not_there_is_bad_input(tmp_path):
    from pkgctl.errors import SpecError

    done = CliRunner().invoke(
        cli, ["cluster", "scheduler", "--kubeconfig", str(tmp_path / "none")], standalone_mode=False
    )

    assert isinstance(done.exception, SpecError)
    assert done.exception.exit_code == 2


def test_experiments_may_read_the_cluster_and_write_in_their_namespace_only():
    found = experiment_manifests("lab")

    roles = {each["kind"]: each for each in found}
    assert {each["metadata"].get("namespace", "pkgctl-lab") for each in found} == {"pkgctl-lab"}
    wide = {verb for rule in roles["ClusterRole"]["rules"] for verb in rule["verbs"]}
    assert wide == {"get", "list", "watch"}
    assert roles["ClusterRoleBinding"]["subjects"][0]["name"] == "pkgctl-experiment"
    resources = {each for rule in roles["Role"]["rules"] for each in rule["resources"]}
    assert "secrets" not in resources and "*" not in resources


def test_the_command_prints_them_for_a_testbed():
    done = CliRunner().invoke(cli, ["cluster", "manifests", "--experiments", "lab"])

    assert list(yaml.safe_load_all(done.output)) == experiment_manifests("lab")
