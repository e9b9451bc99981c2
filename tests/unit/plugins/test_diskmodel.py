# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import diskmodel, layers
from ansible_collections.pkgctl.testbed.plugins.module_utils.diskmodel import Scene, Wanted
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.filling import Room
from ansible_collections.pkgctl.testbed.plugins.module_utils.mounting import (
    DEAD,
    FOREIGN,
    MOUNTED,
    READONLY,
    UNMOUNTED,
    Seen,
)

MIB = 1 << 20
ROOM = Room(total=100 * MIB, free=80 * MIB, held=0)
HERE = Seen(MOUNTED, "/dev/loop3")
FOREIGN_MOUNT = Seen(FOREIGN, foreign="tmpfs (tmpfs)")


def composed(*bodies, health="running"):
    stored = {"base": {}, **{f"layer-{n}": {"data": body} for n, body in enumerate(bodies)}}
    return diskmodel.composed(stored, ["data"], health)["data"]


def test_disks_are_mounted_where_no_layer_says_otherwise():
    assert diskmodel.composed({}, ["data"]) == {"data": Wanted()}
    assert composed({"how": "lazy"}).condition == MOUNTED


@pytest.mark.parametrize(
    ("asked", "condition"),
    [
        (["mounted", "readonly"], "readonly"),
        (["unmounted", "readonly", "mounted"], "unmounted"),
        (["unmounted", "detached", "readonly"], "detached"),
    ],
)
def test_the_harshest_condition_of_all_layers_holds(asked, condition):
    assert composed(*({"condition": each} for each in asked)).condition == condition


def test_the_hardest_way_of_those_that_ask_for_it_is_taken():
    lazy = {"condition": "unmounted", "how": "lazy"}
    others = [{"condition": "unmounted"}, {"condition": "readonly", "how": "force"}]

    assert composed(lazy, *others).how == "lazy"
    assert composed(*others).how == "clean"


@pytest.mark.parametrize(
    ("body", "place", "how"),
    [
        ({"condition": "unmounted"}, "unmounted", "clean"),
        ({"condition": "unmounted", "how": "lazy"}, "unmounted", "lazy"),
        ({"condition": "readonly", "how": "force"}, "readonly", "force"),
        ({"condition": "detached", "how": "lazy"}, "unmounted", "pull"),
    ],
)
def test_a_detached_disk_is_pulled_whatever_is_said_of_how(body, place, how):
    wanted = composed(body)

    assert (wanted.place, wanted.how) == (place, how)


@pytest.mark.parametrize(
    ("health", "condition", "how"),
    [
        ("running", "readonly", "clean"),
        ("paused", "readonly", "clean"),
        ("stopped", "unmounted", "force"),
        ("crashed", "unmounted", "crash"),
    ],
)
def test_a_node_that_is_off_has_no_disk_mounted(health, condition, how):
    found = composed({"condition": "readonly"}, health=health)

    assert (found.condition, found.how) == (condition, how)
    assert composed({"condition": "detached"}, health=health).condition == "detached"


BODIES = st.fixed_dictionaries(
    {},
    optional={
        "condition": st.sampled_from(diskmodel.CONDITIONS),
        "how": st.sampled_from(diskmodel.HOWS),
        "fill": st.floats(0, 1),
        "size": st.integers(1, 1 << 30),
        "held": st.integers(0, 1 << 30),
    },
)


@given(st.lists(BODIES, max_size=4), st.randoms())
def test_the_order_of_layers_does_not_matter(bodies, random):
    shuffled = random.sample(bodies, len(bodies))

    first, second = composed(*bodies), composed(*shuffled)

    assert (first.condition, first.how, first.held) == (second.condition, second.how, second.held)
    assert sorted(first.pending) == sorted(second.pending)


@given(st.dictionaries(st.sampled_from("abc"), BODIES), st.sampled_from("abc"), BODIES)
def test_a_layer_that_came_and_went_leaves_what_was(bodies, name, body):
    before = {"base": {}, **{layer: {"data": each} for layer, each in bodies.items()}}
    before.pop(name, None)

    after = layers.changed(layers.changed(before, name, {"data": body}), name, None)

    assert diskmodel.composed(after, ["data"]) == diskmodel.composed(before, ["data"])
    assert layers.changed(after, None, None) == {"base": {}}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"condition": "gone"}, "data: condition: 'gone' is unknown; known are mounted, readonly"),
        ({"how": "softly"}, "data: how: 'softly' is unknown; known are clean, lazy, force"),
        ({"fill": 1.5}, "data: fill: must be a share from 0 to 1, not 1.5"),
        ({"fill": "90%"}, "data: fill: '90%' is no number"),
        ({"fill": True}, "data: fill: True is no number"),
        ({"size": 0}, "data: size: must be above zero, not 0"),
        ({"fil": 0.5}, "data: fil: unknown; known are condition, how, fill, size"),
    ],
)
def test_what_no_disk_can_be_is_refused(asked, words):
    with pytest.raises(DisturbanceError, match=words):
        diskmodel.check(["data"], {"data": asked})


