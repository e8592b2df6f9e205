"""Time and memory of the stages of a model."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import nn

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SAMPLE_SECONDS = 0.002


class PeakMemory:
    """Peak of the memory in use, in bytes: allocated on CUDA, else resident in the process."""

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._process = device.type == "cuda", psutil.Process()
        self._peak, self._stop = 0, threading.Event()
        if not self._cuda:
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()

    def now(self) -> int:
        """Bytes in use."""
        if self._cuda:
            return torch.cuda.memory_allocated()
        return self._process.memory_info().rss

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self.now())

    def reset(self) -> None:
        """Starts a new measurement, on the CPU without the freed memory of earlier work."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)  # the GNU C library's
        self._peak = self.now()

    def peak(self) -> int:
        """The peak since `reset`."""
        if self._cuda:
            return torch.cuda.max_memory_allocated()
        return max(self._peak, self.now())

    def close(self) -> None:
        """Ends the sampling."""
        self._stop.set()


class StageClock:
    """Time, or extra memory, of the direct children of a model in its forward pass.

    Args:
        model: hooks are put on its children.
        device: where it runs.
        read: gives the seconds; `time.process_time` where others keep the processor busy.
        memory: whether to measure memory, which takes time itself.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        read: Callable[[], float] = time.perf_counter,
        memory: bool = False,
    ) -> None:
        self._read = read
        self.seconds: dict[str, list[float]] = {}
        self.extra_bytes: dict[str, int] = {}
        self._device, self._memory = device, PeakMemory(device) if memory else None
        self._begun: dict[str, float] = {}
        self._before: dict[str, int] = {}
        self._handles = []
        for name, child in model.named_children():
            self._handles.append(child.register_forward_pre_hook(lambda *_, n=name: self._start(n)))
            self._handles.append(child.register_forward_hook(lambda *_, n=name: self._end(n)))

    def now(self) -> float:
        """Seconds, when all that was begun is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return self._read()

    def _start(self, name: str) -> None:
        if self._memory:
            self._memory.reset()
            self._before[name] = self._memory.now()
        self._begun[name] = self.now()

    def _end(self, name: str) -> None:
        self.seconds.setdefault(name, []).append(self.now() - self._begun[name])
        if self._memory:
            extra = self._memory.peak() - self._before[name]
            self.extra_bytes[name] = max(self.extra_bytes.get(name, 0), extra)

    @contextmanager
    def whole(self, name: str) -> Iterator[None]:
        """Measures a block as a stage of its own."""
        self._start(name)
        yield
        self._end(name)

    def close(self) -> None:
        """Takes the hooks off."""
        if self._memory:
            self._memory.close()
        for handle in self._handles:
            handle.remove()
