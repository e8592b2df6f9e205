"""The one thread in which models run, on as many requests at once as have come together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ..prediction.loading import AnyPredictor, Question
from ..prediction.question_batches import Answer, QuestionBatches

_LOGGER = logging.getLogger(__name__)


class Busy(Exception):
    """The queue is full, or the server is about to end."""


class ModelFailed(Exception):
    """The model could not look at an image, for no fault of the request's words."""


@dataclass(frozen=True)
class Found:
    """What a model found for a request.

    Attributes:
        answer: of the model.
        waited: seconds in the queue.
        seconds: that the batch took.
        batch_size: requests that were answered together.
    """

    answer: Answer
    waited: float
    seconds: float
    batch_size: int


@dataclass(frozen=True)
class Batching:
    """How requests are put together.

    Attributes:
        most: requests that go through a model together, 1 for each by itself.
        wait_seconds: that the first of a batch waits for others.
        queue: requests that may wait.
    """

    most: int = 4
    wait_seconds: float = 0.005
    queue: int = 64

    def __post_init__(self) -> None:
        if self.most < 1 or self.queue < 1 or not 0 <= self.wait_seconds <= 10:
            raise ValueError(
                "a batch and a queue hold 1 or more and a request waits 0 to 10 s for others, "
                f"got {self}"
            )


@dataclass(eq=False)
class _Job:
    name: str
    image: np.ndarray
    question: Question
    since: float = field(default_factory=time.monotonic)
    future: Future[Found] = field(default_factory=Future)


class Runner:
    """Runs models, one batch at a time.

    Args:
        predictors: by name.
        batching: how requests are put together.
        observe: is called with the name of a model, the size of a batch and its seconds.
    """

    def __init__(
        self,
        predictors: Mapping[str, AnyPredictor],
        batching: Batching | None = None,
        observe: Callable[[str, int, float], None] | None = None,
    ) -> None:
        self.batching = Batching() if batching is None else batching
        self._observe = observe
        self._models = {name: QuestionBatches(one) for name, one in predictors.items()}
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def check(self, name: str, question: Question) -> None:
        """Makes sure that a model understands a question.

        Raises:
            TypeError, ValueError: it does not, in words for a visitor.
        """
        self._models[name].check(question)

    def submit(self, name: str, image: np.ndarray, question: Question) -> Future[Found]:
        """Puts a checked request into the queue; cancelled before it is run, it leaves it.

        Args:
            name: of the model.
            image: (H, W, 3) uint8 BGR.
            question: of hashable parts.

        Returns:
            Of `Found`; its exception is a `ModelFailed`.

        Raises:
            Busy: no room.
        """
        job = _Job(name, image, question)
        with self._changed:
            if self._ends or len(self._jobs) >= self.batching.queue:
                raise Busy
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="models", daemon=True)
                self._thread.start()
            self._changed.notify()
        job.future.add_done_callback(self._leave)
        return job.future

    def _leave(self, future: Future[Found]) -> None:
        """Frees the place and the image of a request that was cancelled."""
        if future.cancelled():
            with self._changed:
                self._jobs = deque(job for job in self._jobs if job.future is not future)

    def close(self) -> None:
        """Ends after the current batch; waiting requests are cancelled."""
        with self._changed:
            self._ends = True
            waiting, self._jobs = self._jobs, deque()
            self._changed.notify()
        for job in waiting:
            job.future.cancel()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            alive = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if alive:
                self._run(alive)

    def _next_batch(self) -> list[_Job]:
        """The oldest request and others to the same model; none at the end."""
        batch: list[_Job] = []
        with self._changed:
            while not batch:  # those that it waited with may have been cancelled
                while not self._jobs and not self._ends:
                    self._changed.wait()
                if not self._jobs:
                    return []
                name = self._jobs[0].name
                self._wait_for_others(name)
                batch = [job for job in self._jobs if job.name == name][: self.batching.most]
            chosen = set(map(id, batch))
            self._jobs = deque(job for job in self._jobs if id(job) not in chosen)
            return batch

    def _wait_for_others(self, name: str) -> None:
        until = time.monotonic() + self.batching.wait_seconds
        while sum(job.name == name for job in self._jobs) < self.batching.most:
            left = until - time.monotonic()
            if left <= 0 or self._ends:
                return
            self._changed.wait(left)

    def _run(self, batch: Sequence[_Job]) -> None:
        """Sets the futures; where a batch fails, each of its requests is tried by itself."""
        start = time.monotonic()
        model = self._models[batch[0].name]
        try:
            answers = model([job.image for job in batch], [job.question for job in batch])
        except Exception as error:  # whatever a model raises, the thread lives on
            if len(batch) > 1:
                _LOGGER.warning("a batch of %d failed, one by one: %r", len(batch), error)
                for job in batch:
                    self._run([job])
            else:
                _LOGGER.error("a model failed", exc_info=error)
                batch[0].future.set_exception(ModelFailed())
            return
        seconds = time.monotonic() - start
        if self._observe is not None:
            self._observe(batch[0].name, len(batch), seconds)
        for job, answer in zip(batch, answers, strict=True):
            job.future.set_result(Found(answer, start - job.since, seconds, len(batch)))