def test_a_disk_that_is_not_there_is_named():
    with pytest.raises(DisturbanceError, match="no disk 'swap'; the node's disks are: data"):
        diskmodel.check(["data"], {"swap": {}})


def test_an_amount_is_worked_out_once_and_kept_while_the_same_is_asked():
    stored = {"base": {}, "full": {"data": {"fill": 0.5}}}

    first = diskmodel.measured(stored, {"data": ROOM})
    assert first["full"]["data"] == {"fill": 0.5, "held": 30 * MIB}
    assert diskmodel.measured(first, {"data": Room(100 * MIB, 10 * MIB, 0)}) == first

    own = first["full"]
    assert diskmodel.kept(own, {"data": {"fill": 0.5, "condition": "readonly"}}) == {
        "data": {"fill": 0.5, "condition": "readonly", "held": 30 * MIB}
    }
    assert diskmodel.kept(own, {"data": {"fill": 0.6, "held": 30 * MIB}}) == {"data": {"fill": 0.6}}
    assert diskmodel.kept(own, {"data": {"condition": "readonly"}}) == {
        "data": {"condition": "readonly"}
    }


def test_what_cannot_be_worked_out_yet_is_pending_in_words():
    stored = {"full": {"data": {"fill": 0.5, "size": 64 * MIB}}}

    assert diskmodel.measured(stored, {}) == stored
    assert diskmodel.composed(stored, ["data"])["data"].pending == ("fill to 50% and size 64Mi",)


@pytest.mark.parametrize(
    ("seen", "then", "lingers", "moving"),
    [
        (HERE, Wanted(MOUNTED), False, False),
        (HERE, Wanted(READONLY), False, True),
        (Seen(READONLY, "/dev/loop3"), Wanted(MOUNTED), False, True),
        (Seen(), Wanted(UNMOUNTED), False, False),
        (Seen(), Wanted(UNMOUNTED, "force"), True, True),
        (Seen(), Wanted("detached", "pull"), False, False),
        (Seen(), Wanted("detached", "pull"), True, True),
        (Seen(DEAD, "/dev/loop3"), Wanted(MOUNTED), False, True),
        (Seen(DEAD, "/dev/loop3"), Wanted(UNMOUNTED), False, True),
        (FOREIGN_MOUNT, Wanted(UNMOUNTED), False, False),
        (FOREIGN_MOUNT, Wanted(MOUNTED), False, False),
    ],
)
def test_a_disk_moves_if_it_is_not_what_is_asked(seen, then, lingers, moving):
    assert diskmodel.moves(seen, then, lingers=lingers) == moving


def test_bytes_are_held_back_only_of_a_disk_that_may_be_written():
    assert diskmodel.to_hold(Wanted(held=30 * MIB), ROOM) == 30 * MIB
    assert diskmodel.to_hold(Wanted(READONLY, held=30 * MIB), ROOM) is None
    assert diskmodel.to_hold(Wanted(held=30 * MIB), None) is None


def test_what_is_held_back_already_is_left_and_what_nobody_asks_for_is_given_back():
    there = Room(100 * MIB, 50 * MIB, 30 * MIB + 4096)

    assert diskmodel.to_hold(Wanted(held=30 * MIB), there) is None
    assert diskmodel.to_hold(Wanted(), there) == 0
    assert diskmodel.to_hold(Wanted(), Room(100 * MIB, 50 * MIB, 1)) == 0
    assert diskmodel.to_hold(Wanted(held=90 * MIB), there) == 80 * MIB + 4096


def test_actions_and_states_are_told_a_disk_a_line():
    scene = Scene({"data": HERE, "logs": FOREIGN_MOUNT, "swap": Seen()}, {"data": ROOM})
    before = {"data": Wanted(), "logs": Wanted(), "swap": Wanted("detached", "pull")}
    then = {
        "data": Wanted(held=30 * MIB),
        "logs": Wanted(),
        "swap": Wanted(pending=("fill to 50%",)),
    }

    assert diskmodel.actions(scene, then, ["swap"]) == [
        "data: 30Mi held back",
        "logs: tmpfs (tmpfs) is in the way",
        "swap: mounted",
        "swap: fill to 50%",
    ]
    assert diskmodel.show_now(scene, before) == (
        "data: mounted\nlogs: tmpfs (tmpfs)\nswap: detached\n"
    )
    assert diskmodel.show_then(scene, then) == (
        "data: mounted, 30Mi held back\nlogs: mounted\nswap: mounted, fill to 50%\n"
    )
