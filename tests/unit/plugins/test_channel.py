# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import socket
import stat
import threading

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError


@contextlib.contextmanager
def answering(path, *lines):
    """Answer the first request of one client with lines, then hang up."""
    with channel.listen(path) as server:
        thread = threading.Thread(target=answer, args=(server, lines))
        thread.start()
        try:
            yield
        finally:
            thread.join()


def answer(server, lines):
    client, _ = server.accept()
    with client, client.makefile("rb") as words:
        words.readline()
        for line in lines:
            client.sendall(line)


def test_a_message_is_one_line_that_comes_back_as_it_was():
    message = {"op": "job-start", "argv": ["a\nb", "ü"], "cpu": None}

    line = channel.encode(message)

    assert line.count(b"\n") == 1
    assert channel.decode(line) == message


def test_a_message_beyond_a_mebibyte_is_refused():
    with pytest.raises(AgentError, match="1048576 is the most"):
        channel.encode({"text": "x" * channel.LONGEST})


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe"])
def test_what_is_no_object_is_no_message(line):
    with pytest.raises(AgentError, match="not a message"):
        channel.decode(line)


def test_only_the_owner_may_open_a_channel_and_a_stale_one_is_replaced(tmp_path):
    path = tmp_path / "agent.sock"
    channel.listen(path).close()

    with channel.listen(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_call_returns_the_answer(tmp_path):
    path = tmp_path / "agent.sock"

    with answering(path, b'{"ok": true, "pid": 7}\n'):
        assert channel.call(path, "ping") == {"ok": True, "pid": 7}


def test_a_refusal_is_raised_in_the_agents_own_words(tmp_path):
    path = tmp_path / "agent.sock"

    refusal = b'{"ok": false, "error": "there is no job x"}\n'
    with answering(path, refusal), pytest.raises(AgentError, match=r"^there is no job x$"):
        channel.call(path, "job-stop", id="x")


@pytest.mark.parametrize("answer", [(), (b'{"ok": tr',)])
def test_an_agent_that_hangs_up_is_named(tmp_path, answer):
    path = tmp_path / "agent.sock"

    words = r"agent\.sock hung up during ping"
    with answering(path, *answer), pytest.raises(AgentError, match=words):
        channel.call(path, "ping")


def test_nobody_there_is_said_with_the_place(tmp_path):
    with pytest.raises(AgentError, match=r"nobody answers at .*agent\.sock: No such file"):
        channel.Client(tmp_path / "agent.sock")


def test_an_agent_that_takes_too_long_is_named(tmp_path):
    path = tmp_path / "agent.sock"

    with (
        channel.listen(path),
        channel.Client(path, timeout=0.02) as client,
        pytest.raises(AgentError, match="did not answer ping: timed out"),
    ):
        client.call("ping")


def test_a_stream_goes_on_until_the_agent_hangs_up(tmp_path):
    path = tmp_path / "agent.sock"

    parts = (b'{"ok":true}\n{"seq":1}\n', b'{"se', b'q":2}\n')
    with answering(path, *parts), channel.Client(path) as client:
        assert list(client.stream("events")) == [{"seq": 1}, {"seq": 2}]


def test_a_client_can_be_waited_on(tmp_path):
    path = tmp_path / "agent.sock"

    with channel.listen(path), channel.Client(path) as client:
        descriptor = client.fileno()
        assert socket.socket(fileno=descriptor).detach() == descriptor
