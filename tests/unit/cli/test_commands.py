# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pkgctl import __version__, cli
from pkgctl.cli import text
from pkgctl.cli import topology as commands
from pkgctl.errors import MissingCapability, PkgctlError, SpecError, VerificationFailed


@pytest.fixture
def invoke():
    def call(*arguments):
        return CliRunner().invoke(cli.cli, arguments)

    return call


@pytest.fixture
def failing(monkeypatch, invoke):
    """Run a command that raises what the test hands in."""

    def run(error):
        @click.command("doctor")
        def doctor():
            raise error

        monkeypatch.setattr(cli.Commands, "get_command", lambda *_: doctor)
        return invoke("doctor")

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PkgctlError("it broke"), 1),
        (SpecError("it broke"), 2),
        (MissingCapability("it broke"), 3),
        (VerificationFailed("it broke"), 4),
        (click.ClickException("it broke"), 1),
    ],
)
def test_an_expected_failure_is_one_line_and_its_exit_code(failing, error, code):
    result = failing(error)

    assert result.stderr == "pkgctl: it broke\n"
    assert result.stdout == ""
    assert result.exit_code == code


def test_a_message_of_several_lines_becomes_one(failing):
    assert failing(PkgctlError("first\nsecond")).stderr == "pkgctl: first second\n"


def test_ctrl_c_ends_with_130_and_without_a_traceback(failing):
    result = failing(KeyboardInterrupt())

    assert result.exit_code == 130
    assert "Traceback" not in result.output


def test_a_mistake_of_ours_is_not_hidden(failing):
    assert isinstance(failing(ZeroDivisionError("bug")).exception, ZeroDivisionError)


def test_the_exit_code_that_a_command_returns_is_kept(monkeypatch, invoke):
    @click.command("doctor")
    def doctor():
        return 7

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: doctor)

    assert invoke("doctor").exit_code == 7


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["tpology"], "no command 'tpology'; did you mean topology? (see pkgctl --help)"),
        (["--vresion"], "Did you mean '--version'?"),
        (["topology", "shwo"], "Did you mean 'show'?"),
        (["topology", "show"], "Missing argument 'NAME'. (see pkgctl topology show --help)"),
        (["topology", "show", "duo", "-o", "xml"], "'xml'"),
        (["topology", "show", "duo", "--outptu", "json"], "Did you mean '--output'?"),
    ],
)
def test_a_wrong_call_is_one_line_with_what_was_meant(invoke, arguments, hint):
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert hint in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_version_and_the_help_are_given(invoke):
    assert __version__ in invoke("--version").output
    for arguments in ([], ["--help"], ["-h"]):
        result = invoke(*arguments)
        assert result.exit_code == 0 and "experiment" in result.output


def test_a_group_without_a_command_shows_its_help_as_it_is(invoke):
    result = invoke("topology")

    assert result.exit_code == 2
    assert "Commands:\n" in result.stderr


def test_a_reader_that_goes_away_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)

    run = subprocess.run(
        [sys.executable, "-m", "pkgctl", "topology", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)

    assert run.returncode == cli.BROKEN_PIPE
    assert run.stderr == ""


def test_a_topology_is_shown_within_eighty_columns(invoke):
    for name in ("three-sites", "hundred", "duo"):
        lines = invoke("topology", "show", name).output.splitlines()
        assert len(lines) < 30
        assert max(map(len, lines)) <= 80


def test_equal_nodes_of_a_large_topology_share_a_line(invoke):
    output = invoke("topology", "show", "hundred").output

    assert "node-[1-100]  node-[1-100]  10mbit" in output


def test_the_json_of_a_topology_holds_every_link(invoke):
    shown = json.loads(invoke("topology", "show", "hundred", "-o", "json").output)

    assert len(shown["nodes"]) == 100
    assert sum(map(len, shown["links"].values())) == 9900
    assert shown["links"]["node-1"]["node-2"]["rate"] == 10_000_000


def test_the_topologies_are_listed(invoke):
    assert "three-sites" in invoke("topology", "list").output
    listed = json.loads(invoke("topology", "list", "-o", "json").output)
    assert {each["name"]: each["nodes"] for each in listed}["hundred"] == 100


def test_a_bad_topology_file_is_one_line_and_code_2(invoke, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nname: worse\n")

    result = invoke("topology", "show", str(path))

    assert result.exit_code == 2
    assert result.stderr.startswith(f"pkgctl: {path}:2: name: the key stands twice")


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["edge-1"], "edge-1"),
        (["edge-1", "edge-2", "edge-3"], "edge-[1-3]"),
        (["edge-1", "edge-3"], "edge-1,edge-3"),
        (["a", "b", "c", "d"], "a and 3 more"),
        (["n-01", "n-02"], "n-0[1-2]"),
        (["n-9", "n-10"], "n-[9-10]"),
    ],
)
def test_names_that_count_up_are_written_as_a_range(names, short):
    assert commands.short_names(names) == short


def test_a_table_is_as_wide_as_its_cells():
    assert text.table(("A", "LONG"), [("wide", 1), ("x", "")]) == "A     LONG\nwide  1\nx"
