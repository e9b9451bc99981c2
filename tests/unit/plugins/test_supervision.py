# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import supervision
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.supervision import Unit

from .agents import node

K3S = {
    "name": "k3s",
    "command": ["/usr/local/bin/k3s", "server", "--node-label", "a=b c"],
    "environment": {"TOKEN": "hush", "WORDS": 'a "b" \\ % $c'},
    "environment_files": ["/etc/rancher/k3s/k3s.env"],
    "pre": [["modprobe", "br_netfilter"], ["modprobe", "overlay"]],
    "notify": True,
    "kill": "process",
    "fingerprint": "0f3a",
}


def test_a_declaration_is_read_with_its_defaults():
    unit = supervision.parse({"name": "web", "command": ["/bin/web"], "nofile": None})

    assert unit == Unit("web", ("/bin/web",))
    assert (unit.restart_seconds, unit.kill, unit.notify, unit.grace) == (5.0, "group", False, 30.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a/b"}, "'a/b' is no name of a unit: letters, digits"),
        ({"name": None}, "None is no name of a unit"),
        ({"command": None}, "unit web: command: needs a program"),
        ({"command": []}, "unit web: command: needs a program"),
        ({"command": "/bin/web"}, "unit web: command: must be a list, not '/bin/web'"),
        ({"command": ["bin/web"]}, "unit web: command: 'bin/web' is neither a path from the root"),
        ({"command": ["-web"]}, "unit web: command: '-web' is no program"),
        ({"command": ["/bin/web", 5]}, "unit web: command: 5 is no text"),
        ({"command": ["/bin/web", "a\0b"]}, "unit web: command: has a control character"),
        ({"environment": ["A=b"]}, "unit web: environment: must be a mapping"),
        ({"environment": {"A B": "c"}}, "unit web: environment: 'A B' is no name of a variable"),
        ({"environment": {"A": 5}}, "unit web: environment: A must be a text"),
        ({"environment_files": ["web.env"]}, "unit web: environment_files: 'web.env' is no path"),
        ({"pre": ["modprobe"]}, "unit web: pre: must be a list, not 'modprobe'"),
        ({"pre": [[]]}, "unit web: pre: needs a program"),
        ({"notify": "yes"}, "unit web: notify: must be true or false, not 'yes'"),
        ({"restart_seconds": -1}, "unit web: restart_seconds: must be seconds between 0 and a day"),
        ({"restart_seconds": True}, "unit web: restart_seconds: must be seconds"),
        ({"grace": float("nan")}, "unit web: grace: must be seconds"),
        ({"kill": "all"}, "unit web: kill: must be group or process, not 'all'"),
        ({"nofile": 0}, "unit web: nofile: must be a whole number above zero, not 0"),
        ({"fingerprint": "a\nb"}, "unit web: fingerprint: must be one line"),
        ({"port": 80}, "unit web: port: unknown; known are command, environment"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(given, message):
    with pytest.raises(DisturbanceError) as caught:
        supervision.parse({"name": "web", "command": ["/bin/web"], **given})

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_secret_is_not_in_the_words_of_a_refusal():
    with pytest.raises(DisturbanceError) as caught:
        supervision.parse({**K3S, "environment": {"TOKEN": "hush\x01"}})

    assert str(caught.value) == "unit k3s: environment: TOKEN: has a control character"


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
UNITS = st.builds(
    Unit,
    name=st.just("web"),
    command=st.lists(TEXTS, max_size=4).map(lambda words: ("/bin/web", *words)),
    environment=st.dictionaries(st.sampled_from(["A", "B_2", "_c"]), TEXTS),
    environment_files=st.sampled_from([(), ("/etc/a", "/etc/b c")]),
    pre=st.lists(
        st.lists(TEXTS, max_size=2).map(lambda words: ("modprobe", *words)), max_size=2
    ).map(tuple),
    notify=st.booleans(),
    restart_seconds=st.floats(0, 100),
    kill=st.sampled_from(supervision.KILLS),
    nofile=st.none() | st.integers(1, 1 << 20),
    grace=st.floats(0, 100),
    fingerprint=TEXTS,
)


@given(UNITS)
def test_a_declaration_survives_its_way_as_json(unit):
    assert supervision.parse(unit.body()) == unit


def test_the_file_for_systemd_says_all_of_it():
    unit = supervision.parse({**K3S, "restart_seconds": 5, "nofile": 4096})

    lines = supervision.text(unit).splitlines()

    assert lines[0] == "# fingerprint: 0f3a"
    assert [line for line in lines if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
    for line in (
        "Wants=network-online.target",
        "After=network-online.target",
        "Type=notify",
        'Environment="WORDS=a \\"b\\" \\\\ %% $c"',
        "EnvironmentFile=-/etc/rancher/k3s/k3s.env",
        "ExecStartPre=-modprobe br_netfilter",
        'ExecStart=/usr/local/bin/k3s server --node-label "a=b c"',
        "Delegate=yes",
        "KillMode=process",
        "Restart=always",
        "RestartSec=5",
        "TimeoutStartSec=0",
        "LimitNOFILE=4096",
        "LimitNPROC=infinity",
        "LimitCORE=infinity",
        "TasksMax=infinity",
        "WantedBy=multi-user.target",
    ):
        assert lines.count(line) == 1, line


def test_a_plain_service_is_taken_to_be_ready_when_its_program_runs():
    lines = supervision.text(Unit("web", ("/bin/web",))).splitlines()

    assert {"Type=exec", "KillMode=control-group", "LimitNOFILE=infinity"} < set(lines)
    assert lines[0] == "[Unit]"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_file(tmp_path):
    odd = [
        "/bin/echo",
        "a b",
        'q"uo\\te',
        "100%",
        "$HOME",
        "x;y",
        ";",
        "a\nb",
        "a\tb",
        "é",
        "-",
        "",
    ]
    unit = supervision.parse({**K3S, "command": odd, "pre": [["true", "%n"]]})
    (tmp_path / "k3s.service").write_text(supervision.text(unit))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "k3s.service")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_shown_names_variables_and_no_values():
    shown = supervision.shown(supervision.parse(K3S))

    assert "hush" not in shown
    assert "Environment=TOKEN=(hidden)\nEnvironment=WORDS=(hidden)\n" in shown
    assert supervision.hidden(shown) == shown


@given(UNITS)
def test_another_declaration_is_another_file(unit):
    other = supervision.parse({**unit.body(), "command": [*unit.command, "more"]})

    assert supervision.text(other) != supervision.text(unit)
    assert supervision.differing(unit, other) == ["command"]
    assert supervision.differing(unit, unit) == []


def test_what_differs_is_named_without_values():
    before, after = supervision.parse(K3S), supervision.parse({**K3S, "environment": {"A": "b"}})

    assert supervision.differing(before, after) == ["environment"]
    assert supervision.differing(None, after) == ["declaration"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", {}),
        ("A=b\nC=d", {"A": "b", "C": "d"}),
        ("# A=b\n; B=c\n\n  C = d  \n", {"C": "d"}),
        ("A=b c # d\n", {"A": "b c # d"}),
        ("A='b \"c\"'\nB=\"d 'e'\"\n", {"A": 'b "c"', "B": "d 'e'"}),
        ('A="b\\"c\\$d\\n"\n', {"A": 'b"c$d\\n'}),
        ("A=b\\ c\\\\\n", {"A": "b c\\"}),
        ("A=b\\\n  c\nB=d\n", {"A": "b  c", "B": "d"}),
        ('A="b\nc"\nB=d\n', {"A": "b\nc", "B": "d"}),
        ("A='b'c\n", {"A": "bc"}),
        ("not an assignment\nexport A=b\n1A=c\nB=d\n", {"B": "d"}),
        ("A=b=c\nB=\nA=e\n", {"A": "e", "B": ""}),
        ("A=it's\n", {"A": "it's"}),
    ],
)
def test_a_file_of_variables_is_read_as_systemd_does(content, found):
    assert supervision.read_environment(content) == found


@given(st.dictionaries(st.sampled_from(["A", "B", "TOKEN"]), TEXTS))
def test_what_is_quoted_is_read_as_it_was(values):
    quoted = {
        key: value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
        for key, value in values.items()
    }
    content = "".join(f'{key}="{value}"\n' for key, value in quoted.items())

    assert supervision.read_environment(content) == values


def test_units_are_beside_their_node_and_not_in_it(tmp_path):
    here = node(tmp_path, cgroup="pkgctl/test/nodes/edge-1")

    assert supervision.group_of(here, "k3s") == "pkgctl/test/system/edge-1/unit-k3s"
    assert supervision.system("test", "edge-1") == supervision.system_of(here)
