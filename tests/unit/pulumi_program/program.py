# SPDX-License-Identifier: GPL-3.0-or-later
"""The program run as Pulumi runs it, with nothing behind it: what it would declare."""

from __future__ import annotations

import asyncio
import json
import runpy
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks, settings, stack

PROGRAM = Path(__file__).parents[3] / "pulumi"
PROJECT, STACK = "pkgctl-testbed", "lab"
LEARNED: Mapping[str, Mapping[str, Any]] = {
    "Access": {"public": "ssh-ed25519 AAAAown own"},
    "Seed": {"hash": "0123456789abcdef0123", "host_key": "ssh-ed25519 AAAAhost"},
    "Hypervisor": {"type": "qemu"},
    "Node": {"address": "10.77.0.1", "address6": "fd77:7067::1"},
}


class _Monitor(mocks.MockMonitor):
    """Notes all that Pulumi is told of each resource."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.requests: dict[tuple[str, str], Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        self.requests[request.type, request.name] = request
        return super().RegisterResource(request)


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Notes what is declared, and answers as if it were made."""

    made: list[pulumi.runtime.MockResourceArgs] = field(default_factory=list)
    requests: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[str, Any]]:
        self.made.append(args)
        known = {key: value for key, value in args.inputs.items() if value is not None}
        return f"{args.name}-id", {**known, **LEARNED.get(_kind(args.typ), {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], list[Any]]:
        raise AssertionError(f"the program asks for {args.token}")

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the inputs of each resource of a kind by its name."""
        return {made.name: made.inputs for made in self.made if _kind(made.typ) == kind}

    def request(self, kind: str, name: str) -> Any:
        """Return all that Pulumi is told of a resource, by the end of its type: options, too."""
        return next(
            request
            for (token, own), request in self.requests.items()
            if token.endswith(kind) and own == name
        )

    def types(self) -> set[str]:
        return {made.typ for made in self.made}


def _kind(token: str) -> str:
    return token.rpartition(":")[2]


@contextmanager
def _alone() -> Iterator[asyncio.AbstractEventLoop]:
    """Have a loop and a stack of one's own, and the answer to interrupts as it was."""
    interrupt = signal.getsignal(signal.SIGINT)
    loops: list[asyncio.AbstractEventLoop] = []

    def begin() -> None:
        # Pulumi gives each of its threads a loop, and leaves it open.
        loops.append(asyncio.new_event_loop())
        asyncio.set_event_loop(loops[-1])

    begin()
    threads = ThreadPoolExecutor(initializer=begin)
    loops[0].set_default_executor(threads)
    try:
        yield loops[0]
    finally:
        settings.set_root_resource(None)
        signal.signal(signal.SIGINT, interrupt)
        threads.shutdown()
        for loop in loops:
            loop.close()
        asyncio.set_event_loop(None)


def run(config: Mapping[str, Any]) -> Recorder:
    """Run the whole program with a configuration, and return what it declared."""
    recorder = Recorder()
    monitor = _Monitor(recorder)
    texts = {key: _text(value) for key, value in config.items()}
    pulumi.runtime.set_all_config({f"{PROJECT}:{key}": text for key, text in texts.items()})

    async def outputs() -> dict[str, Any]:
        exported = settings.get_root_resource().outputs
        return {name: await pulumi.Output.from_input(exported[name]).future() for name in exported}

    with _alone() as loop:
        mocks.set_mocks(recorder, PROJECT, STACK, preview=False, monitor=monitor)
        loop.run_until_complete(stack.run_pulumi_func(_main))
        recorder.outputs = loop.run_until_complete(outputs())
    recorder.requests = monitor.requests
    return recorder


def _main() -> None:
    runpy.run_path(str(PROGRAM), run_name="__main__")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
