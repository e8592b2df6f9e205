"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server.

    Attributes:
        registry: holds them, apart from those of other libraries.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common = {"namespace": "cqdino", "registry": self.registry}
        self._requests = Counter(
            "requests", "Answered requests", ["route", "method", "status"], **common
        )
        self._seconds = Histogram(
            "request_seconds", "From head to answer", ["route"], buckets=_SECONDS, **common
        )
        self._bytes = Counter("request_bytes", "Of bodies", **common)
        self._model_seconds = Histogram(
            "model_seconds", "Of a batch", ["model"], buckets=_SECONDS, **common
        )
        self._batch = Histogram(
            "batch_size", "Requests answered together", ["model"], buckets=_SIZES, **common
        )
        self._queue = Gauge("queue_length", "Requests that wait for a model", **common)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Reads the queue's length whenever it is asked for."""
        self._queue.set_function(length)

    def count_request(
        self, route: str, method: str, status: int, seconds: float, num_bytes: int
    ) -> None:
        """Notes an answered request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._bytes.inc(num_bytes)

    def count_batch(self, model: str, size: int, seconds: float) -> None:
        """Notes a batch; see `Runner`."""
        self._model_seconds.labels(model).observe(seconds)
        self._batch.labels(model).observe(size)

    def text(self) -> bytes:
        """All counters."""
        return generate_latest(self.registry)
