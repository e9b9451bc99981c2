# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import identity, preparing, services
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.plugin_utils import packing

NOTHING = {
    "folders": [],
    "files": {},
    "blocks": {},
    "sysctls": {},
    "enabled": [],
    "started": [],
    "code": False,
    "digest": None,
    "archive": None,
    "agent": False,
}


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Return a function that prepares a machine whose node, code and sysctls are in a folder."""
    monkeypatch.setattr(identity, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(preparing, "CODE", str(tmp_path / "lib" / "pkgctl"))
    monkeypatch.setattr(preparing, "_SYSCTLS", tmp_path / "sys")
    (tmp_path / "run").mkdir()

    def call(*, dry_run=False, **options):
        return preparing.prepare({**NOTHING, **options}, dry_run=dry_run)

    return call


@pytest.fixture
def systemd(monkeypatch):
    """Return what systemctl was told; units are what it was told, and none is stale."""
    heard: list[tuple[str, ...]] = []
    enabled, active = set(), set()

    def systemctl(*words):
        heard.append(words)
        names = words[words.index("--") + 1 :] if "--" in words else ()
        {"enable": enabled, "start": active}.get(words[0], set()).update(names)
        return "\n\n".join(
            f"LoadState=loaded\nActiveState={'active' if name in active else 'inactive'}\n"
            f"UnitFileState={'enabled' if name in enabled else 'disabled'}\n"
            "NeedDaemonReload=no"
            for name in names
        )

    monkeypatch.setattr(services, "systemctl", systemctl)
    return heard


def test_what_differs_is_brought_about_and_the_second_time_nothing_does(prepare, tmp_path):
    (tmp_path / "sys" / "net").mkdir(parents=True)
    (tmp_path / "sys" / "net" / "forward").write_text("0\n")
    asked = {
        "folders": [str(tmp_path / "a" / "b")],
        "files": {str(tmp_path / "etc" / "x.conf"): "one\n"},
        "blocks": {str(tmp_path / "etc" / "hosts"): "10.0.0.1 one\n"},
        "sysctls": {"net/forward": 1},
    }

    foreseen = prepare(dry_run=True, **asked)
    assert not (tmp_path / "a").exists()
    done = prepare(**asked)

    assert foreseen == done
    assert done["changed"]
    assert len(done["actions"]) == len(done["diff"]) == 4
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "etc" / "x.conf").read_text() == "one\n"
    assert (tmp_path / "sys" / "net" / "forward").read_text() == "1"
    assert prepare(**asked) == {"changed": False, "actions": [], "diff": []}


def test_a_setting_that_the_kernel_lacks_is_passed_over(prepare):
    assert not prepare(sysctls={"net/ipv6/conf/default/accept_ra": "0"})["changed"]


@pytest.mark.parametrize("key", ["/etc/passwd", "../etc/passwd", "net/../../etc/passwd"])
def test_a_setting_outside_the_kernels_is_refused(prepare, key):
    with pytest.raises(DisturbanceError, match="is no setting"):
        prepare(sysctls={key: "1"})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"folders": ["x"]}, "'x' is no path from the root"),
        ({"files": {"x": ""}}, "'x' is no path from the root"),
        ({"files": {"/x": ["a"]}}, "files: /x: its content must be a text"),
    ],
)
def test_wrong_options_change_nothing(prepare, tmp_path, options, error):
    with pytest.raises(DisturbanceError, match=error):
        prepare(**{**options, "folders": [str(tmp_path / "made"), *options.get("folders", [])]})

    assert not (tmp_path / "made").exists()


def test_a_file_keeps_its_mode(prepare, tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o600)

    prepare(files={str(path): "new"})

    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert [each.name for each in tmp_path.iterdir() if "pkgctl" in each.name] == []


THEIRS = "127.0.0.1 localhost\n# a remark\n"


def test_our_lines_come_first_and_theirs_stay():
    once = preparing.with_block(THEIRS, "10.0.0.1 one\n")

    assert once.splitlines() == [
        *(preparing.BEGIN, "10.0.0.1 one", preparing.END),
        *THEIRS.splitlines(),
    ]
    assert preparing.with_block(once, "10.0.0.1 one\n") == once
    assert "10.0.0.1" not in preparing.with_block(once, "10.0.0.2 two\n")
    assert preparing.with_block(once, "") == THEIRS


def test_marks_that_others_have_broken_are_mended():
    torn = f"{preparing.END}\n{THEIRS}{preparing.BEGIN}\n10.0.0.9 old\n"

    assert preparing.with_block(torn, "") == THEIRS


def code(packed=None):
    packed = packed or packing.pack()
    return {
        "code": True,
        "digest": packed.digest,
        "archive": base64.b64encode(packed.content).decode(),
    }


def test_the_code_is_unpacked_compiled_and_runs_by_itself(prepare, tmp_path):
    assert prepare(agent=True, **code())["changed"]

    root = tmp_path / "lib" / "pkgctl"
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from ansible_collections.pkgctl.testbed.plugins.module_utils import agent\n"
        "print(agent.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True
    )
    assert done.stdout.startswith(str(root)), done.stderr
    assert list(root.glob("ansible_collections/pkgctl/testbed/plugins/module_utils/__pycache__/a*"))
    assert [path.name for path in root.parent.iterdir()] == ["pkgctl"]
    # The agent that runs on what was there before is to be started again.
    assert (tmp_path / "run" / services.OUTDATED).exists()
    assert not prepare(agent=True, **code())["changed"]


def test_what_is_no_longer_part_of_the_code_goes(prepare, tmp_path):
    prepare(**code())
    left = tmp_path / "lib" / "pkgctl" / packing.PACKAGE / "gone.py"
    left.touch()
    (tmp_path / "lib" / "pkgctl" / preparing.DIGEST).write_text("another\n")

    prepare(**code())

    assert not left.exists()


@pytest.mark.parametrize("archive", ["!", base64.b64encode(b"no archive").decode(), None])
def test_a_damaged_archive_leaves_the_code_as_it_was(prepare, tmp_path, archive):
    prepare(**code())

    with pytest.raises(DisturbanceError, match="the archive of the nodes' code"):
        prepare(code=True, digest="new", archive=archive)

    kept = tmp_path / "lib" / "pkgctl" / preparing.DIGEST
    assert kept.read_text().strip() == packing.pack().digest


def test_units_are_enabled_and_started_once(prepare, systemd, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "FOLDER", str(tmp_path / "units"))
    asked = {
        "files": {str(tmp_path / "units" / "a.service"): "[Unit]\n"},
        "enabled": ["a.service"],
        "started": ["a.service", "b.slice"],
    }

    done = prepare(**asked)

    verbs = [words[0] for words in systemd if words[0] != "show"]
    assert verbs == ["daemon-reload", "enable", "start"]
    assert done["actions"][1:] == ["enable a.service", "start a.service", "start b.slice"]
    systemd.clear()
    assert not prepare(**asked)["changed"]
    assert [words[0] for words in systemd] == ["show"]


def test_in_check_mode_no_unit_is_touched(prepare, systemd):
    foreseen = prepare(dry_run=True, enabled=["a.service"], started=["a.service"])

    assert foreseen["actions"] == ["enable a.service", "start a.service"]
    assert [words[0] for words in systemd] == ["show"]
