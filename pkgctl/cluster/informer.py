# SPDX-License-Identifier: GPL-3.0-or-later
"""One list and one watch of a kind of objects, kept up; whoever cares is told what changed.

Each object is read into what its user needs of it, and a change that leaves that as it was is not
told. When the watch's version has become too old the list is read again, and what differs from
before is told, so that nothing is missed and nothing is told twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from pkgctl.cluster.client import Api, Stream
from pkgctl.cluster.refusals import BARRED, STARTING_SECONDS, Patience
from pkgctl.errors import ClusterError, Refused

PAGE = 1000
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
WATCH_SECONDS = 55.0
# Who asks may not, or there is no such list.
_FINAL = (*BARRED, HTTPStatus.NOT_FOUND)

Key = tuple[str, str]  # namespace, which is empty for what has none, and name
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """An object that came (no ``old``), changed, or went (no ``new``)."""

    key: Key
    old: T | None
    new: T | None


class Informer(Generic[T]):
    """Keeps the objects of one list.

    Attributes:
        objects: what there is now, as ``read`` made it; to be changed by nobody else.
        synced: set as soon as the list has been read once, and told.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        read: Callable[[dict[str, Any]], T],
        tell: Callable[[Change[T]], None],
        *,
        query: Mapping[str, Any] | None = None,
        settled: Callable[[], None] | None = None,
        failed: Callable[[ClusterError], None] | None = None,
        patience: float = STARTING_SECONDS,
    ) -> None:
        """Prepare it; ``start`` starts it.

        Args:
            api: the cluster.
            path: of the list.
            read: takes from an object what is needed; its results are compared by ``==``.
            tell: called with each change, from the informer's own thread.
            query: selectors.
            settled: called once, when the list has been read and told for the first time.
            failed: called with an error that asking again does not help, which ends the informer.
            patience: seconds for which being refused may pass, as long as the list was not read.
        """
        self.objects: dict[Key, T] = {}
        self.synced = threading.Event()
        self._api, self._path, self._query = api, path, dict(query or {})
        self._read, self._tell = read, tell
        self._settled, self._failed = settled, failed
        self._patience = Patience(patience, statuses=_FINAL)
        self._uids: dict[Key, str] = {}
        self._version = ""
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"informer {path}", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self, wait: float = 1.0) -> None:
        """End, and wait a little for it: a request may be under way, whose answer is not told."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.stop()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(wait)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                if not self._version:
                    self._list()
                self._follow()
                pause = FIRST_PAUSE
            except ClusterError as error:
                pause = self._after(error, pause)
            except Exception as error:
                self._give_up(ClusterError(f"{self._path} could not be followed: {error!r}"))
                raise

    def _after(self, error: ClusterError, pause: float) -> float:
        """Wait, unless the list is to be read again at once; return the pause after the next."""
        if isinstance(error, Refused) and error.status == HTTPStatus.GONE:
            self._version = ""
            return pause
        if self._patience.runs_out(error) and not self.synced.is_set():
            self._give_up(error)
        self._stopped.wait(pause)
        return min(2 * pause, LONGEST_PAUSE)

    def _give_up(self, error: ClusterError) -> None:
        if self._failed is not None and not self._stopped.is_set():
            self._failed(error)
        self._stopped.set()

    def _list(self) -> None:
        """Read the list, and tell what differs from what was known."""
        found: dict[Key, dict[str, Any]] = {}
        for page in self._pages():
            found.update({_key(each): each for each in page["items"]})
            version = page["metadata"]["resourceVersion"]
        if self._stopped.is_set():
            return
        for key in self.objects.keys() - found.keys():
            self._remove(key)
        for key, each in found.items():
            self._take(key, each)
        self._version = version
        if not self.synced.is_set():
            self.synced.set()
            if self._settled is not None:
                self._settled()

    def _pages(self) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self._api.get(self._path, limit=PAGE, **self._query, **more)
            yield page
            token = page["metadata"].get("continue")
            if not token or self._stopped.is_set():
                return
            more = {"continue": token}

    def _follow(self) -> None:
        """Take events until the server ends the watch."""
        stream = self._api.watch(self._path, self._version, WATCH_SECONDS, **self._query)
        self._stream = stream
        for event in stream if not self._stopped.is_set() else ():
            if self._stopped.is_set():
                break
            self._take_event(event["type"], event["object"])
        self._stream = None
        stream.stop()

    def _take_event(self, kind: str, each: dict[str, Any]) -> None:
        if kind == "DELETED":
            self._remove(_key(each))
        elif kind != "BOOKMARK":
            self._take(_key(each), each)
        self._version = each["metadata"]["resourceVersion"]

    def _take(self, key: Key, each: dict[str, Any]) -> None:
        uid = each["metadata"]["uid"]
        if self._uids.get(key, uid) != uid:
            self._remove(key)  # another one of the same name
        old, new = self.objects.get(key), self._read(each)
        self._uids[key] = uid
        if new != old:
            self.objects[key] = new
            self._tell(Change(key, old, new))

    def _remove(self, key: Key) -> None:
        self._uids.pop(key, None)
        old = self.objects.pop(key, None)
        if old is not None:
            self._tell(Change(key, old, None))


def _key(each: Mapping[str, Any]) -> Key:
    return each["metadata"].get("namespace", ""), each["metadata"]["name"]
