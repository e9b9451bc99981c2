# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from pydantic import Field

from pkgctl import documents
from pkgctl.documents import Strict
from pkgctl.errors import SpecError


class Part(Strict):
    size: int = Field(ge=1)
    sort: str = Field(default="", alias="kind")


class Whole(Strict):
    name: str
    parts: list[Part] = Field(default=[])


def parse(text):
    return documents.parse(text, "file.yaml", "topology")


def test_plain_words_mean_what_they_look_like():
    text = "on: no\nyes: [true, 1, 1.5, 010, 1:30, 2024-01-01, ~, 0x10, 1e3, 'true', 1_000]"

    values = parse(text).values

    words = [True, 1, 1.5, "010", "1:30", "2024-01-01", None, "0x10", "1e3", "true", "1_000"]
    assert values == {"on": "no", "yes": words}


def test_aliases_and_merges_are_understood():
    text = "base: &base {cpu: 1, memory: 2}\nmine: {<<: *base, memory: 3}\nalso: *base"

    values = parse(text).values

    assert values["mine"] == {"cpu": 1, "memory": 3}
    assert values["also"] == {"cpu": 1, "memory": 2}


@pytest.mark.parametrize(
    ("text", "start", "hint"),
    [
        ("", "file.yaml: ", "is empty"),
        ("# only words\n", "file.yaml: ", "is empty"),
        ("- a\n- b\n", "file.yaml:1: ", "holds no keys"),
        ("just words", "file.yaml:1: ", "holds no keys"),
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3: a: ", "first in line 1"),
        ("a:\n\tb: 1\n", "file.yaml:2: ", "indent with spaces"),
        ("a: [1, 2\nb: 3\n", "file.yaml:2: ", "no valid YAML"),
        ("a: !!python/object:os.system {}\n", "file.yaml:1: a: ", "tag"),
        ("a: !secret x\n", "file.yaml:1: a: ", "tag"),
        ("? [1, 2]\n: 3\n", "file.yaml:1: ", "a key must be a word"),
        ("a: 1\n---\nb: 2\n", "file.yaml:2: ", "single document"),
        ("a: *nobody\n", "file.yaml:1: ", "alias"),
        ("a: &a [*a]\n", "file.yaml:1: ", "repeat one another"),
        ("a: " + "[" * 200_000, "file.yaml:1: ", "more than 40 levels"),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(999)), "file.yaml:41: ", "more than 40"),
    ],
)
def test_a_text_that_is_no_document_is_refused_in_one_line(text, start, hint):
    with pytest.raises(SpecError) as caught:
        parse(text)

    message = str(caught.value)
    assert message.startswith(start)
    assert hint in message
    assert "\n" not in message and len(message) < 300


def test_aliases_that_grow_without_bounds_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    with pytest.raises(SpecError, match="repeat one another"):
        parse("\n".join(lines))


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"\x7fELF\x02\x00", "binary"),
        (b"name: caf\xe9\n", "UTF-8"),
        (b"", "empty"),
        (b"a: 1\n" + b"#" * (1 << 20), "over 1 MiB"),
    ],
)
def test_a_file_that_is_no_small_text_is_refused(tmp_path, data, hint):
    path = tmp_path / "input.yaml"
    path.write_bytes(data)

    with pytest.raises(SpecError, match=hint) as caught:
        documents.read(path, "topology")

    assert str(path) in str(caught.value)


def test_a_huge_file_is_refused_without_being_read_whole(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # a hole: no program could read it into memory here

    with pytest.raises(SpecError, match="over 1 MiB"):
        documents.read(path, "topology")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nparst: []", "file.yaml:2: parst: unknown key; did you mean parts?"),
        ("name: a\nparts:\n- {siz: 1}", "file.yaml:3: parts[0].siz: unknown key; did you mean"),
        ("parts: []", "file.yaml:1: the key name is missing"),
        ("name: a\nparts:\n- {}", "file.yaml:3: parts[0]: the key size is missing"),
        ("name: a\nparts:\n- size: 0", "file.yaml:3: parts[0].size: found 0; "),
        ("name: a\nparts: 5", "file.yaml:2: parts: found 5; input should be a valid list"),
        ("name: a\nparts: [5, 6]", "(and 1 more)"),
    ],
)
def test_a_wrong_value_is_named_by_file_line_and_key(text, message):
    with pytest.raises(SpecError) as caught:
        parse(text).check(Whole.model_validate)

    assert message in str(caught.value)


def test_a_document_over_another_wins_key_by_key_and_adds_to_its_lists():
    under = documents.parse("a: 1\nb: {x: 1, y: 2}\nlist: [1, 2]", "under.yaml", "topology")
    over = documents.parse("\n\nb: {y: 3}\nlist:\n- 9", "over.yaml", "topology")

    both = over.over(under)

    assert both.values == {"a": 1, "b": {"x": 1, "y": 3}, "list": [1, 2, 9]}
    assert str(both.error("bad", "list", 2)) == "over.yaml:5: list[2]: bad"
    assert str(both.error("bad", "list", 1)) == "under.yaml:3: list[1]: bad"
    assert str(both.error("bad", "b", "x")) == "under.yaml:2: b.x: bad"
    assert str(both.error("bad", "b", "y")) == "over.yaml:3: b.y: bad"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("[1, 2]", [1, 2]), ("5mbit", "5mbit"), ("{a: b}", {"a": "b"}), ("", None)],
)
def test_a_value_from_a_command_line_is_read_like_one_from_a_file(text, value):
    assert documents.read_scalar(text) == value
