# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel, syscalls
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    DisturbanceError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.loop import Loop
from ansible_collections.pkgctl.testbed.plugins.module_utils.server import Server


class Enough(BaseException):
    """Ends a loop that has no end."""


def stop(client=None, _=None):
    if client is not None:
        client.hang_up()
    raise Enough


def broken(*_):
    raise OSError("one\ntwo")


def refuse(*_):
    raise DisturbanceError("not today")


@pytest.fixture
def path(tmp_path):
    """The channel of a server that runs in a thread of its own."""
    place, loop = tmp_path / "agent.sock", Loop()
    operations = {
        "echo": lambda _, request: {"heard": request},
        "add": lambda _, request: {"sum": request["a"] + request["b"]},
        "many": lambda client, request: [client.send({"n": n}) for n in range(request["n"])][:0],
        "quiet": lambda _, __: None,
        "refuse": refuse,
        "break": broken,
        "stop": stop,
    }
    with channel.listen(place) as listener:
        Server(loop, listener, operations)
        thread = threading.Thread(target=run, args=(loop,))
        thread.start()
        try:
            yield place
        finally:
            with raw(place) as connection:
                connection.sendall(b'{"op":"stop"}\n')
                thread.join()


def run(loop):
    with contextlib.suppress(Enough):
        loop.run()


def test_a_request_is_answered_with_what_its_operation_returns(path):
    assert channel.call(path, "echo", a=1) == {"ok": True, "heard": {"a": 1}}
    assert channel.call(path, "quiet") == {"ok": True}


def test_many_clients_are_answered_each_in_its_order(path):
    with channel.Client(path) as one, channel.Client(path) as two:
        seen = [
            (one.call("add", a=n, b=1)["sum"], two.call("add", a=n, b=2)["sum"]) for n in range(50)
        ]

    assert seen == [(n + 1, n + 2) for n in range(50)]


@pytest.mark.parametrize(
    ("op", "fields", "words"),
    [
        ("nonsense", {}, "unknown request; known are echo, add"),
        ("add", {"a": 1}, "bad request: KeyError 'b'"),
        ("add", {"a": 1, "b": "x"}, "bad request: TypeError"),
        ("refuse", {}, "^not today$"),
    ],
)
def test_a_refused_request_is_answered_and_the_connection_stays(path, op, fields, words):
    with channel.Client(path) as client:
        with pytest.raises(AgentError, match=words):
            client.call(op, **fields)

        assert client.call("add", a=1, b=1)["sum"] == 2


def raw(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


def test_what_is_no_message_is_answered_in_words(path):
    with raw(path) as connection:
        connection.sendall(b"GET / HTTP/1.1\n")

        assert "not a message" in channel.decode(connection.recv(4096))["error"]


def test_a_request_may_come_in_pieces_and_several_at_once(path):
    with raw(path) as connection, connection.makefile("rb") as lines:
        connection.sendall(b'{"op":"ad')
        connection.sendall(b'd","a":1,"b":2}\n{"op":"quiet"}\n')

        assert [channel.decode(lines.readline()) for _ in range(2)] == [
            {"ok": True, "sum": 3},
            {"ok": True},
        ]


def test_a_line_without_an_end_is_answered_and_hung_up_on(path):
    with raw(path) as connection, connection.makefile("rb") as lines:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * (channel.LONGEST + (1 << 17)))
        with contextlib.suppress(ConnectionResetError):
            assert "too long" in channel.decode(lines.readline())["error"]
            assert lines.readline() == b""


def test_a_failure_that_nobody_foresaw_is_answered_in_one_line(path):
    with channel.Client(path) as client:
        with pytest.raises(AgentError, match=r"^bad request: OSError one two$"):
            client.call("break")

        assert client.call("add", a=1, b=1)["sum"] == 2


def test_too_many_clients_are_hung_up_on_and_the_others_stay(path):
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(raw(path)) for _ in range(300)]
        crowd[0].sendall(b'{"op":"quiet"}\n')

        assert channel.decode(crowd[0].recv(100)) == {"ok": True}
        assert crowd[-1].recv(10) == b""
    assert is_served_again(path)


def is_served_again(path):
    """Whether the server takes new clients once it has seen the others go."""
    for _ in range(500):
        with contextlib.suppress(AgentError):
            return channel.call(path, "quiet")["ok"]
        time.sleep(0.01)
    return False


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
OPS = st.sampled_from(["echo", "add", "quiet", "refuse", "break"])
REQUESTS = st.builds(lambda op, more: {**more, "op": op}, OPS, st.dictionaries(st.text(), JSON))
LINES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | REQUESTS.map(lambda value: json.dumps(value).encode())
    | st.integers(1, 200_000).map(lambda depth: b"[" * depth)
).filter(lambda line: not any(each in line for each in (b"\n", b"stop", b"many")))


def test_whatever_a_line_holds_it_is_answered_with_one_line(path):
    with raw(path) as connection, connection.makefile("rb") as lines:

        @settings(max_examples=300, deadline=None)
        @given(LINES)
        def ask(line):
            connection.sendall(line + b"\n")
            answer = channel.decode(lines.readline())
            assert answer["ok"] or ("\n" not in answer["error"] and len(answer["error"]) <= 500)

        ask()


def test_a_client_that_does_not_read_holds_up_nobody(path):
    with raw(path) as lazy:
        lazy.sendall(b'{"op":"many","n":100000}\n')

        assert channel.call(path, "add", a=1, b=1)["sum"] == 2


def test_what_a_slow_client_did_not_take_waits_for_it_in_order(path):
    with raw(path) as slow, slow.makefile("rb") as lines:
        slow.sendall(b'{"op":"many","n":50000}\n')
        channel.call(path, "quiet")

        numbers = [channel.decode(lines.readline())["n"] for _ in range(50_000)]

    assert numbers == list(range(50_000))


def test_timers_go_off_in_the_order_of_their_times():
    loop, seen = Loop(), []
    for name, when in (("late", 2.0), ("early", 1.0), ("early too", 1.0)):
        loop.at(when, lambda name=name: seen.append(name))
    loop.at(syscalls.monotonic(), stop)

    with pytest.raises(Enough):
        loop.run()

    assert seen == ["early", "early too", "late"]


def test_a_descriptor_that_is_forgotten_is_heard_no_more():
    loop, seen = Loop(), []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.watch(ours.fileno(), seen.append)
        theirs.send(b"x")
        loop.forget(ours.fileno())
        loop.forget(ours.fileno())
        loop.at(syscalls.monotonic(), stop)

        with pytest.raises(Enough):
            loop.run()

    assert seen == []
