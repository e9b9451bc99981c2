# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to the Kubernetes API: JSON in, JSON out, by the official client.

The official client reads kubeconfigs, proves who asks, checks the server and keeps connections.
Its classes for objects are left out: what goes to and fro is the JSON itself, which costs a tenth.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
import yaml
from kubernetes import client as official
from kubernetes import config
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, SSLError

from pkgctl import __version__
from pkgctl.errors import ClusterError, Refused, SpecError

CONNECTIONS = 16  # kept open; more threads than that open others
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_READ = 1 << 16
_NUMBER = re.compile(r"^\[Errno \d+\] ")
# Not carried out, or not to be helped by asking again; a POST is asked again after the first only.
_TURNED_AWAY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_AILING = (
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
)
_PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_DEFAULT_KUBECONFIG = "~/.kube/config"
_Response = urllib3.BaseHTTPResponse


def connect(
    kubeconfig: Path | None = None, context: str | None = None, *, agent: str = "pkgctl"
) -> Api:
    """Return the API of a cluster; nothing is sent yet.

    Args:
        kubeconfig: the file; None takes ``$KUBECONFIG``, then ``~/.kube/config``, then, inside a
            pod, the pod's own service account.
        context: which of the file's contexts; None takes the one that it calls current.
        agent: what the API server notes as the program that asks.

    Raises:
        SpecError: if the file cannot be read, or does not say how to reach a cluster.
    """
    settings = official.Configuration()
    settings.connection_pool_maxsize = CONNECTIONS
    where = kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_KUBECONFIG
    try:
        if kubeconfig is None and _is_in_a_pod():
            config.load_incluster_config(client_configuration=settings)
        else:
            _load(str(where), context, settings)
    except (config.ConfigException, yaml.YAMLError, TypeError, KeyError) as error:
        raise SpecError(f"no way to a cluster in it: {error}", file=where) from error
    except (OSError, UnicodeError) as error:
        raise SpecError(f"cannot be read: {error}", file=where) from error
    settings.retries = False
    try:
        client = official.ApiClient(settings)
    except (OSError, HTTPError) as error:  # a certificate that is none
        raise SpecError(f"no way to a cluster in it: {error}", file=where) from error
    return Api(client, f"{agent}/{__version__}")


def _is_in_a_pod() -> bool:
    """Whether there is no kubeconfig, and a service account instead."""
    known = os.environ.get("KUBECONFIG") or Path(_DEFAULT_KUBECONFIG).expanduser().exists()
    return not known and "KUBERNETES_SERVICE_HOST" in os.environ


def _load(where: str, context: str | None, settings: official.Configuration) -> None:
    if not any(Path(each).expanduser().exists() for each in where.split(os.pathsep) if each):
        raise FileNotFoundError("there is no such file")
    config.load_kube_config(
        config_file=where, context=context, client_configuration=settings, persist_config=False
    )


