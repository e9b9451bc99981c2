# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from pkgctl.cluster.client import Api, Withheld, connect
from pkgctl.errors import ClusterError, Refused, SpecError
from tests.unit.cluster.fakeapi import (
    FakeApi,
    fake_api,
    hangs_up,
    kubeconfig,
    refuses,
    says,
    streams,
)

PODS = "/api/v1/pods"
FINE = says(200, {"fine": True})


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    with fake_api() as made:
        yield made


@pytest.fixture
def api(fake, tmp_path) -> Iterator[Api]:
    made = connect(kubeconfig(tmp_path, fake.url))
    yield made
    made.close()


def test_it_asks_as_the_kubeconfig_says_and_keeps_its_connection(api, fake):
    fake.then(FINE, FINE, FINE)

    api.get(PODS, labelSelector="app=web", limit=5)
    api.post(PODS, {"a": 1})
    api.patch(PODS, [{"op": "remove"}], kind="json")

    assert fake.asked == [
        f"GET {PODS}?labelSelector=app%3Dweb&limit=5",
        f"POST {PODS}",
        f"PATCH {PODS}",
    ]
    _, _, headers, body = fake.requests[1]
    assert headers["authorization"] == "Bearer secret"
    assert headers["User-Agent"].startswith("pkgctl/")
    assert json.loads(body) == {"a": 1}
    assert fake.requests[2][2]["Content-Type"] == "application/json-patch+json"
    assert len(fake.connections) == 1


def test_a_refusal_has_the_words_of_the_api_and_the_code(api, fake):
    fake.then(refuses(404, 'pods "p" not found'), says(418, "no status"))

    with pytest.raises(Refused, match=r'^pods "p" not found$') as refused:
        api.get(f"{PODS}/p")
    assert refused.value.status == 404
    with pytest.raises(Refused, match=f"^GET {PODS} was answered with 418"):
        api.get(PODS)


@pytest.mark.parametrize(
    "passing", [refuses(429, "slow down"), refuses(503, "starting"), refuses(500, "oh")]
)
def test_what_passes_is_asked_again(api, fake, passing):
    fake.then(passing, passing, FINE)

    assert api.get(PODS) == {"fine": True}
    assert len(fake.asked) == 3


def test_it_gives_up_when_the_time_is_over_or_the_server_asks_for_more(api, fake):
    fake.then(refuses(429, "slow down", Retry_After="60"))

    with pytest.raises(Refused, match="slow down"):
        api.get(PODS, within=5.0)
    assert len(fake.asked) == 1


def test_a_post_whose_answer_is_missing_is_not_sent_again(api, fake):
    fake.then(hangs_up)

    with pytest.raises(ClusterError, match="does not answer"):
        api.post(PODS, {})
    assert len(fake.asked) == 1


@pytest.mark.parametrize("failing", [refuses(500, "half done"), refuses(504, "timeout")])
def test_a_post_that_may_have_been_carried_out_is_not_sent_again(api, fake, failing):
    fake.then(failing)

    with pytest.raises(Refused):
        api.post(PODS, {})
    assert len(fake.asked) == 1


def test_a_post_that_was_turned_away_is_sent_again(api, fake):
    fake.then(refuses(429, "slow down"), refuses(503, "starting"), FINE)

    assert api.post(PODS, {}) == {"fine": True}


def test_other_requests_are_sent_again_when_the_connection_breaks(api, fake):
    fake.then(hangs_up, FINE, hangs_up, FINE)

    assert api.get(PODS) == {"fine": True}
    assert api.put(PODS, {}) == {"fine": True}


def test_a_request_that_may_not_go_at_the_last_moment_is_not_carried_out(api, fake):
    fake.then(FINE, FINE)

    with pytest.raises(Withheld):
        api.post_if(lambda: False, PODS, {"a": 1}, within=5)
    assert fake.asked == []

    assert api.post_if(lambda: True, PODS, {"a": 2}, within=5) == {"fine": True}
    assert [json.loads(body) for *_, body in fake.requests] == [{"a": 2}]


