# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import inspect
import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from pulumi import automation

from pkgctl import cli, image, infra
from pkgctl.errors import MissingCapability, SpecError, TestbedError
from pkgctl.remote import leftovers, needs, places, stack, sweeping
from pkgctl.remote.wish import Wish

URI = "qemu:///system"
DOMAIN = "libvirt:index/domain:Domain"
VOLUME = "libvirt:index/volume:Volume"
URN = "urn:pulumi:lab::pkgctl-testbed::pkgctl:testbed:Testbed${}::{}"


def ended(op, kind, name, **more):
    metadata = {"op": op, "urn": URN.format(kind, name), "type": kind, "provider": "", **more}
    return automation.EngineEvent.from_json({"resOutputsEvent": {"metadata": metadata}})


def complained(text, kind=DOMAIN, name="one"):
    told = {"severity": "error", "message": text, "color": "", "urn": URN.format(kind, name)}
    return automation.EngineEvent.from_json({"diagnosticEvent": told})


class Engine:
    """Stands for Pulumi behind its Automation API; takes only what the real one takes.

    Attributes:
        calls: what was asked of it, in order.
        events: what it tells of each operation; an exception among them is raised.
        state: what the stack holds.
    """

    def __init__(self):
        self.calls = []
        self.events = {}
        self.state = {"resources": [], "pending_operations": []}
        self.chosen = {}
        self.workspace = SimpleNamespace(remove_stack=self._remove_stack)

    # The part of the module that is used.

    CommandError = automation.CommandError
    InvalidVersionError = automation.InvalidVersionError
    LocalWorkspaceOptions = automation.LocalWorkspaceOptions
    CommandResult = automation.CommandResult
    errors = automation.errors

    class PulumiCommand:
        def __init__(self, root=None, version=None, skip_version_check=False):
            self.command = "pulumi"

    def create_or_select_stack(self, **options):
        inspect.signature(automation.create_or_select_stack).bind(**options)
        self.chosen = options
        return self

    # The stack.

    def export_stack(self):
        return automation.Deployment(version=3, deployment=self.state)

    def _remove_stack(self, name):
        self.calls.append(("remove_stack", name))

    def _operation(self, name, options):
        inspect.signature(getattr(automation.Stack, name)).bind(None, **options)
        self.calls.append((name, {key: options[key] for key in options if key in _TOLD}))
        for event in self.events.get(name, [[]]).pop(0) if self.events.get(name) else []:
            if isinstance(event, BaseException):
                raise event
            options["on_event"](event)

    def up(self, **options):
        self._operation("up", options)

    def preview(self, **options):
        self._operation("preview", options)

    def refresh(self, **options):
        self._operation("refresh", options)

    def destroy(self, **options):
        self._operation("destroy", options)


_TOLD = ("refresh", "clear_pending_creates")


def failure(stderr=""):
    return automation.CommandError(automation.CommandResult("", stderr, 255))


@pytest.fixture
def engine(monkeypatch):
    found = Engine()
    monkeypatch.setitem(sys.modules, "pulumi", SimpleNamespace(automation=found))
    return found


@pytest.fixture
def lab(tmp_path, monkeypatch, engine):
    """The places of a testbed, on a machine that lacks nothing."""
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr(places.local, "RUN", tmp_path / "run")
    monkeypatch.setattr(places.local, "STORE", tmp_path / "store")
    monkeypatch.setattr(needs, "lacking", lambda hosts, image: [])
    monkeypatch.setattr(image, "find", lambda spec: SimpleNamespace(fingerprint="newest"))
    monkeypatch.setattr(infra.watchman, "dismiss", lambda folder: None)
    return places.places("lab")


@pytest.fixture
def swept(monkeypatch):
    """What was swept: each host with what was to be kept there."""
    found = []

    def remove(uri, testbed, keep=()):
        found.append((uri, testbed, set(keep)))
        return []

    monkeypatch.setattr(sweeping, "remove", remove)
    return found


@pytest.fixture
def heard():
    return []


@pytest.fixture
def bring(lab, heard):
    def up(wish=None, **options):
        wish = wish or Wish("/t.yaml")
        return infra.up(wish, lab, heard.append, lambda _: None, **options)

    return up


@pytest.fixture
def remove(lab, heard):
    def down(**options):
        return infra.down(lab, heard.append, lambda _: None, **options)

    return down


def test_what_was_made_is_the_outcome(bring, engine, lab, heard):
    engine.events["up"] = [[ended("create", DOMAIN, "one")]]

    outcome = bring()

    assert outcome.changed and outcome.lines == heard == ["+ domain one"]
    assert [name for name, _ in engine.calls] == ["up"]
    assert engine.chosen["stack_name"] == "lab"
    assert engine.chosen["work_dir"] == str(lab.program)
    assert stack.settings(lab)["image"] == "newest"
    assert stack.noted_hosts(lab) == [URI]


