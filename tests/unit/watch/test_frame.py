# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from pkgctl.watch import frame, lines
from pkgctl.watch.keys import PANELS, View
from tests.unit.watch.made import node, picture

SIZES = [(80, 24), (200, 60), (40, 10)]


def text(count=7, width=80, height=24, view=None, **changes):
    drawn = frame.frame(picture(count, **changes), width, height, view or View())
    return [line.text for line in drawn]


def names(rows):
    return [row.split()[0] for row in rows if row.startswith("edge-") and "->" not in row]


@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize(("width", "height"), [*SIZES, (20, 3), (25, 5), (500, 400)])
@pytest.mark.parametrize("view", [View(), View(help=True), View(typing=True, filter="x")])
def test_a_frame_fills_its_rectangle_and_no_more(count, width, height, view):
    drawn = frame.frame(picture(count), width, height, view)

    assert len(drawn) == height
    assert {len(line) for line in drawn} == {width}
    assert all(" " <= sign <= "~" for line in drawn for piece, _ in line.pieces for sign in piece)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_size_shows_the_title_a_node_a_link_a_layer_and_the_keys(width, height):
    shown = text(width=width, height=height)

    assert shown[0].startswith("pkgctl top")
    assert any(row.startswith("edge-0 ") and "->" not in row for row in shown)
    assert any(row.startswith("edge-0 -> edge-1") for row in shown)
    assert any(row.startswith("slow") and "30s left" in row for row in shown)
    assert shown[-1].startswith("q quit")


def test_80_columns_have_every_figure_of_a_node():
    shown = text()

    head = ["NODE", "CPU", "CORES", "THR", "MEMORY", "DISK", "READ", "WRITE", "RX", "TX", "JOBS"]
    assert shown[1].split() == head
    assert " ".join(shown[3].split()) == "edge-1 10% 0.1/1 3% 37M/384M 16% 1.43M 0 1M 23.4k 1"


def test_a_link_shows_what_is_asked_beside_what_was_seen():
    row = next(row for row in text() if row.startswith("edge-0 -> edge-1"))

    assert row.split()[3:] == ["5M", "4.9M", "98%", "40ms+-2ms", "2%", "1.9%", "1%"]


def test_a_narrow_terminal_keeps_what_matters_most():
    head = text(width=40, height=10)[1]

    assert "CPU" in head and "MEMORY" in head
    assert "SITE" not in head and "JOBS" not in head


def test_a_wide_terminal_has_room_for_the_sites():
    assert "SITE" in text(width=200, height=60)[1]


def test_all_is_shown_where_there_is_room():
    shown = text(width=200, height=60)

    assert len(names(shown)) == 7
    assert sum("->" in row and row.startswith("edge-") for row in shown) == 14
    assert not any("/7" in row for row in shown)


def test_a_hundred_nodes_are_scrolled_through():
    first = text(100)
    later = text(100, view=View(offsets=(50, 0, 0)))

    assert names(first)[0] == "edge-0" and "1-" in first[1] and "/100" in first[1]
    assert names(later)[0] == "edge-50" and "51-" in later[1]


def test_scrolling_ends_with_the_last_row_at_the_bottom():
    made = picture(100)

    settled = frame.settle(made, 24, View(offsets=(1 << 30,) * PANELS))

    assert names([line.text for line in frame.frame(made, 80, 24, settled)])[-1] == "edge-99"
    assert settled == frame.settle(made, 24, settled)


@pytest.mark.parametrize(
    ("sort", "first"), [("", "edge-0"), ("cpu", "edge-6"), ("network", "edge-99")]
)
def test_nodes_are_sorted_by_what_is_asked(sort, first):
    assert names(text(100, view=View(sort=sort)))[0] == first


def test_nodes_are_sorted_by_the_part_of_their_memory():
    nodes = [node(1, memory=300 << 20), node(2, memory=90 << 20, memory_limit=100 << 20)]

    assert names(text(nodes=nodes, view=View(sort="memory"))) == ["edge-2", "edge-1"]


def test_the_filter_chooses_by_node_or_site_and_their_links():
    assert names(text(100, view=View(filter="edge-42"))) == ["edge-42"]
    by_site = text(8, height=60, view=View(filter="SITE-3"))
    assert names(by_site) == ["edge-3", "edge-7"]
    assert all("edge-3" in row or "edge-7" in row for row in by_site if " -> " in row)


def test_a_node_that_does_not_run_says_so():
    shown = text(nodes=[node(0), node(1, health="crashed")])

    assert "STATE" in shown[1]
    assert shown[3].split()[:2] == ["edge-1", "crashed"]
    assert "STATE" not in text()[1]


def test_what_is_not_known_is_a_dash_and_never_a_zero():
    bare = node(1, cpu=None, throttled=None, memory=None, disk=None, rx=None, read=None)

    row = text(nodes=[bare])[2]

    assert row.split()[1:8] == ["-", "-/1", "-", "-/384M", "-", "-", "0"]


def test_notes_are_said_at_the_top():
    assert text(notes=("the agent does not answer",))[1] == "! the agent does not answer"


def test_characters_that_could_move_the_cursor_are_not_passed_on():
    shown = text(nodes=[replace(node(1), name="a\x1b[2Jb±")])

    assert shown[2].startswith("a?[2Jb+-")


def test_the_view_is_said_in_the_title():
    title = text(width=120, view=View(paused=True, sort="cpu", filter="edge"))[0]

    assert all(word in title for word in ("PAUSED", "by cpu", "only edge", "test (made)"))


def test_the_title_leaves_out_what_does_not_fit():
    assert text(width=30, height=10)[0] == "pkgctl top  test (made)"


def test_the_filter_is_typed_at_the_bottom():
    assert text(view=View(typing=True, filter="edge"))[-1] == "filter: edge_"


def test_help_explains_every_key():
    shown = "\n".join(text(height=40, view=View(help=True)))

    assert all(word in shown for word in ("q,", "c  m  n", "/", "space", "PgUp", "Tab"))


def test_help_fits_24_rows():
    shown = text(view=View(help=True))

    assert any(row.startswith("Layers") for row in shown)


def test_levels_are_told_by_colours():
    full = node(1, memory=380 << 20, cpu=0.75, throttled=0.3)
    drawn = frame.frame(picture(1, nodes=[full]), 80, 24)[2]

    styles = {piece.strip(): style for piece, style in drawn.pieces if piece.strip()}
    assert styles["380M/384M"] == lines.BAD
    assert styles["75%"] == lines.WARN
    assert styles["30%"] == lines.BAD


@pytest.mark.parametrize(
    ("space", "wanted", "given"),
    [
        (21, [8, 40, 3], [8, 10, 3]),
        (21, [101, 200, 3], [12, 6, 3]),
        (8, [8, 40, 3], [4, 2, 2]),
        (3, [8, 40, 3], [3, 0, 0]),
        (5, [8, 40, 3], [5, 0, 0]),
        (1, [8, 40, 3], [0, 0, 0]),
        (50, [8, 4, 0], [8, 4, 0]),
        (0, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_room_is_divided_among_the_tables(space, wanted, given):
    assert frame.divide(space, wanted) == given


def test_plain_text_has_all_nodes_and_layers_and_the_busiest_links():
    shown = frame.whole(picture(100), 100)

    assert len(names(shown)) == 100
    assert sum(" -> " in row for row in shown if row.startswith("edge-")) == 20
    assert shown[-1].startswith("flap")
    assert "\x1b" not in "".join(shown)
