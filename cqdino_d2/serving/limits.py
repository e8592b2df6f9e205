"""How much a server takes from its visitors, and who has taken how much."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

_UNITS = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}


@dataclass(frozen=True)
class SharedLimits:
    """The limits that the page and the HTTP API of a server share.

    Attributes:
        upload_bytes: of one image file.
        pixels: of one image.
        pixels_at_once: of all decoded images that are looked at or drawn.
        answer_seconds: that a request may wait for its answer.
        connections: open at the same time.
    """

    upload_bytes: int = 15 * 2**20
    pixels: int = 25_000_000
    pixels_at_once: int = 200_000_000
    answer_seconds: float = 120.0
    connections: int = 500

    def __post_init__(self) -> None:
        if too_small := [name for name, value in vars(self).items() if not value > 0]:
            raise ValueError(f"limits must be positive, got {too_small}")
        if self.pixels_at_once < self.pixels:
            raise ValueError(f"pixels_at_once has no room for one image of {self.pixels} pixels")


@dataclass(frozen=True)
class PageLimits(SharedLimits):
    """Totals of the page. A client is an address; a session is a page in a browser.

    Attributes:
        disk_bytes: of all uploads and drawn images together.
        keep_seconds: after which an upload or drawn image is deleted.
        uploads_per_minute: of one client.
        uploads_per_minute_in_all: of all clients.
        uploads_at_once: of one client.
        upload_seconds: that one upload may take.
        client_bytes: that one client may upload within ``keep_seconds``.
        runs_per_minute: requests of one client to run, show or follow something.
        sessions: whose last result is kept in memory.
        result_bytes: of all results in memory.
        unread_answers: of a session that does not fetch its answers.
    """

    disk_bytes: int = 256 * 2**20
    keep_seconds: float = 3600.0
    uploads_per_minute: int = 30
    uploads_per_minute_in_all: int = 120
    uploads_at_once: int = 4
    upload_seconds: float = 120.0
    client_bytes: int = 128 * 2**20
    runs_per_minute: int = 240
    sessions: int = 100
    result_bytes: int = 64 * 2**20
    unread_answers: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.disk_bytes < 2 * self.upload_bytes:
            raise ValueError(
                f"{self.disk_bytes} bytes of disk are too few for uploads of up to "
                f"{self.upload_bytes}: at least two must fit"
            )

    @classmethod
    def beside(cls, api: SharedLimits) -> PageLimits:
        """Those of a page in one server with an API: shared limits are the API's."""
        shared = {field.name: getattr(api, field.name) for field in fields(SharedLimits)}
        return cls(**shared, disk_bytes=max(cls.disk_bytes, 4 * api.upload_bytes))


def size_in_bytes(text: str) -> int:
    """The bytes that '15mb', '200 kB' or '1000' stands for; a kB has 1024.

    Raises:
        ValueError: no such size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?b)?\s*", text.lower())
    if found is None:
        raise ValueError(f"expected a size such as 15mb or 200kb, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2] or ""])


class Rate:
    """What each of several takers has taken within a sliding window.

    Args:
        most: that one may take.
        seconds: length of the window.
        clock: seconds that only increase.
    """

    def __init__(
        self, most: float, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most, self.seconds, self._clock = most, seconds, clock
        self._taken: dict[str, deque[tuple[float, float]]] = {}

    def allows(self, key: str, amount: float = 1) -> bool:
        """Whether a taker may take this amount now."""
        self._forget()
        return sum(taken for _, taken in self._taken.get(key, ())) + amount <= self.most

    def take(self, key: str, amount: float = 1) -> None:
        """Notes what was taken."""
        self._taken.setdefault(key, deque()).append((self._clock(), amount))

    def _forget(self) -> None:
        start = self._clock() - self.seconds
        for key, taken in list(self._taken.items()):
            while taken and taken[0][0] <= start:
                taken.popleft()
            if not taken:
                del self._taken[key]


@dataclass(frozen=True)
class ApiLimits(SharedLimits):
    """Totals of the HTTP API. A client is an address.

    Attributes:
        bytes_at_once: of all bodies of requests in progress.
        upload_seconds: that one body may take.
        names: of one request, synonyms and negatives counted.
        characters: of a request's caption or names and of its negatives.
        num_selected: K of a request.
        requests_per_minute: of one client.
        kept_seconds: how long uploads and results of tasks are kept for their client.
        kept_tasks: tasks whose results are kept.
        kept_bytes: of uploads that are kept.
    """

    bytes_at_once: int = 256 * 2**20
    upload_seconds: float = 60.0
    names: int = 500
    characters: int = 5000
    num_selected: int = 300
    requests_per_minute: int = 6000
    kept_seconds: float = 600.0
    kept_tasks: int = 1000
    kept_bytes: int = 128 * 2**20

    def __post_init__(self) -> None:
        super().__post_init__()
        for most, one in (("bytes_at_once", self.body_bytes), ("kept_bytes", self.upload_bytes)):
            if getattr(self, most) < one:
                raise ValueError(f"{most} has no room for one upload of {self.upload_bytes} bytes")

    @property
    def body_bytes(self) -> int:
        """Of one request: the image in base64, and what is said about it."""
        return self.upload_bytes * 4 // 3 + 2**18


class Budget:
    """A total that all requests share.

    Args:
        most: that may be taken at the same time.
    """

    def __init__(self, most: int) -> None:
        self.most, self.taken, self._lock = most, 0, threading.Lock()

    def take(self, amount: int) -> bool:
        """Takes a part, if it is left; each success needs a `give`."""
        with self._lock:
            if self.taken + amount > self.most:
                return False
            self.taken += amount
            return True

    def give(self, amount: int) -> None:
        """Gives a part back."""
        with self._lock:
            self.taken -= amount

    def share(self, amount: int) -> Share | None:
        """Takes a part for its first keeper, None where it is not left."""
        return Share(self, amount) if self.take(amount) else None


class Share:
    """A part of a budget, given back when the last of those who keep it has let it go.

    Args:
        budget: that it was taken from.
        amount: of it.
    """

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget, self._amount, self._lock = budget, amount, threading.Lock()
        self._keepers = 1

    def keep(self) -> None:
        """One more keeps it, while another one does."""
        with self._lock:
            self._keepers += 1

    def let_go(self) -> None:
        """A keeper needs it no more."""
        with self._lock:
            self._keepers -= 1
            is_last = not self._keepers
        if is_last:
            self._budget.give(self._amount)

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
