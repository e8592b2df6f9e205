"""The instruction set of the CPU kernels: each computes the same, and the environment chooses."""

import os
from pathlib import Path

import pytest
import torch

from cqdino_d2 import ops
from cqdino_d2.ops import compiled
from tests.runs import run_python

pytestmark = pytest.mark.skipif("cpu" not in compiled.DEVICES, reason="not compiled")
NEEDED = dict(
    avx512={"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"},
    avx2={"avx2", "fma"},
    baseline=set(),
)
CUT_DOWN = dict(ATEN_CPU_CAPABILITY="avx2", DNNL_MAX_CPU_ISA="AVX2", MKL_ENABLE_INSTRUCTIONS="AVX2")
COMPARE = """
import torch
from cqdino_d2 import ops
from cqdino_d2.ops.reference import multi_scale_deformable_attention_reference as reference
from tests.ops.definition import *
worst = 0.0
for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
    for channels in (1, 7, 16, 32, 53):
        inputs = random_offsets(dtype, 4, channels=channels, queries=3)
        error = relative_error(ops.deformable_attention_from_offsets(*inputs),
                               from_offsets_by_definition(*inputs))
        worst = max(worst, error / torch.finfo(dtype).eps)
        inputs = random_arguments(dtype, channels=channels, queries=20)
        grad_output = torch.rand(2, 20, 3 * channels).to(dtype)
        found = gradients(ops.multi_scale_deformable_attention, inputs, (0, 3, 4), grad_output)
        exact = [x.double() if x.is_floating_point() else x for x in inputs]
        expected = gradients(reference, exact, (0, 3, 4), grad_output)
        errors = map(relative_error, found, expected)
        worst = max(worst, max(errors) / torch.finfo(dtype).eps)
print(ops.backend(), ops.cpu_capability(), worst < 8 or worst)
"""
REFUSED = """
from cqdino_d2 import ops
from tests.ops.definition import *
for call in (ops.cpu_capability, lambda: ops.multi_scale_deformable_attention(*random_arguments())):
    try:
        print(call())
    except ValueError as error:
        print(str(error).splitlines()[0])
"""


def is_supported(capability):
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return NEEDED[capability] <= set(line.split())
    return capability == "baseline"


@pytest.mark.parametrize("capability", NEEDED)
def test_every_instruction_set_computes_the_same(capability):
    if is_supported(capability):
        told = run_python(COMPARE, CQDINO_CPU_CAPABILITY=capability)
        assert told == f"compiled {capability} True"
    else:
        told = run_python(REFUSED, CQDINO_CPU_CAPABILITY=capability).splitlines()
        message = f"CQDINO_CPU_CAPABILITY={capability}: this processor lacks these instructions"
        assert told == [message] * 2


def test_an_unknown_instruction_set_is_refused():
    told = run_python(REFUSED, CQDINO_CPU_CAPABILITY="AVX-2").splitlines()
    assert told == ["CQDINO_CPU_CAPABILITY=AVX-2: expected avx512, avx2 or baseline"] * 2


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (CUT_DOWN, "avx2"),
        (dict(ATEN_CPU_CAPABILITY="default"), "baseline"),
        (dict(ATEN_CPU_CAPABILITY="default", CQDINO_CPU_CAPABILITY="avx2"), "avx2"),
        (CUT_DOWN | dict(CQDINO_CPU_CAPABILITY="baseline"), "baseline"),
    ],
)
def test_the_environment_chooses(variables, expected):
    """PyTorch's variable where ours says nothing, else ours."""
    if not is_supported(expected):
        pytest.skip(f"no {expected}")
    code = "from cqdino_d2 import ops; print(ops.cpu_capability())"
    assert run_python(code, **({"CQDINO_CPU_CAPABILITY": ""} | variables)) == expected


def test_the_other_tests_run_what_the_environment_chose():
    """With the instruction sets cut down, the tests beside this one are those of avx2."""
    wanted = os.environ.get("CQDINO_CPU_CAPABILITY")
    if not wanted:
        of_torch = torch.backends.cpu.get_cpu_capability()
        wanted = {"AVX512": "avx512", "AVX2": "avx2"}.get(of_torch, "baseline")
        if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2" and is_supported("avx2"):
            assert wanted == "avx2"
    assert ops.cpu_capability() == wanted


def test_without_the_kernels_there_is_none():
    with ops.reference_only():
        assert ops.cpu_capability() is None
