"""The type that a model computes in, on this processor and on one that is cut down."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cqdino_d2.engine import Precision
from cqdino_d2.layers import (
    autocast,
    check_precision,
    chosen_dtype,
    emulation_warning,
    instruction_set,
    precision,
)
from tests.tiny import make_input, tiny_model

ROOT = Path(__file__).resolve().parents[2]
CUT_DOWN = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "CQDINO_CPU_CAPABILITY": "avx2",
}
# A step of training and a prediction; prints every floating-point type that an operator returned.
STEP = """
import json, logging, sys
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from cqdino_d2.engine import Precision
from tests.tiny import make_input, tiny_model

class Seen(TorchDispatchMode):
    types = set()
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.types |= {str(x.dtype) for x in tree_leaves(out) if torch.is_tensor(x)}
        return out

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
name = sys.argv[1]
model = tiny_model(overrides=[f"model.autocast_dtype={name}", f"model.inference_dtype={name}"])
amp = Precision.from_name(device_type="cpu", enabled=True, dtype="auto")
with Seen():
    with torch.autocast("cpu", dtype=amp.dtype, enabled=amp.dtype is not None):
        losses = model.train()([make_input()])
    sum(losses.values()).backward()
    with torch.no_grad():
        model.eval()([make_input()])
print(json.dumps(sorted(Seen.types)))
"""


@pytest.fixture(autouse=True)
def undecided():
    """Decisions and warnings are made anew, in the test and after it."""
    caches = (precision._automatic, precision._explicit, precision.relative_time)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def run_step(name, environment):
    command = [sys.executable, "-W", "ignore", "-c", STEP, name]
    done = subprocess.run(
        command,
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_auto_never_touches_a_type_that_the_processor_emulates():
    types, log = run_step("auto", CUT_DOWN)
    assert "torch.float32" in types
    assert not {"torch.bfloat16", "torch.float16"} & set(types)
    assert log.count("Automatic precision on cpu: float32") == 1
    assert "WARNING" not in log


def test_auto_does_what_it_says_on_this_processor():
    types, log = run_step("auto", {})
    assert ("torch.bfloat16" in types) == ("Automatic precision on cpu: bfloat16" in log)
    assert log.count("Automatic precision on cpu: ") == 1
    assert "torch.float16" not in types


def test_an_explicit_type_is_taken_and_its_cost_said_once():
    types, log = run_step("bfloat16", CUT_DOWN)
    assert "torch.bfloat16" in types
    [line] = [line for line in log.splitlines() if "emulates bfloat16" in line]
    factor = float(line.split("it takes ")[1].split(" times")[0])
    assert factor > 1.1
    assert line.startswith("WARNING") and "auto" in line


@pytest.mark.parametrize(("relative", "wanted"), [(0.5, torch.bfloat16), (0.95, None), (8.0, None)])
def test_auto_takes_what_was_measured_to_be_faster(monkeypatch, caplog, relative, wanted):
    monkeypatch.setattr(precision, "_may_have_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "relative_time", lambda dtype: relative)
    with caplog.at_level(logging.INFO):
        found = {chosen_dtype("auto", "cpu") for _ in range(2)}
    assert found == {wanted}
    [line] = [record.message for record in caplog.records]
    assert f"{relative:.2f} times" in line and instruction_set() in line
    assert ("bfloat16 (" in line) == (wanted is not None)


def test_auto_measures_nothing_where_onednn_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(precision, "_may_have_bfloat16", lambda: False)
    monkeypatch.setattr(precision, "relative_time", lambda dtype: pytest.fail("measured"))
    check_precision("autocast_dtype", "auto")
    assert chosen_dtype("auto", "cpu") is None


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_gpu_asks_the_gpu(monkeypatch, native):
    asked = []

    def supported(including_emulation=True):
        asked.append(including_emulation)
        return native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert chosen_dtype("auto", "cuda") == (torch.bfloat16 if native else None)
    assert asked == [False]
    assert chosen_dtype("float16", "cuda") == torch.float16  # taken as given


def test_other_devices_stay_in_float32():
    assert chosen_dtype("auto", "meta") is None
    assert chosen_dtype(None, "cpu") is None


def test_a_warning_needs_a_slower_type(monkeypatch):
    monkeypatch.setattr(precision, "relative_time", lambda dtype: 0.6)
    assert emulation_warning(torch.bfloat16) is None
    monkeypatch.setattr(precision, "relative_time", lambda dtype: 7.25)
    assert "emulates bfloat16: it takes 7.2 times" in emulation_warning(torch.bfloat16)


def test_the_measurement_leaves_random_numbers_and_autocast_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert precision.relative_time(torch.bfloat16) > 0
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.rand(3), wanted)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="inference_dtype must be one of .*'auto'.* got 'half'"):
        check_precision("inference_dtype", "half")


def test_the_innermost_switch_wins(monkeypatch):
    """Backbone and neck follow their own switch inside that of the whole model."""
    monkeypatch.setattr(precision, "relative_time", lambda dtype: 1.0)
    names = ["model.autocast_dtype=float16", "model.inference_dtype=bfloat16"]
    model = tiny_model(overrides=names).eval()
    seen = {}
    model.neck.register_forward_hook(lambda m, i, out: seen.update(neck=out[0].dtype))
    expand = model.encoder.image_layers[0].feed_forward.expand
    expand.register_forward_hook(lambda m, i, out: seen.update(encoder=out.dtype))
    with torch.no_grad():
        model([make_input()])
    assert seen == {"neck": torch.float16, "encoder": torch.bfloat16}


def test_float32_by_auto_leaves_the_surrounding_switch(monkeypatch):
    monkeypatch.setattr(precision, "_may_have_bfloat16", lambda: False)
    with torch.autocast("cpu", torch.bfloat16), autocast("auto", "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_amp_in_automatic_precision(monkeypatch):
    monkeypatch.setattr(precision, "relative_time", lambda dtype: 0.5)
    for has, wanted in ((True, torch.bfloat16), (False, None)):
        precision._automatic.cache_clear()
        monkeypatch.setattr(precision, "_may_have_bfloat16", lambda has=has: has)
        found = Precision.from_name(device_type="cpu", enabled=True, dtype="auto")
        assert (found.dtype, found.scaler) == (wanted, None)


def test_the_choice_can_be_compiled(monkeypatch):
    """The decision is a constant of the graph."""
    monkeypatch.setattr(precision, "relative_time", lambda dtype: 0.5)
    monkeypatch.setattr(precision, "_may_have_bfloat16", lambda: True)

    @torch.compile(backend="eager", fullgraph=True)
    def product(x):
        with autocast("auto", x.device.type):
            return x @ x

    assert product(torch.ones(4, 4)).dtype == torch.bfloat16
