# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from pkgctl import project, spec
from pkgctl.errors import SpecError
from pkgctl.measure.catalogue import METRICS
from pkgctl.scheduling.delegated import KUBE_SCHEDULER
from pkgctl.scheduling.registry import PROVISIONERS, SCHEDULERS

from .conftest import SMALL


def test_each_combination_of_levels_is_a_cell_with_its_values_put_in(small):
    found = small()

    assert [cell.id for cell in found.cells] == [
        "replicas=1,perturb=none",
        "replicas=1,perturb=slow",
        "replicas=2,perturb=none",
        "replicas=2,perturb=slow",
    ]
    assert [cell.body.services["web"].replicas for cell in found.cells] == [1, 1, 2, 2]
    assert [cell.body.active for cell in found.cells] == [(), ("slow",), (), ("slow",)]


def test_an_experiment_without_factors_has_one_cell_with_every_perturbation(small):
    text = SMALL.replace("factors:\n  replicas: [1, 2]\n  perturb: [none, slow]\n", "")

    found = small(text=text.replace("${replicas}", "3"))

    assert [cell.id for cell in found.cells] == [""]
    assert found.cells[0].body.active == ("slow",)


def test_quantities_are_plain_numbers_in_base_units(small):
    body = small().cells[0].body
    web, load = body.services["web"], body.load[0]

    assert (web.resources.cpu, web.resources.memory, web.artifact) == (0.1, 40 << 20, 1 << 20)
    assert (web.request.cpu, web.request.bytes_in, web.request.bytes_out) == (0.002, 1024, 8192)
    assert (web.slo.latency, web.slo.at) == (0.15, 0.95)
    assert (load.arrivals.poisson, load.duration) == (50.0, 4.0)
    assert body.duration == 4.0


def test_a_setting_overrides_a_key_deep_in_the_file(small):
    found = small("load.0.duration=9s", "services.web.slo.at=99%", "repeats=5")

    assert found.cells[0].body.load[0].duration == 9.0
    assert found.cells[0].body.services["web"].slo.at == 0.99
    assert found.head.repeats == 5


def test_a_setting_may_be_a_list(small):
    found = small("factors.replicas=[4, 8, 16]")

    assert [cell.factors["replicas"] for cell in found.cells] == [4, 4, 8, 8, 16, 16]


def test_a_factor_named_after_a_key_sets_it_without_a_place(small):
    found = small("factors.scheduler=[random, nearest]")

    assert {cell.body.scheduler for cell in found.cells} == {"random", "nearest"}


def test_several_perturbations_make_one_level(small):
    text = SMALL + "  lossy: {node: edge-1, loss: 1%, start: 1s, duration: 1s}\n"

    found = small("factors.perturb=[slow, slow+lossy, all]", text=text)

    active = [cell.body.active for cell in found.cells[:3]]
    assert active == [("slow",), ("slow", "lossy"), ("slow", "lossy")]


def test_a_parameter_takes_its_default_or_what_is_set(small):
    text = SMALL.replace("duration: 4s", 'duration: "${long}"') + "parameters: {long: 4s}\n"

    assert small(text=text).cells[0].body.load[0].duration == 4.0
    assert small("long=7s", text=text).cells[0].body.load[0].duration == 7.0


def test_a_parameter_without_a_value_says_how_to_give_one(small):
    text = SMALL.replace("4s", '"${long}"')
    text += "parameters: {long: {required: true, help: how long}}\n"

    with pytest.raises(SpecError, match=r"--set long=VALUE \(how long\)"):
        small(text=text)


def test_a_trace_is_looked_for_beside_the_file_first(small, tmp_path, monkeypatch):
    (tmp_path / "beside").mkdir()
    (tmp_path / "here").mkdir()
    for name in ("beside", "here"):
        (tmp_path / name / "t.csv").write_text("time\n1\n")
    monkeypatch.chdir(tmp_path / "here")

    assert spec.check.trace_path("t.csv", tmp_path / "beside/x.yaml") == tmp_path / "beside/t.csv"
    assert spec.check.trace_path("t.csv", tmp_path / "x.yaml") == Path("t.csv")