class Api:
    """Requests to one cluster's API; any number of threads may use it.

    Paths are those of the API, such as ``/api/v1/nodes``. Keywords are the query, as in
    ``get("/api/v1/pods", labelSelector="app=web")``. What fails for the moment (429, 5xx, no
    connection) is asked again, ever more slowly, for ``within`` seconds. A POST whose answer is
    missing is not sent again, for it may have been carried out.
    """

    def __init__(self, client: official.ApiClient, agent: str = "pkgctl") -> None:
        self._settings = client.configuration
        self._pool = client.rest_client.pool_manager
        self._headers = {"Accept": "application/json", "User-Agent": agent}

    @property
    def server(self) -> str:
        """Where the API is, as ``host:port``."""
        return urlsplit(self._settings.host).netloc or str(self._settings.host)

    def get(self, path: str, *, within: float = ANSWER_SECONDS, **query: Any) -> Any:
        """Return an object, or a list of them."""
        return self._ask("GET", path, None, within, query)

    def text(self, path: str, *, within: float = ANSWER_SECONDS, **query: Any) -> str:
        """Return what is no JSON, such as a pod's log."""
        response = self._send("GET", path, None, within, query)
        if response.status != HTTPStatus.OK:
            raise _refusal(response, "GET", path)
        return response.data.decode(errors="replace")

    def post(
        self, path: str, body: Mapping[str, Any], *, within: float = ANSWER_SECONDS, **query: Any
    ) -> Any:
        """Create an object, or call a subresource such as ``eviction``."""
        return self._ask("POST", path, body, within, query)

    def post_if(
        self, may: Callable[[], bool], path: str, body: Mapping[str, Any], *, within: float
    ) -> Any:
        """Do the same if ``may`` says so, and never ask again.

        It is asked at the last moment, when nothing but the body is left to be sent. If it says no
        the request stays without its body, which the server takes for none.

        Raises:
            Withheld: if it said no.
        """
        return self._ask("POST", path, body, within, {}, may=may)

    def put(
        self, path: str, body: Mapping[str, Any], *, within: float = ANSWER_SECONDS, **query: Any
    ) -> Any:
        """Replace an object; its ``resourceVersion`` says which state of it was read before."""
        return self._ask("PUT", path, body, within, query)

    def patch(
        self,
        path: str,
        body: object,
        *,
        kind: str = "merge",
        within: float = ANSWER_SECONDS,
        **query: Any,
    ) -> Any:
        """Change parts of an object; ``kind`` is merge, strategic, or json for a list of steps."""
        return self._ask("PATCH", path, body, within, query, _PATCHES[kind])

    def delete(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        within: float = ANSWER_SECONDS,
        **query: Any,
    ) -> Any:
        """Delete an object, or all objects of a list."""
        return self._ask("DELETE", path, body, within, query)

    def watch(
        self, path: str, resource_version: str, timeout: float = 55.0, **query: Any
    ) -> Stream:
        """Return what changes after a version, as events ``{"type": …, "object": …}``.

        Args:
            path: of the list.
            resource_version: of the list as it was read, or of the last event.
            timeout: seconds until the server ends the stream. A server that is gone without a
                word is noticed soon after that.
            query: selectors, as they were given when the list was read.
        """
        query |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": int(timeout),
        }
        try:
            response = self._send("GET", path, None, timeout + 2 * CONNECT_SECONDS, query)
        except (HTTPError, OSError) as error:
            raise self._lost(error) from error
        if response.status != HTTPStatus.OK:
            raise _refusal(response, "GET", path)
        return Stream(response, self._lost)

    def close(self) -> None:
        """Let all connections go."""
        self._pool.clear()

    def _ask(
        self,
        method: str,
        path: str,
        body: object,
        within: float,
        query: Mapping[str, Any],
        content: str = "application/json",
        may: Callable[[], bool] | None = None,
    ) -> Any:
        end, pause = time.monotonic() + within, _FIRST_PAUSE
        while True:
            left = max(end - time.monotonic(), _FIRST_PAUSE)
            try:
                response = self._send(method, path, body, left, query, content, may)
                answer = response.data  # read whole, which gives the connection back
                if response.status < HTTPStatus.BAD_REQUEST:
                    return _parsed(answer)
                refusal = _refusal(response, method, path)
                if may is not None or not _passes(refusal, method):
                    raise refusal
                problem: ClusterError = refusal
                pause = max(pause, _asked_to_wait(response))
            except (HTTPError, OSError) as error:
                problem = self._lost(error)
                if may is not None or (method == "POST" and not _was_not_sent(error)):
                    raise problem from error
            if time.monotonic() + pause >= end:
                raise problem
            time.sleep(pause * random.uniform(0.75, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        seconds: float,
        query: Mapping[str, Any],
        content: str = "application/json",
        may: Callable[[], bool] | None = None,
    ) -> _Response:
        headers = dict(self._headers)
        for setting in self._settings.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        data: bytes | Iterator[bytes] | None = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            headers |= {"Content-Type": content, "Content-Length": str(len(data))}
            data = data if may is None else _at_last(data, may)
        url = f"{self._settings.host}{path}"
        answer: _Response = self._pool.request(
            method,
            f"{url}?{urlencode(query)}" if query else url,
            body=data,
            headers=headers,
            timeout=urllib3.Timeout(total=seconds, connect=min(CONNECT_SECONDS, seconds)),
            retries=False,
            preload_content=False,
        )
        return answer

    def _lost(self, error: Exception) -> ClusterError:
        cause: BaseException = error
        while isinstance(cause, MaxRetryError) and cause.reason is not None:
            cause = cause.reason
        if isinstance(cause, SSLError):
            return ClusterError(f"the API server {self.server} is not trusted: {cause}")
        words = _NUMBER.sub("", str(cause).rpartition(": ")[2]) or type(cause).__name__
        return ClusterError(f"the API server {self.server} does not answer: {words}")


class Stream:
    """Events of a watch, as they come; ends when the server ends it, or somebody stops it."""

    def __init__(self, response: _Response, lost: Any) -> None:
        self._response, self._lost = response, lost
        self._stopped = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the events.

        Raises:
            Refused: with status 410 if the version is too old, so that the list is to be read
                again; with another if the server gave up for another reason.
            ClusterError: if the connection broke.
        """
        rest = b""
        try:
            for chunk in self._response.stream(_READ):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield _event(line)
        except (HTTPError, OSError, AttributeError) as error:
            # Another thread's stop() takes the reader's file away, which shows in many ways.
            if not self._stopped:
                raise self._lost(error) from error
        finally:
            self._response.close()

    def stop(self) -> None:
        """End the stream, from any thread."""
        self._stopped = True
        with suppress(ValueError, RuntimeError, OSError):  # it had ended by itself
            self._response.shutdown()


class Withheld(Exception):  # noqa: N818 - what was wished, and no mistake
    """A request was not sent after all, for it might not be any more."""


def _at_last(data: bytes, may: Callable[[], bool]) -> Iterator[bytes]:
    if not may():
        raise Withheld
    yield data


def _parsed(answer: bytes) -> Any:
    try:
        return json.loads(answer) if answer else {}
    except ValueError as error:
        raise ClusterError(
            f"the API server answers with what is no JSON: {answer[:60]!r}"
        ) from error


def _event(line: bytes) -> dict[str, Any]:
    event: dict[str, Any] = _parsed(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise Refused(str(status.get("message", "the watch ended")), status=status.get("code", 500))
    return event


def _refusal(response: _Response, method: str, path: str) -> Refused:
    """Return the error for an answer that is none, in the API's own words if it has any."""
    try:
        words = json.loads(response.data)["message"]
    except (ValueError, KeyError, TypeError):
        words = f"{method} {path} was answered with {response.status} {response.reason or ''}"
    return Refused(str(words).strip(), status=response.status)


def _passes(refusal: Refused, method: str) -> bool:
    """Whether the same request may be carried out if it is sent again."""
    return refusal.status in _TURNED_AWAY or (method != "POST" and refusal.status in _AILING)


def _asked_to_wait(response: _Response) -> float:
    wished = response.headers.get("Retry-After", "")
    return float(wished) if wished.isdigit() else 0.0


def _was_not_sent(error: Exception) -> bool:
    """Whether no connection was made at all, so that nothing can have been carried out."""
    return isinstance(
        error,
        (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
            LocationParseError,
        ),
    )
