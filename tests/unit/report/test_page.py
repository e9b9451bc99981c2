# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import polars as pl
import pytest

from pkgctl.errors import ResultsError
from pkgctl.measure.results import LINKS
from pkgctl.report import build
from tests.unit.report.synthetic import NODES, Shape, links_of, write_run

MEBIBYTE = 1 << 20
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a test asks of a page: its elements, texts, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[str(self.elements[-1][1].get("id"))] = data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def source(whole):
    return build(whole).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def built(folder):
    return Page(build(folder).read_text(encoding="utf-8"))


def test_the_report_stands_in_the_folder_with_its_numbers(whole):
    path = build(whole)

    assert path == whole / "report.html"
    assert (whole / "metrics.parquet").exists()
    assert json.loads((whole / "summary.json").read_text())["answer"]
    assert path.stat().st_size < 6 * MEBIBYTE


def test_the_same_run_gives_the_same_report(whole, source):
    assert build(whole).read_text(encoding="utf-8") == source


def test_nothing_is_loaded_from_anywhere(source, page):
    assert "http://" not in source
    assert "https://" not in source
    assert not re.search(r"@import|url\(", source)
    for tag in ("link", "img", "iframe", "object", "base"):
        assert page.all(tag) == []
    assert all("src" not in attrs for attrs in page.all("script"))
    assert all(attrs["href"].startswith("#") for attrs in page.all("a"))


def test_the_browser_is_told_to_load_nothing(page):
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)

    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy


def test_every_element_is_closed_and_every_id_is_there_once(page):
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for attrs in page.all("a"):
        assert attrs["href"][1:] in ids


def test_the_question_and_its_answer_are_in_words(page):
    assert "What does it cost to scale an edge service" in page.text
    text = page.text.replace("\xa0", " ")
    assert "Going from replicas = 1 to 8 cut the p95 latency of web from 132 ms" in text
    assert "18 of 19" in text


def test_the_drawing_library_is_packed_inside(page):
    code = gzip.decompress(base64.b64decode(page.scripts["drawing"])).decode()

    assert "plotly.js" in code[:200]


def test_every_panel_has_a_place_and_a_description(page):
    panels = json.loads(page.scripts["figures"])
    places = {a["id"]: a for a in page.all("div") if a.get("class") == "plot"}

    assert [panel["id"] for panel in panels] == list(places)
    assert len(panels) >= 10
    for attrs in places.values():
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 30


def test_tables_have_captions_and_headings_are_in_order(page):
    assert len(page.all("caption")) == len(page.all("table")) > 5
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(two - one <= 1 for one, two in pairwise(levels))