ERRORS = {
    "unknown key": ("seed: 7", "sead: 7", r"small.yaml:4: sead: unknown key; did you mean seed\?"),
    "no whole number": ("seed: 7", "seed: seven", r":4: seed: found 'seven'; .*integer"),
    "missing question": ("question: Does it work?\n", "", r"the key question is missing"),
    "no name": ("name: small", "name: Small One", r":1: name: 'Small One' is no name"),
    "unknown topology": ("three-sites", "three-sides", r"did you mean three-sites\?"),
    "unknown key below": ("cpu: 2ms", "cpus: 2ms", r"request.cpus: .*did you mean cpu\?"),
    "negative replicas": ("[1, 2]", "[1, -2]", r"web.replicas: found -2; .*greater than"),
    "rate without unit": ("50/s", "50", r"poisson: 50 is no frequency; write one such as 30/s"),
    "never arrives": ("50/s", "0/s", r"'0/s' never happens"),
    "two processes": ("{poisson: 50/s}", "{poisson: 50/s, constant: 5/s}", r"exactly one of"),
    "no process": ("{poisson: 50/s}", "{}", r"exactly one of poisson, constant, trace, at; .*none"),
    "head of no trace": ("{poisson: 50/s}", "{poisson: 5/s, head: 3}", r"head belongs to a trace"),
    "no trace file": ("{poisson: 50/s}", "{trace: x.csv}", r"arrivals.trace: no file 'x.csv'"),
    "no duration": ("duration: 4s", "duration: 4", r"duration: duration 4 has no unit"),
    "zero duration": ("duration: 4s", "duration: 0s", r"duration '0s' must be above zero"),
    "unknown service": ("{service: web", "{service: wep", r"load\[0\].service: .*did you mean web"),
    "unknown site": ("{site: edge-b}", "{site: edge-c}", r"load\[0\].from: .*'edge-c'; did you"),
    "unknown selector": ("{site: edge-b}", "{sight: edge-b}", r"from: sight: unknown; .*site\?"),
    "unknown scheduler": ("least-allocated", "least-loaded", r"place.scheduler: .*least-allocated"),
    "unknown perturbation": ("[none, slow]", "[none, slo]", r"factors.perturb: .*mean slow\?"),
    "bad rate": ("bw: 5mbit", "bw: 5mbps", r"slow: bw: .*tc reads as bytes.*mean 5mbit\?"),
    "bad word": ("bw: 5mbit", "rate: 5mbit", r"slow: rate: unknown word; did you mean bw\?"),
    "site of perturbation": (
        "{site: edge-a, bw",
        "{site: edge-x, bw",
        r"perturbations.slow: site:",
    ),
    "never begins": ("start: 1s, duration: 2s", "start: 9s", r"slow: start: the run is over by"),
    "long name": ("  web:", f"  w{'e' * 40}b:", r"services.*is too long; 40 characters are"),
    "timeline": ("bw: 5mbit", "timeline: x", r"timeline: the experiment sets it; leave it out"),
    "unused factor": ("${replicas}", "3", r"factors.replicas: is used nowhere; put \$\{replicas\}"),
    "unknown place": ("${replicas}", "${replica}", r"web.replicas: .* did you mean replicas\?"),
    "level twice": ("[1, 2]", "[1, 1]", r"factors.replicas: has a level twice"),
    "no levels": ("[1, 2]", "[]", r"factors.replicas: found \[\]"),
    "too many cells": ("[1, 2]", str(list(range(600))), r"factors: make 1200 cells; 1000 are"),
    "unknown measure": ("seed: 7", "measure: [speed]", r"measure\[0\]: nothing is called 'speed'"),
    "nothing to run": ("load:\n  - {", "jobs: {}\nx:\n  - {", r"x: unknown key"),
    "slo above one": ("at: 95%", "at: 195%", r"slo.at: .*above 100%"),
    "key twice": ("seed: 7", "seed: 7\nseed: 8", r"seed: the key stands twice, first in line 4"),
    "unquoted": ("duration: 4s", "duration: ${x}", r'needs quotes: \{replicas: "\$\{replicas'),
    "no mapping": (SMALL, "- a\n- b\n", r"holds no keys"),
    "empty": (SMALL, "", r"is empty"),
}


@pytest.mark.parametrize(("old", "new", "expected"), ERRORS.values(), ids=ERRORS.keys())
def test_what_is_wrong_with_a_file_is_one_line_that_names_the_place(small, old, new, expected):
    assert old in SMALL

    with pytest.raises(SpecError, match=expected) as caught:
        small(text=SMALL.replace(old, new, 1))

    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


SETTINGS = {
    "no equals": ("repeats", r"--set 'repeats' is no setting; write key=value"),
    "unknown key": ("repeat=1", r"--set repeat=1: no such key or parameter; did you mean repeats"),
    "beyond a list": ("load.3.duration=1s", r"load is a list of 1; '3' is no place in it"),
    "through a number": ("seed.x=1", r"seed is 7, which has no keys in it"),
    "empty part": ("load..duration=1s", r"a part of the key path is empty"),
    "bad value": ("load.0.duration=1", r"--set load.0.duration=1: load\[0\].duration: .*no unit"),
    "no YAML": ("seed=[", r"no valid YAML"),
}


@pytest.mark.parametrize(("setting", "expected"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_wrong_setting_is_named_with_what_is_wrong(small, setting, expected):
    with pytest.raises(SpecError, match=expected):
        small(setting)


def test_a_parameter_may_not_have_the_name_of_a_key(small):
    with pytest.raises(SpecError, match=r"parameters.seed: is a key of the file too"):
        small(text=SMALL + "parameters: {seed: 3}\n")


def test_a_binary_or_huge_file_is_refused_in_one_line(tmp_path):
    for name, content in (("binary.yaml", b"\x00\x01\xff"), ("huge.yaml", b"a" * (2 << 20))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SpecError) as caught:
            spec.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_an_unknown_experiment_is_answered_with_the_nearest_name():
    with pytest.raises(SpecError, match=r"did you mean scaling\?"):
        spec.load("scalling")


def test_the_measures_are_those_that_exist():
    groups = {metric.group for metric in METRICS.values()}

    assert {"latency", "throughput", "provisioning", "scaling", "utilisation", "jobs"} <= groups
    assert set(spec.MEASURES) - {"slo"} <= groups


def test_the_experiments_that_come_with_pkgctl_use_known_deciders():
    for name in project.names(project.experiments()):
        for cell in spec.load(name).cells:
            assert cell.body.scheduler in {*SCHEDULERS, KUBE_SCHEDULER}
            assert cell.body.provision in PROVISIONERS
