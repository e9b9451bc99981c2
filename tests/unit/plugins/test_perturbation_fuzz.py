# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten thousand malformed perturbations: each is refused in one line, or means something."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import Any

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import perturbation, words
from ansible_collections.pkgctl.testbed.plugins.module_utils.selection import Node

SEED = 7067
INPUTS = 10_000
MOST_GROWTH = 4 << 20

NODES = (
    Node("cloud-1", "cloud", "cloud", "server", {"gpu": "yes"}, ("data",)),
    Node("edge-1", "edge-a", "edge", "tiny", {}, ("data", "logs")),
    Node("edge-2", "edge-a", "edge", "tiny"),
)
RIGHT: dict[str, tuple[object, ...]] = {
    "name": ("slow", "perturb"),
    "src": ("edge-1", "edge", "random 1 of edge"),
    "dst": ("cloud-1", "*"),
    "site": ("edge-a", {"site": "cloud"}),
    "node": ("edge-1", "label:gpu=yes", {"random": 1, "of": "*"}),
    "select": ("random 50% of *",),
    "seed": (7, "7"),
    "direction": ("to", "both"),
    "bw": ("5mbit",),
    "delay": ("40ms",),
    "jitter": ("4ms",),
    "distribution": ("normal", "/no/such/file"),
    "loss": ("1%", 0.01),
    "burst": (5,),
    "duplicate": ("1%",),
    "reorder": ("1%",),
    "corrupt": ("1%",),
    "partition": (True, "yes"),
    "cpu": ("0.2", 1),
    "mem": ("128Mi",),
    "io": ("1Mi/s",),
    "read": ("1Mi",),
    "write": ("1Mi",),
    "iops": (100,),
    "slow": ("20ms",),
    "pids": (64,),
    "disk": ("unmounted", "data:readonly"),
    "how": ("lazy",),
    "fill": ("90%", "data:90%"),
    "disk_size": ("64Mi",),
    "health": ("paused", "isolated"),
    "stress_cpu": (1.5,),
    "stress_mem": ("64Mi",),
    "stress_io": (1,),
    "start": ("2s",),
    "duration": ("30s",),
    "ramp": ("5s/4",),
    "repeat": ("3/40s",),
    "flap": ("2s/1s/random",),
    "trace": ([[0, {"rate": 1000}], [1, {"rate": 2000}]], "/no/such/file.csv"),
    "when": ("requests > 1000", "node edge-2 ready"),
    "after": ("slow + 5s",),
    "lease": ("10m", "none"),
    "timeline": ("storm",),
    "force": (True,),
}
ODD: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 10**5000, -(10**400), 1e308, -1e308, 1e-320),
    *(float("nan"), float("inf"), "", " ", "\0", "\n", "\ud800", "∞", "٣ms", "1e9", "0x10"),
    *("x" * 100_000, "9" * 10_000 + "ms", "-" * 999, "[" * 500, "*" * 150, "[!]*?" * 30),
    *((), [], {}, [[]], {"": ""}, {None: None}, [None], {"a": {"b": {"c": []}}}, b"bytes"),
    *("random 1 of " * 3000 + "*", "a," * 20_000, "a:b:c", "label:=", "random 1% of [a-", "1/2/3"),
    *([["0", {}]] * 50, [[0, {"rate": "x"}]], {"random": 1}, {"of": "*"}, set(), object),
)


def test_the_table_of_right_values_has_every_word():
    assert set(RIGHT) == set(words.WORDS)


def mutated(rng: random.Random, text: str) -> str:
    """Return a text with some characters dropped, doubled, swapped or made up."""
    characters = list(text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(characters) + 1)
        piece = rng.choice(["", "", "-", ":", "/", "%", ",", " ", "+", ">", "\x7f", "é", "0", "m"])
        characters[at : at + rng.randint(0, 2)] = list(piece) * rng.randint(1, 3)
    return "".join(characters)


def value(rng: random.Random, word: str) -> object:
    right = rng.choice(RIGHT.get(word, ODD))
    way = rng.random()
    if way < 0.45:
        return right
    if way < 0.75 and isinstance(right, str):
        return mutated(rng, right)
    if way < 0.85:
        return rng.choice(rng.choice(list(RIGHT.values())))
    return rng.choice(ODD)


def malformed(rng: random.Random) -> dict[Any, object]:
    """Return words of which most are right, so that what is judged late is reached too."""
    chosen = rng.sample([*RIGHT], rng.choice((0, 1, 1, 2, 2, 3, 4, 6)))
    given: dict[Any, object] = {word: value(rng, word) for word in chosen}
    if rng.random() < 0.1:
        odd = rng.choice(ODD)
        key = odd if isinstance(odd, (str, int, float, type(None))) else mutated(rng, "delay")
        given[key] = rng.choice(ODD)
    return given


def outcome(given: dict[Any, object]) -> str:
    """Return what became of an input: refused, or what it plans for."""
    try:
        asked = perturbation.read(given)
        asked.times()
        plan = asked.plan(NODES)
    except ValueError as error:
        text = str(error)
        assert text
        assert len(text) < 2000
        assert len(text.splitlines()) == 1
        return "refused"
    assert plan
    return "planned"


def test_ten_thousand_malformed_inputs_are_refused_in_one_line_or_mean_something():
    rng = random.Random(SEED)
    for _ in range(500):
        outcome(malformed(rng))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = [outcome(malformed(rng)) for _ in range(INPUTS)]
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    print(f"seed {SEED}: {found.count('refused')} refused, {found.count('planned')} planned")
    assert found.count("planned") > INPUTS / 20
    assert found.count("refused") > INPUTS / 3
    assert grown < MOST_GROWTH


@pytest.mark.parametrize("word", [*RIGHT])
def test_every_odd_value_of_a_word_is_refused_or_means_something(word):
    for odd in ODD:
        outcome({"cpu": 1, word: odd})
