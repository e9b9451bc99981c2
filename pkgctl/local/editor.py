# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that changes testbeds for another: a request a line, an answer a line.

A process of its own, for to change a testbed is to enter namespaces and to fork, and neither does
well beside the threads of a server. What arrives together is one change. It ends with its input.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pkgctl.errors import PkgctlError
from pkgctl.local import edits
from pkgctl.nodeside import errors as node_errors

Request = Mapping[str, Any]
Answer = dict[str, Any]

# Requests that belong together come within a few milliseconds of one another.
GATHER = 0.01
_CHUNK = 1 << 20


def main() -> None:
    """Answer what arrives on the standard input until it ends."""
    # Whatever prints must not come between the answers.
    out = os.dup(1)
    os.dup2(2, 1)
    for requests in _gathered(sys.stdin.fileno()):
        text = "".join(f"{json.dumps(answer)}\n" for answer in serve(requests))
        try:
            _write(out, text.encode())
        except BrokenPipeError:
            return


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _gathered(descriptor: int) -> Iterator[list[Request]]:
    """Yield the requests that have arrived, all that there are at a time."""
    pending = b""
    while chunk := os.read(descriptor, _CHUNK):
        pending += chunk
        while select.select([descriptor], [], [], GATHER)[0]:
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                break
            pending += chunk
        *lines, pending = pending.split(b"\n")
        if lines:
            yield [json.loads(line) for line in lines]


def serve(requests: Sequence[Request]) -> Iterator[Answer]:
    """Yield an answer to each request; changes of pieces of one testbed are made together."""
    together: dict[str, list[Request]] = {}
    for request in requests:
        if request["op"] == "edit":
            together.setdefault(request["testbed"], []).append(request)
        else:
            yield _answer(request, _OPERATIONS[request["op"]])
    for same in together.values():
        yield from _edit(same)


def _edit(requests: Sequence[Request]) -> Iterator[Answer]:
    """Make several changes at once; where that fails, one by one, for each has its own answer."""
    if len(requests) > 1:
        try:
            edits.change(requests[0]["testbed"], [_as_edit(each) for each in requests])
        except Exception:
            for request in requests:
                yield _answer(request, _edit_one)
            return
        for request in requests:
            yield _answer(request, _details)
        return
    yield _answer(requests[0], _edit_one)


def _as_edit(request: Request) -> edits.Edit:
    return edits.Edit(request["kind"], request["name"], request["values"])


def _edit_one(request: Request) -> Answer:
    edits.change(request["testbed"], [_as_edit(request)])
    return _details(request)


def _details(request: Request) -> Answer:
    if request["kind"] != "node" or request["values"] is None:
        return {}
    return edits.details(request["testbed"], request["name"])


def _make(request: Request) -> Answer:
    edits.make(request["testbed"], request["values"])
    return {}


def _remove(request: Request) -> Answer:
    edits.remove(request["testbed"])
    return {}


def _look(request: Request) -> Answer:
    found = edits.look(request["testbed"], request["kind"], request["name"])
    return {"found": found}


_OPERATIONS: Mapping[str, Callable[[Request], Answer]] = {
    "make": _make,
    "remove": _remove,
    "look": _look,
}


def _answer(request: Request, action: Callable[[Request], Answer]) -> Answer:
    """Return the request's number with the action's result, or with an error in one line."""
    try:
        return {"number": request["number"], "result": action(request)}
    except (PkgctlError, node_errors.DisturbanceError) as error:
        return {"number": request["number"], "error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"number": request["number"], "error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
