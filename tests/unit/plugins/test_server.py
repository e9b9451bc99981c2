# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import socket
import threading

import pytest

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


def test_a_line_without_an_end_is_hung_up_on(path):
    with raw(path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * (channel.LONGEST + (1 << 17)))
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""


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
