"""The CUDA kernels' own text, run on the CPU by threads (see cuda_on_host.cpp)."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from cqdino_d2.ops.reference import (
    locations_and_weights,
    multi_scale_deformable_attention_reference,
)
from tests.ops.definition import gradients, random_arguments, random_offsets, relative_error

SOURCE = Path(__file__).with_name("cuda_on_host.cpp")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
POINTERS = (
    "value shapes starts references locations offsets weights "
    "output grad_output grad_value grad_locations grad_offsets grad_weights"
).split()


class Problem(ctypes.Structure):
    """As in csrc/problem.h."""

    _fields_ = [("sizes", ctypes.c_int64 * 8)] + [(name, ctypes.c_void_p) for name in POINTERS]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    path = tmp_path_factory.mktemp("host") / "cuda_on_host.so"
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", "-w"]
    done = subprocess.run(
        [compiler, *flags, SOURCE, "-o", path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(path))


def run(library, value, shapes, starts, places, weights, references=None, grad_output=None):
    """Output, or the three gradients."""
    batch, queries, heads, levels, points, _ = places.shape
    channels = value.shape[3]
    reference_size = 0 if references is None else references.shape[-1]
    sizes = (batch, value.shape[1], heads, channels, queries, levels, points, reference_size)
    fused = references is not None
    grads = [torch.full_like(x, torch.nan) for x in (places, weights)]
    output = value.new_full((batch, queries, heads * channels), torch.nan)
    tensors = dict(value=value, shapes=shapes, starts=starts, weights=weights, output=output)
    tensors["offsets" if fused else "locations"] = places
    tensors["grad_offsets" if fused else "grad_locations"] = grads[0]
    tensors.update(references=references, grad_output=grad_output, grad_weights=grads[1])
    pointers = {name: x.data_ptr() for name, x in tensors.items() if x is not None}
    problem = Problem(sizes=(ctypes.c_int64 * 8)(*sizes), **pointers)
    kernel = getattr(library, "run_" + str(value.dtype).removeprefix("torch."))
    exact = torch.promote_types(value.dtype, torch.float32)
    sums = torch.zeros(value.shape, dtype=exact)
    backward = ctypes.c_void_p(None if grad_output is None else sums.data_ptr())
    kernel(ctypes.byref(problem), backward)
    return output if grad_output is None else (sums, *grads)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("channels", [16, 32, 64, 5, 40])
def test_locations(library, dtype, channels):
    inputs = random_arguments(dtype, channels=channels, queries=2, heads=3, points=2)
    grad_output = torch.rand(2, 2, 3 * channels, dtype=torch.float64).to(dtype)
    expected = gradients(
        multi_scale_deformable_attention_reference,
        [x.double() if x.is_floating_point() else x for x in inputs],
        (0, 3, 4),
        grad_output,
    )
    found = [run(library, *inputs), *run(library, *inputs, grad_output=grad_output)]
    errors = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
    assert max(errors) < TOLERANCE[dtype], errors


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reference_size", [2, 4])
def test_offsets(library, dtype, reference_size):
    inputs = random_offsets(dtype, reference_size, channels=16, queries=3, heads=2)
    value, shapes, starts, references, offsets, logits = inputs
    grad_output = torch.rand(2, 3, 2 * 16, dtype=torch.float64).to(dtype)

    def composed(value, shapes, starts, references, offsets, logits):
        places = locations_and_weights(shapes, references, offsets, logits)
        return multi_scale_deformable_attention_reference(value, shapes, starts, *places)

    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    expected = gradients(composed, exact, (0, 4, 5), grad_output)
    given = (value, shapes, starts, offsets, logits, references)
    found = [run(library, *given), *run(library, *given, grad_output=grad_output)]
    errors = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
    assert max(errors) < TOLERANCE[dtype], errors


def test_nan_and_levels_outside_show(library):
    value, shapes, starts, locations, weights = random_arguments(channels=16, queries=2)
    locations[0, 0, 1, 2, 1, 0] = torch.nan
    output = run(library, value, shapes, starts, locations, weights).view(2, 2, 3, 16)
    assert output[0, 0, 1].isnan().all() and output.isnan().sum() == 16
    starts = starts + 1  # the last level's only cell lies behind the tokens
    output = run(library, value, shapes, starts, locations, weights)
    assert output.isnan().all()


def test_what_lies_outside_is_zero(library):
    value, shapes, starts, locations, weights = random_arguments(channels=16, queries=2)
    for far in (7.0, -1e30, torch.inf):
        places = torch.full_like(locations, far)
        assert run(library, value, shapes, starts, places, weights).abs().max() == 0
