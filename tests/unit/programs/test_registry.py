# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.client
import json
import zlib
from collections.abc import Iterator

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.programs import registry
from tests.unit.programs.starting import PATIENCE_SECONDS, Start, Started, run


@pytest.fixture
def store(start: Start) -> Started:
    return start("registry", "--port", 0)


@pytest.fixture
def client(store: Started) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)
    yield client
    client.close()


def get(client: http.client.HTTPConnection, target: str) -> tuple[int, str | None, bytes]:
    client.request("GET", target)
    response = client.getresponse()
    return response.status, response.getheader("X-Content-CRC32"), response.read()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000, 10 * 65536])
def test_the_checksum_is_that_of_the_whole_content(
    client: http.client.HTTPConnection, size: int
) -> None:
    status, crc, body = get(client, f"/artifacts/web?bytes={size}")

    assert (status, len(body)) == (200, size)
    assert crc == f"{zlib.crc32(body):08x}"


def test_the_checksum_of_a_huge_artifact_needs_no_pass_over_it() -> None:
    whole = registry.block_of("x") * 1000

    assert registry.checksum("x", len(whole)) == zlib.crc32(whole)
    assert registry.checksum("x", 1 << 44) == registry.checksum("x", 1 << 44)


def test_content_follows_from_the_name_alone(client: http.client.HTTPConnection) -> None:
    first = get(client, "/artifacts/web?bytes=1000")
    again = get(client, "/artifacts/web?bytes=1000")
    other = get(client, "/artifacts/db?bytes=1000")

    assert first == again
    assert first[2] != other[2]


def test_content_does_not_compress() -> None:
    block = registry.block_of("web")

    assert len(zlib.compress(block)) >= len(block)


def test_what_is_put_is_counted(client: http.client.HTTPConnection) -> None:
    client.request("PUT", "/objects/result", body=bytes(300_000))

    response = client.getresponse()

    assert (response.status, json.loads(response.read())) == (200, {"bytes": 300_000})
    assert get(client, "/artifacts/web?bytes=3")[0] == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/artifacts/web", 400),
        ("/artifacts/web?bytes=many", 400),
        ("/artifacts/web?bytes=-1", 400),
        ("/artifacts/web?bytes=99999999999999999999", 400),
        ("/artifacts/?bytes=1", 404),
        ("/elsewhere", 404),
        ("/healthz", 200),
    ],
)
def test_requests_get_the_status_they_deserve(
    client: http.client.HTTPConnection, target: str, status: int
) -> None:
    assert get(client, target)[0] == status


def test_an_object_goes_only_where_objects_go(client: http.client.HTTPConnection) -> None:
    client.request("PUT", "/artifacts/web", body=b"x")

    assert client.getresponse().status == 404


def test_a_client_that_vanishes_harms_nobody(
    store: Started, client: http.client.HTTPConnection
) -> None:
    gone = http.client.HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)
    gone.request("GET", "/artifacts/web?bytes=100000000")
    gone.close()

    assert get(client, "/artifacts/web?bytes=10")[0] == 200


def test_sigterm_ends_it(store: Started) -> None:
    store.process.terminate()

    assert store.end()[0] == 0


def test_a_taken_port_is_named_in_one_line(store: Started) -> None:
    done = run("registry", "--port", store.port)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Address already in use" in done.stderr