@pytest.mark.parametrize("passing", [refuses(429, "slow down"), refuses(503, "oh"), hangs_up])
def test_such_a_request_is_never_sent_again(api, fake, passing):
    fake.then(passing)

    with pytest.raises(ClusterError):
        api.post_if(lambda: True, PODS, {}, within=5)
    assert len(fake.asked) == 1


def test_nobody_there_is_one_line_with_the_place(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        place = f"127.0.0.1:{held.getsockname()[1]}"

        with pytest.raises(ClusterError) as error:
            connect(kubeconfig(tmp_path, f"http://{place}")).get(PODS, within=0.3)

    assert str(error.value) == f"the API server {place} does not answer: Connection refused"


def test_a_watch_yields_events_however_they_are_cut(api, fake):
    fake.then(
        streams(
            b'{"type":"ADDED","object":{"n":1}}\n{"type":"MODI',
            b'FIED","object":{"n":2}}\n',
        )
    )

    stream = api.watch(PODS, "5", fieldSelector="spec.nodeName!=")

    assert [(each["type"], each["object"]["n"]) for each in stream] == [
        ("ADDED", 1),
        ("MODIFIED", 2),
    ]
    for part in (
        "watch=true",
        "resourceVersion=5",
        "allowWatchBookmarks=true",
        "timeoutSeconds=55",
    ):
        assert part in fake.asked[0]


def test_a_version_that_is_too_old_is_a_refusal_either_way(api, fake):
    gone = b'{"type":"ERROR","object":{"message":"too old","code":410}}\n'
    fake.then(refuses(410, "too old"), streams(gone))

    with pytest.raises(Refused) as at_once:
        api.watch(PODS, "5")
    with pytest.raises(Refused) as later:
        list(api.watch(PODS, "5"))
    assert at_once.value.status == later.value.status == 410


def test_a_watch_whose_connection_breaks_says_so(api, fake):
    def breaks(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"100\r\n{")
        hangs_up(handler)

    fake.then(breaks)

    with pytest.raises(ClusterError, match="does not answer"):
        list(api.watch(PODS, "5"))


def test_a_watch_can_be_stopped_by_another_thread(api, fake):
    forever = threading.Event()
    fake.then(streams(b'{"type":"ADDED","object":{}}\n', until=forever))
    stream, seen = api.watch(PODS, "5"), list[str]()
    came = threading.Event()

    def read() -> None:
        for event in stream:
            seen.append(event["type"])
            came.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert came.wait(10)
    stream.stop()
    reader.join(10)
    forever.set()

    assert not reader.is_alive() and seen == ["ADDED"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no such file"),
        ("", "no way to a cluster"),
        ("{", "no way to a cluster"),
        ("just words", "no way to a cluster"),
        ("clusters: []", "no way to a cluster"),
    ],
)
def test_a_kubeconfig_that_is_none_is_named(tmp_path, text, words):
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)

    with pytest.raises(SpecError, match=words) as error:
        connect(path)

    assert str(error.value).startswith(f"{path}: ")


def test_a_context_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match="no way to a cluster"):
        connect(kubeconfig(tmp_path, "http://127.0.0.1:1"), "other")


def test_a_watch_of_a_server_that_is_gone_is_one_line_too(tmp_path):
    with pytest.raises(ClusterError, match="does not answer: Connection refused"):
        connect(kubeconfig(tmp_path, "http://127.0.0.1:9")).watch(PODS, "5")


def test_what_is_no_json_is_named(api, fake):
    def answers(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "6")
        handler.end_headers()
        handler.wfile.write(b"<html>")

    fake.then(answers)

    with pytest.raises(ClusterError, match="no JSON: b'<html>'"):
        api.get(PODS)