def test_a_second_up_looks_at_the_world_first_and_says_what_it_found(bring, engine, heard):
    bring()
    engine.state["resources"] = [{"type": DOMAIN, "outputs": {"name": "pkgctl.lab.one"}}]
    stopped = {"running": {"diffKind": "update", "inputDiff": False}}
    engine.events["refresh"] = [
        [
            ended("delete", DOMAIN, "one"),
            ended("update", DOMAIN, "two", detailedDiff=stopped),
            ended("delete", "pulumi-python:dynamic/testbed:Seed", "one"),
        ]
    ]
    engine.events["up"] = [[ended("create", DOMAIN, "one")]]

    outcome = bring()

    assert heard == ["found: domain one is gone", "found: domain two does not run", "+ domain one"]
    assert outcome.lines == ["+ domain one"]


def test_an_up_that_was_killed_is_taken_up(bring, engine, heard, swept):
    bring()
    engine.state = {
        "resources": [
            {"type": DOMAIN, "outputs": {"name": "pkgctl.lab.one"}},
            {"type": VOLUME, "outputs": {"name": "one.root", "pool": "pkgctl.lab"}},
            {"type": "pkgctl:testbed:Node"},
        ],
        "pending_operations": [{"type": "creating"}],
    }

    bring()

    assert engine.calls[-2:] == [("refresh", {"clear_pending_creates": True}), ("up", {})]
    known = {("domain", "pkgctl.lab.one"), ("volume", "pkgctl.lab/one.root")}
    assert swept == [(URI, "lab", known)]
    assert heard == ["found: an earlier up was cut short; going on with it"]


def test_a_lock_that_was_left_is_a_sign_of_a_killed_up_too(bring, engine, swept, monkeypatch):
    monkeypatch.setattr(leftovers, "clear", lambda place: True)

    bring()

    assert [name for name, _ in engine.calls] == ["refresh", "up"]
    assert swept == [(URI, "lab", set())]


def test_a_failure_is_one_line_in_the_words_of_the_first_resource(bring, engine):
    engine.events["up"] = [
        [complained("1 error occurred:\n\t* it is full"), complained("update failed"), failure("x")]
    ]

    with pytest.raises(TestbedError) as error:
        bring()

    assert str(error.value) == (
        "domain one: it is full; `pkgctl up` again goes on, `pkgctl down` removes it"
    )


def test_a_failure_without_words_of_a_resource_is_told_in_pulumis(bring, engine):
    engine.events["up"] = [[failure("warning: odd\nerror: the passphrase is wrong\n")]]

    with pytest.raises(TestbedError, match=r"^the passphrase is wrong;"):
        bring()


def test_how_to_allow_a_loss_is_told_in_our_words(bring, engine):
    refusal = "this would destroy it; to allow it: pulumi config set replace_disks true"
    engine.events["up"] = [[complained(refusal), failure()]]

    with pytest.raises(TestbedError, match="to allow it: --set replace_disks=true"):
        bring()


def test_what_is_missing_is_told_before_anything_is_made(bring, engine, lab, monkeypatch):
    absent = needs.Need("pulumi", "declares it", "see somewhere")
    monkeypatch.setattr(needs, "lacking", lambda hosts, image: [absent])

    with pytest.raises(MissingCapability, match="see somewhere"):
        bring()
    assert engine.calls == [] and not lab.run.exists()


def test_a_look_ahead_leaves_nothing(bring, engine, lab):
    engine.events["preview"] = [[ended("create", DOMAIN, "one")]]

    outcome = bring(dry_run=True)

    assert outcome.lines == ["+ domain one"]
    assert [name for name, _ in engine.calls] == ["preview"]
    assert not lab.run.parent.exists()


def test_a_look_ahead_does_not_change_the_settings_of_what_is_there(bring, lab):
    bring()

    bring(Wish("/other.yaml", network="10.9.0.0/24"), dry_run=True)

    assert stack.settings(lab)["topology"] == "/t.yaml"
    assert "network" not in stack.settings(lab)


def test_a_setting_that_nobody_knows_is_bad_input_and_leaves_what_was(bring, engine, lab):
    with pytest.raises(SpecError, match="did you mean impairment"):
        bring(Wish("/t.yaml", others={"impairmnt": "netem"}))
    assert engine.calls == [] and not lab.run.exists()


def test_down_destroys_sweeps_and_forgets(bring, remove, engine, lab, swept, heard):
    bring()
    engine.events["destroy"] = [[ended("delete", DOMAIN, "one")]]

    outcome = remove()

    assert outcome.changed and outcome.lines == heard == ["- domain one"]
    assert engine.calls[-2:] == [("destroy", {"refresh": False}), ("remove_stack", "lab")]
    assert swept == [(URI, "lab", set())]
    assert not lab.run.exists()


