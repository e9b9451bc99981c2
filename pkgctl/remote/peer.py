# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that the relay keeps connected: its answers, what it tells, and what its clock shows."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from pkgctl.nodeside import channel
from pkgctl.nodeside import errors as node_errors
from pkgctl.remote import translation
from pkgctl.remote.clocks import Clock

# Less than whoever asks the relay waits for it.
ANSWER_SECONDS = 25.0
# How long a request waits for a node whose connection is being made again.
GRACE = 5.0
LIMIT = channel.LONGEST + (1 << 16)
_BURST, _PING_SECONDS = 5, 2.0
# A question that took so long may have met a machine that was suspended.
_SUSPICIOUS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE, _AGENT_PAUSE = 0.5, 4.0, 0.5

Body = dict[str, Any]


class Open(Protocol):
    """A way to an agent, once it is open."""

    @property
    def socket(self) -> Path:
        """The socket on this machine."""

    async def lost(self) -> None:
        """Return when the way has ended."""


Way = Callable[[], contextlib.AbstractAsyncContextManager[Open]]


class Peer:
    """One agent, connected whenever it can be.

    Attributes:
        name: its node; empty is the testbed's watchman.
        clock: what its clock shows.
        reason: why it is not connected, if it is not.
        wanted: whether to connect at all; ``nudge`` after a change.
        owed: requests to make when it is back, before anything else.
    """

    def __init__(
        self,
        name: str,
        way: Way,
        told: Callable[[Peer, Body], None],
        changed: Callable[[Peer], None],
        synced: Callable[[Peer, list[Body]], None],
    ) -> None:
        """Begin with no connection.

        Args:
            name: its node.
            way: opens the way to it.
            told: is given each event, by our clock.
            changed: is called when it comes and when it goes.
            synced: is given the agent's jobs whenever it comes.
        """
        self.name = name
        self.clock = Clock()
        self.reason = "it was not reached yet"
        self.wanted = True
        self.owed: list[tuple[str, Body]] = []
        self.tried = asyncio.Event()
        self._way = way
        self._told, self._changed, self._synced = told, changed, synced
        self._up = asyncio.Event()
        self._nudged = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._answers: deque[asyncio.Future[tuple[Body, float]]] = deque()
        self._socket: Path | None = None
        self._renews = self._was_up = False
        self._lost_at = 0.0
        self._pid: int | None = None
        self._seq: int | None = None

    @property
    def is_up(self) -> bool:
        """Whether it is connected."""
        return self._up.is_set()

    def lost_for(self) -> float:
        """Return how many seconds ago it went."""
        return time.monotonic() - self._lost_at

    def nudge(self) -> None:
        """Try at once, or give up what is being tried, as ``wanted`` says."""
        self._nudged.set()

    async def run(self) -> None:
        """Connect again and again."""
        pause = _FIRST_PAUSE
        while True:
            self._nudged.clear()
            if self.wanted:
                try:
                    pause = await self._attempt(pause)
                except Exception as error:
                    # Whatever one agent answers, the others are served.
                    print(f"{self.name}: unforeseen: {error!r}", file=sys.stderr, flush=True)
                    self.reason = str(error)
            self.tried.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if self.wanted else None):
                    await self._nudged.wait()

    async def _attempt(self, pause: float) -> float:
        """Be connected until that ends; return how long to wait before it is tried again."""
        served, _ = await _until_either(self._serve(), self._until_unwanted())
        if isinstance(served, OSError):
            self.reason = str(served.strerror or served)
        elif isinstance(served, Exception):
            raise served
        was_up, self._was_up = self._was_up, False
        return _FIRST_PAUSE if was_up else min(pause * 2, _LONGEST_PAUSE)

    async def _until_unwanted(self) -> None:
        while self.wanted:
            await self._nudged.wait()
            self._nudged.clear()

    async def _serve(self) -> None:
        """Talk to the agent as long as the way to it is open."""
        async with self._way() as way:
            lost = asyncio.ensure_future(way.lost())
            try:
                while not lost.done():
                    with self._blamed():
                        await self._converse(way.socket)
                    self.tried.set()
                    await asyncio.wait({lost}, timeout=_AGENT_PAUSE)
            finally:
                lost.cancel()
        raise OSError("the connection was lost")

    @contextlib.contextmanager
    def _blamed(self) -> Any:
        try:
            yield
        except (OSError, node_errors.AgentError, asyncio.IncompleteReadError) as error:
            self.reason = f"its agent does not answer: {error}"

    async def _converse(self, socket: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(socket, limit=LIMIT)
        self._writer = writer
        try:
            results = await _until_either(self._read(reader), self._talk(socket))
        finally:
            self._hang_up(writer)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _talk(self, socket: Path) -> None:
        await self._greet()
        self._socket = socket
        self._was_up = True
        self._up.set()
        self.tried.set()
        self._changed(self)
        while True:
            took = await self._ping()
            if took < _SUSPICIOUS:
                await asyncio.sleep(_PING_SECONDS)

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        self._writer, self._socket = None, None
        while self._answers:
            waiting = self._answers.popleft()
            if not waiting.done():
                waiting.set_exception(ConnectionError("it hung up"))
        if self._up.is_set():
            self._up.clear()
            self._lost_at = time.monotonic()
            self.reason = "its agent hung up"
            self._changed(self)

    async def _greet(self) -> None:
        """Learn what its clock shows, hear what was missed, and see which jobs there are."""
        known = self._pid
        for _ in range(_BURST):
            await self._ping()
        # What a new agent has told since it began was not heard either.
        since = {} if known is None else {"since": self._seq if known == self._pid else 0}
        self._seq = since.get("since")
        answer = await self._ask("events", renew=self._renews, **since)
        if self._seq is None:
            self._seq = int(answer["seq"])
        while self.owed:
            op, fields = self.owed[0]
            with contextlib.suppress(node_errors.AgentError):
                await self._ask(op, **fields)
            self.owed.pop(0)
        if self.name:
            listing = await self._ask("job-list")
            self._synced(self, translation.answer(listing, self.clock.ours)["jobs"])

    async def _ping(self) -> float:
        """Learn from one round trip, and return how long it took."""
        sent = time.monotonic()
        answer, received = await self._exchange("ping", {})
        self._pid = int(answer["pid"])
        self.clock.learn(sent, float(answer["mono"]), received)
        return received - sent

    async def renew(self, *, renews: bool) -> None:
        """Let its leases run out, or not, as long as it is connected."""
        if renews == self._renews:
            return
        self._renews = renews
        if self.is_up:
            with contextlib.suppress(OSError, node_errors.AgentError):
                await self._ask("events", renew=renews, since=self._seq)

    async def is_back(self, seconds: float = GRACE) -> bool:
        """Return whether it is connected, or is so within some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._up.wait()
        return self.is_up

    async def call(self, op: str, **fields: Any) -> Body:
        """Return the answer to a request; times in both are by our clock.

        Raises:
            AgentError: with the agent's own words, or why there are none.
        """
        where = self.name or "the watchman"
        if not await self.is_back(max(GRACE - self.lost_for(), 0.0)):
            raise node_errors.AgentError(f"{where} does not answer: {self.reason}")
        try:
            heard = await self._ask(op, **translation.request(op, fields, self.clock.theirs))
        except OSError as error:
            raise node_errors.AgentError(f"{where} went away during {op}: {error}") from error
        return translation.answer(heard, self.clock.ours)

    async def _ask(self, op: str, **fields: Any) -> Body:
        answer, _ = await self._exchange(op, fields)
        if not answer.pop("ok"):
            raise node_errors.AgentError(str(answer.get("error", f"{op} failed")))
        return answer

    async def _exchange(self, op: str, fields: Body) -> tuple[Body, float]:
        """Return the answer to a request as it came, and when it came."""
        if self._writer is None:
            raise ConnectionError("it is not connected")
        waiting: asyncio.Future[tuple[Body, float]] = asyncio.get_running_loop().create_future()
        self._answers.append(waiting)
        self._writer.write(channel.encode({"op": op, **fields}))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await waiting
        except TimeoutError:
            raise OSError(f"no answer within {ANSWER_SECONDS:g} s") from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take what comes: answers in the order of the requests, and events between them."""
        while line := await reader.readline():
            received = time.monotonic()
            message = channel.decode(line)
            if "ok" not in message:
                self._hear(message)
            elif self._answers and not (waiting := self._answers.popleft()).done():
                waiting.set_result((message, received))

    def _hear(self, message: Body) -> None:
        seq = int(message.get("seq", 0))
        if self._seq is not None and seq <= self._seq:
            return
        self._seq = seq
        wall = time.time() - time.monotonic()
        self._told(self, translation.event(message, self.clock.ours, wall))

    async def samples(self, interval: float) -> AsyncIterator[Body]:
        """Yield the agent's samples by our clock, whenever it is connected."""
        while True:
            await self._up.wait()
            with contextlib.suppress(OSError, node_errors.AgentError):
                async for sample in self._samples(interval):
                    yield translation.answer(sample, self.clock.ours)
            await asyncio.sleep(_AGENT_PAUSE)

    async def _samples(self, interval: float) -> AsyncIterator[Body]:
        if self._socket is None:
            return
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=LIMIT)
        try:
            writer.write(channel.encode({"op": "samples", "interval": interval}))
            await reader.readline()
            while line := await reader.readline():
                yield channel.decode(line)
        finally:
            writer.close()


async def _until_either(*doings: Coroutine[Any, Any, None]) -> list[BaseException | None]:
    """Do several things until one of them has ended; return how each did, None if well."""
    tasks = [asyncio.ensure_future(each) for each in doings]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    return results