def test_colours_of_drawings_are_names_of_both_themes(source, page):
    names = set(re.findall(r'"@(\w+)"', page.scripts["figures"] + page.scripts["None"]))
    themes = re.findall(r"\{[^{}]*--s1:[^{}]*\}", source)

    assert len(themes) == 3
    assert names >= {"s1", "s2", "shade", "t0"}
    for theme in themes:
        assert all(f"--{name}:" in theme for name in names), names


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_texts_and_lines_stand_out_in_both_themes(source):
    for theme in re.findall(r"\{[^{}]*--s1:[^{}]*\}", source):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))
        for ground in ("bg", "card"):
            for name in ("text", "muted", "accent", "good", "bad"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
            for name in (*(f"s{at}" for at in range(1, 7)), "t0", "t1", "t2", "t3"):
                assert contrast(colours[name], colours[ground]) >= 3.0, (name, ground)
        for name in ("good", "bad"):
            assert contrast(colours[name], colours[f"{name}-soft"]) >= 4.5


def test_provenance_and_inputs_are_inline(page):
    for text in ("pkgctl experiment scaling.yaml", "6.8.0-test", "delay line", "8.0 GiB", "3.11.7"):
        assert text in page.text
    assert "experiment.yaml" in page.text and "bw: 5mbit" in page.text


def test_the_status_is_told(page):
    assert "complete" in page.text
    assert "8 cells, 24 runs" in page.text


# What is not as it should be


def edit(folder, change):
    path = folder / "run.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_an_interrupted_run_tells_what_is_missing(tmp_path):
    folder = write_run(tmp_path / "run", Shape(status="interrupted", repeats=2))

    def cut(found):
        runs = [run for cell in found["cells"] for run in cell["runs"]]
        for run in runs[5:]:
            run.update(status="missing", folder=None)

    edit(folder, cut)
    (folder / "links.parquet").unlink()
    (folder / "events.parquet").unlink()
    text = built(folder).text

    assert "interrupted" in text
    assert "Only 5 of 16 planned repeats were measured" in text
    assert "replicas=2,perturb=none, repeat 1: not measured" in text
    assert "links.parquet: missing" in text
    assert "No link was measured" in text


@pytest.mark.parametrize(
    "shape",
    [
        Shape(rate=0.0),
        Shape(repeats=1),
        Shape(factors={}),
        Shape(factors={"scheduler": ["a", "b", "c"]}, batch=True),
        Shape(factors={"replicas": [1]}, rate=90.0),
        Shape(factors={"replicas": [2, 4]}, windows=False, objective=False),
        Shape(factors={"perturb": ["none", "slow-uplink"]}, repeats=2),
    ],
    ids=[
        "no requests",
        "one repeat",
        "no factors",
        "names",
        "overload",
        "no windows",
        "one factor",
    ],
)
def test_an_unusual_run_has_a_report_all_the_same(tmp_path, shape):
    page = built(write_run(tmp_path / "run", shape))

    assert page.open == []
    assert "nan" not in page.scripts["figures"].lower().split('"')
    assert page.all("h1")


def test_no_requests_are_told(tmp_path):
    page = built(write_run(tmp_path / "run", Shape(rate=0.0)))

    assert "No request was recorded" in page.text


def test_a_run_without_cells_has_a_report(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 1, "name": "empty"}')

    page = built(tmp_path)

    assert "No run was planned" in page.text
    assert json.loads(page.scripts["figures"]) == []
    assert page.scripts.get("drawing", "") == ""


def test_every_table_may_be_missing(tmp_path):
    folder = write_run(tmp_path / "run", Shape(repeats=1))
    for path in folder.rglob("*.parquet"):
        path.unlink()
    for name in ("experiment.yaml", "topology.yaml"):
        (folder / name).unlink()

    page = built(folder)

    assert "cells/000-r0/requests.parquet: missing" in page.text
    assert "No request was recorded" in page.text


def test_names_and_texts_of_a_run_are_never_markup(tmp_path):
    evil = '</script><script>alert("x")</script>'
    folder = write_run(tmp_path / "run", Shape(factors={evil: [evil, "b"]}, repeats=1))
    edit(folder, lambda found: found.update(question=evil, name=evil, warnings=[evil]))
    (folder / "experiment.yaml").write_text(evil)

    page = built(folder)

    assert page.open == []
    assert len(page.all("script")) == 3
    assert evil in page.text
    assert evil not in page.scripts["figures"]


def test_a_hundred_nodes_stay_readable(tmp_path):
    folder = write_run(tmp_path / "run", Shape(factors={"replicas": [1]}, repeats=1))
    names = [f"node-{at}" for at in range(100)]
    rows = [dict.fromkeys(LINKS) | row for row in links_of(names)]
    pl.DataFrame(rows, schema=dict(LINKS), strict=False).write_parquet(folder / "links.parquet")
    nodes = [dict(NODES[1], name=name, site=f"s{at // 25}") for at, name in enumerate(names)]
    edit(folder, lambda found: found["topology"].update(nodes=nodes))

    page = built(folder)

    assert "100 nodes are shown by site" in page.text
    assert "9600 more are in links.parquet" in page.text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="not found"):
        build(tmp_path)
