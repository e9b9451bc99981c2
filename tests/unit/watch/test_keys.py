# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from functools import reduce

import pytest

from pkgctl.watch import keys
from pkgctl.watch.keys import View, decode, react


def after(*pressed, view=None):
    return reduce(react, pressed, view or View())


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1b[B", [keys.UP, keys.DOWN]),
        ("\x1bOA", [keys.UP]),
        ("\x1b[5~\x1b[6~", [keys.PAGE_UP, keys.PAGE_DOWN]),
        ("\x1b[H\x1b[F\x1b[1~\x1b[4~", [keys.HOME, keys.END, keys.HOME, keys.END]),
        ("\x1b", [keys.ESCAPE]),
        ("\r\t\x7f", [keys.ENTER, keys.TAB, keys.BACKSPACE]),
        ("\x03", [keys.QUIT]),
        ("\x1b[15~x", ["x"]),
        ("/ab", ["/", "a", "b"]),
        ("", []),
    ],
)
def test_what_a_terminal_sends_becomes_keys(sent, known):
    assert list(decode(sent)) == known


@pytest.mark.parametrize("key", ["q", keys.QUIT])
def test_q_and_ctrl_c_quit(key):
    assert after(key).quit


def test_ctrl_c_quits_while_a_filter_is_typed_but_q_is_a_letter():
    assert after("/", keys.QUIT).quit
    assert after("/", "q") == View(typing=True, filter="q")


@pytest.mark.parametrize(("key", "sort"), [("c", "cpu"), ("m", "memory"), ("n", "network")])
def test_a_key_sorts_and_once_more_does_not(key, sort):
    assert after(key).sort == sort
    assert after(key, key).sort == ""


def test_a_filter_is_typed_corrected_and_taken():
    assert after("/", "e", "x", keys.BACKSPACE, "d", keys.ENTER) == View(filter="ed")


def test_escape_takes_the_filter_away():
    assert after("/", "e", keys.ESCAPE) == View()
    assert after("/", "e", keys.ENTER, keys.ESCAPE) == View()


def test_special_keys_are_no_letters_of_a_filter():
    assert after("/", keys.UP, keys.TAB, "é").filter == ""


def test_space_pauses_and_goes_on():
    assert after(" ").paused
    assert not after(" ", " ").paused


def test_help_goes_with_any_key_and_q_quits_from_it():
    assert after("?").help
    assert after("?", "x") == View()
    assert after("?", "q").quit


def test_arrows_scroll_the_chosen_table():
    assert after(keys.DOWN, keys.DOWN, keys.UP).offsets == (1, 0, 0)
    assert after(keys.UP).offsets == (0, 0, 0)
    assert after(keys.TAB, keys.PAGE_DOWN).offsets == (0, 10, 0)
    assert after(keys.TAB, keys.TAB, keys.TAB).panel == 0


def test_home_and_end_go_all_the_way():
    assert after(keys.END).offsets[0] > 10**6
    assert after(keys.END, keys.HOME).offsets == (0, 0, 0)


def test_an_unknown_key_does_nothing():
    assert after("z") == View()