def test_what_was_never_up_is_not_down(remove, engine):
    assert remove().changed is False
    assert engine.calls == []


def test_what_somebody_else_removed_does_not_keep_the_rest(bring, remove, engine, lab, swept):
    bring()
    engine.events["destroy"] = [[complained("no domain"), failure()], []]

    outcome = remove()

    assert [call for call in engine.calls if call[0] == "destroy"] == [
        ("destroy", {"refresh": False}),
        ("destroy", {"refresh": True}),
    ]
    assert outcome.warnings == [] and not lab.run.exists()


def test_a_program_that_cannot_destroy_leaves_it_to_the_names(bring, remove, engine, lab, swept):
    bring()
    engine.events["destroy"] = [[failure()], [complained("broken"), failure()]]

    outcome = remove()

    assert outcome.warnings == ["domain one: broken; what is left is removed by its name"]
    assert len(swept) == 1 and not lab.run.exists()


def test_a_host_that_does_not_answer_keeps_the_folder(bring, remove, lab, monkeypatch):
    bring()

    def fail(uri, testbed, keep=()):
        raise TestbedError(f"{uri}: no")

    monkeypatch.setattr(sweeping, "remove", fail)

    with pytest.raises(TestbedError, match="qemu:///system: no; what testbed 'lab' has there"):
        remove()
    assert lab.run.exists()


def test_what_is_protected_is_let_go_first(bring, remove, engine, swept, monkeypatch):
    bring()
    engine.state["resources"] = [{"type": VOLUME, "outputs": {}, "protect": True}]
    words = []
    monkeypatch.setattr(infra.Driven, "_run", lambda self, *given: words.append(given))

    remove()

    assert words == [("state", "unprotect", "--all", "--yes")]


def test_hosts_that_nobody_noted_are_swept_on_demand(remove, lab, swept):
    outcome = remove(hosts=["qemu+ssh://two/system"])

    assert swept == [("qemu+ssh://two/system", "lab", set())]
    assert not outcome.changed and not lab.run.exists()


def test_an_interruption_goes_through_with_advice(lab, engine):
    engine.events["up"] = [[KeyboardInterrupt()]]
    warnings = []

    with pytest.raises(KeyboardInterrupt):
        infra.up(Wish("/t.yaml"), lab, warnings.append, warnings.append)

    assert warnings == [
        "ended before it was done; `pkgctl up` again goes on, `pkgctl down` removes it"
    ]


def test_secrets_of_the_user_do_not_reach_pulumi(monkeypatch):
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "theirs")
    monkeypatch.setenv("PULUMI_ACCESS_TOKEN", "theirs")

    environment = infra._environment({"PULUMI_BACKEND_URL": "file:///x"})

    assert "theirs" not in environment.values()
    assert environment["PULUMI_BACKEND_URL"] == "file:///x"


def invoke(*words):
    return CliRunner().invoke(cli.cli, words, standalone_mode=False)


def test_the_command_says_what_happens_as_it_comes(lab, engine):
    engine.events["up"] = [[ended("create", DOMAIN, "one")]]

    shown = invoke("up", "duo", "--provider", "libvirt", "--name", "lab")

    assert shown.exception is None
    assert shown.stdout.startswith("+ domain one\ntestbed lab is up: 1 changes (")


def test_json_has_stdout_for_itself(lab, engine):
    engine.events["up"] = [[ended("create", DOMAIN, "one")]]

    shown = invoke("up", "duo", "--provider", "libvirt", "--name", "lab", "-o", "json")

    told = json.loads(shown.stdout)
    assert set(told) == {"testbed", "changed", "changes", "warnings", "seconds"}
    assert told["changes"] == ["+ domain one"] and "+ domain one" in shown.stderr


def test_down_covers_machines_and_what_is_local(lab, engine, swept, monkeypatch):
    invoke("up", "duo", "--provider", "libvirt", "--name", "lab")

    shown = invoke("down", "--all")

    assert shown.exception is None and "testbed lab is down" in shown.stdout
    assert not lab.run.exists()


def test_a_name_of_the_other_provider_is_refused(lab, engine):
    invoke("up", "duo", "--provider", "libvirt", "--name", "lab")

    refused = invoke("up", "duo", "--name", "lab")

    assert isinstance(refused.exception, SpecError)
    assert "with provider libvirt" in str(refused.exception)


def test_options_of_machines_have_no_effect_on_local_nodes(lab):
    refused = invoke("up", "duo", "--image", "abc")

    assert "add --provider libvirt" in str(refused.exception)
