"""In which floating-point type a model computes: the one place where it is decided.

A config has three switches. They nest as torch's autocast does, so that the innermost wins:

* ``train.amp``: the whole forward pass of a training step, with a loss scaler for float16.
* ``model.inference_dtype``: the whole forward pass of a prediction.
* ``model.autocast_dtype``: the convolutional part, inside either of them.

None leaves a part to the switch around it, and in the end to float32. "bfloat16" and "float16" are
taken as given; where a CPU emulates them a warning says what that costs. "auto" takes bfloat16
where the processor is faster in it, and otherwise is the same as None.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F

_LOGGER = logging.getLogger(__name__)

AUTO = "auto"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NAMES = (None, AUTO, *DTYPES)

_WORTH_IT = 0.9  # of float32's time: below it the gain is larger than the noise of a measurement
_WORTH_A_WARNING = 1.1
_ROUNDS = 3


def check_precision(argument: str, name: str | None) -> None:
    """Raises ValueError for another name; measures now what `chosen_dtype` will need.

    A model calls it when it is made: what is measured while a compiler traces would be wrong.
    """
    if name not in NAMES:
        raise ValueError(f"{argument} must be one of {list(NAMES)}, got {name!r}")
    if name in DTYPES or (name == AUTO and _may_have_bfloat16()):
        relative_time(DTYPES.get(name, torch.bfloat16))


@torch.compiler.assume_constant_result
def chosen_dtype(name: str | None, device_type: str) -> torch.dtype | None:
    """The type of autocast that a switch stands for on a device; None for no autocast.

    The log says once per process what "auto" came to. An explicit type that a CPU emulates is
    warned about once.
    """
    if name is None:
        return None
    return _automatic(device_type) if name == AUTO else _explicit(name, device_type)


def autocast(name: str | None, device_type: str) -> AbstractContextManager[None]:
    """Autocast as a switch wants it; without effect where it wants none."""
    dtype = chosen_dtype(name, device_type)
    return nullcontext() if dtype is None else torch.autocast(device_type, dtype)


@functools.cache
def relative_time(dtype: torch.dtype) -> float:
    """How long the CPU takes in a type, as a multiple of float32's time.

    Measured once per process, in a few milliseconds (tens where the type is emulated), on a
    product and a convolution that take turns in both types; the best of three rounds counts.
    """
    jobs = [job for kind in (torch.float32, dtype) for job in _jobs(kind)]
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for job in jobs:  # oneDNN writes its code in the first call
            job()
        rounds = [[_seconds(job) for job in jobs] for _ in range(_ROUNDS)]
    best = [min(times) for times in zip(*rounds, strict=True)]
    half = len(best) // 2
    return sum(best[half:]) / sum(best[:half])


def emulation_warning(dtype: torch.dtype) -> str | None:
    """One line on what a type costs that this machine's CPU emulates; None if it does not."""
    factor = relative_time(dtype)
    if factor < _WORTH_A_WARNING:
        return None
    return (
        f"this processor emulates {_name(dtype)}: it takes {factor:.1f} times as long as float32 "
        f"(measured on a product and a convolution, instruction set {instruction_set()})"
    )


def instruction_set() -> str:
    """Of torch's own kernels on the CPU: "AVX2", "AVX512", "DEFAULT"..."""
    return torch.backends.cpu.get_cpu_capability()


@functools.cache
def _automatic(device_type: str) -> torch.dtype | None:
    if device_type == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
        why = "the GPU has it" if found else "the GPU does not have bfloat16"
    elif device_type != "cpu":
        found, why = False, f"nothing is known about bfloat16 on {device_type}"
    elif not _may_have_bfloat16():
        found, why = False, "the processor, or oneDNN as it is set up, does not have bfloat16"
    else:
        factor = relative_time(torch.bfloat16)
        found = factor < _WORTH_IT
        why = f"bfloat16 takes {factor:.2f} times as long as float32 here"
    name = "bfloat16" if found else "float32"
    if device_type == "cpu":
        why += f"; instruction set {instruction_set()}"
    _LOGGER.info("Automatic precision on %s: %s (%s)", device_type, name, why)
    return torch.bfloat16 if found else None


@functools.cache
def _explicit(name: str, device_type: str) -> torch.dtype:
    dtype = DTYPES[name]
    warning = emulation_warning(dtype) if device_type == "cpu" else None
    if warning:
        _LOGGER.warning("%s; 'auto' takes the faster of bfloat16 and float32", warning)
    return dtype


def _may_have_bfloat16() -> bool:
    """Whether oneDNN has code for it on this CPU; it need not be faster.

    It follows the environment variables that cut oneDNN's instruction sets down.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and mkldnn.enabled and supported is not None and supported()


def _jobs(dtype: torch.dtype) -> list[Callable[[], torch.Tensor]]:
    """A product and a convolution, each a fraction of a millisecond in float32."""
    square = torch.linspace(-1, 1, 128 * 128, device="cpu").view(128, 128).to(dtype)
    maps = torch.linspace(-1, 1, 4 * 32 * 32 * 32, device="cpu").view(4, 32, 32, 32).to(dtype)
    maps = maps.contiguous(memory_format=torch.channels_last)
    weight = torch.linspace(-1, 1, 32 * 32 * 9, device="cpu").view(32, 32, 3, 3).to(dtype)
    return [lambda: square @ square, lambda: F.conv2d(maps, weight, padding=1)]


def _seconds(job: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
