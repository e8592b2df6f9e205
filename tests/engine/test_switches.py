"""Every switch that saves memory or time leaves the loss curve of the tiny detector in place."""

import pytest
import torch
from switches import PLAIN, make_batches, precision_of, train
from torch import nn

from cqdino_d2.backbone import SmallResNet
from cqdino_d2.engine import Precision
from cqdino_d2.engine.activation_checkpointing import checkpoint_blocks
from cqdino_d2.engine.compiling import compile_parts

BLOCKS = ["backbone.stages.*.*", "selection.layers.*", "encoder.*.*", "decoder.layers.*"]
PARTS_RTOL = 1e-4  # rounding alone: 4e-5 was seen
COMPILED_RTOL = 2e-3  # rounding in other kernels, amplified by six updates
AMP_RTOL = 0.1  # of the total loss: 8 or 11 bits of mantissa, other categories selected


@pytest.fixture(scope="module")
def plain():
    return train()


def assert_near(rows, wanted, rel):
    assert len(rows) == len(wanted)
    for row, expected in zip(rows, wanted, strict=True):
        assert row == pytest.approx(expected, rel=rel, abs=rel * 0.1)


@pytest.mark.parametrize("num_parts", [2, 4])
def test_parts_of_a_batch_train_as_the_batch(plain, num_parts):
    """Though they hold different numbers of boxes; averages and steps count updates."""
    trainer, rows = train(num_parts=num_parts)
    assert_near(rows, plain[1], PARTS_RTOL)
    assert trainer.ema.updates == len(rows)
    for key, value in plain[0].ema.weights.items():
        torch.testing.assert_close(trainer.ema.weights[key], value, rtol=1e-3, atol=1e-5)


def test_parts_must_be_equal():
    with pytest.raises(ValueError, match=r"4 images .* 3 parts"):
        train(num_parts=3)
    with pytest.raises(ValueError, match="at least one part"):
        train(num_parts=0)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_mixed_precision_follows_the_plain_run(plain, dtype):
    trainer, rows = train(precision=precision_of(dtype))
    for row, expected in zip(rows, plain[1], strict=True):
        assert row["total_loss"] == pytest.approx(expected["total_loss"], rel=AMP_RTOL)
    assert ("loss_scale" in trainer.storage.histories()) == (dtype == "fp16")


def test_parts_and_loss_scaling_go_together(plain):
    _, rows = train(precision=precision_of("fp16"), num_parts=2)
    for row, expected in zip(rows, plain[1], strict=True):
        assert row["total_loss"] == pytest.approx(expected["total_loss"], rel=AMP_RTOL)


def test_an_overflow_skips_update_and_average():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    trainer, _ = train(make_batches(2), precision=Precision("cpu", torch.float16, scaler))
    for key, value in trainer.ema.weights.items():
        assert torch.equal(value, trainer.model.state_dict()[key]), key
    assert trainer.ema.updates == 0
    assert scaler.get_scale() == 2.0**38


class TestActivationCheckpointing:
    def test_gradients_stay_the_same_with_dropout_and_denoising(self):
        """Bit for bit, and the blocks are indeed computed twice."""
        calls = []

        def checkpointed(model):
            layer = model.decoder.layers[0]
            layer.self_norm.register_forward_hook(lambda *args: calls.append(0))
            names = checkpoint_blocks(model, BLOCKS)
            assert len(names) == 3 + 2 + 4 + 2

        batches = make_batches(2)
        first, rows = train(batches, overrides=())
        second, others = train(batches, overrides=(), prepare=checkpointed)
        assert others == rows
        assert len(calls) == 2 * len(batches)
        for (name, one), two in zip(
            first.model.named_parameters(), second.model.parameters(), strict=True
        ):
            assert torch.equal(one.grad, two.grad), name

    def test_less_is_kept(self):
        def kept_bytes(patterns):
            model = nn.ModuleDict({"blocks": nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)])})
            for block in model["blocks"]:
                block.register_forward_hook(lambda module, args, out: out.exp().sin().tanh())
            checkpoint_blocks(model, patterns)
            kept = []
            with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes), id):
                model["blocks"](torch.ones(5, 8))
            return sum(kept)

        assert 0 < kept_bytes(["blocks"]) < 0.5 * kept_bytes([])

    def test_batch_norms_count_a_batch_once(self):
        def run(patterns):
            torch.manual_seed(0)
            body = SmallResNet(stem_channels=8, channels=[8, 16], strides=[2, 2], num_outputs=1)
            model = nn.ModuleDict({"backbone": body}).train()
            checkpoint_blocks(model, patterns)
            out = body(torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32))
            out["stage1"].square().sum().backward()
            return model.state_dict(), [p.grad for p in body.parameters()]

        (state, gradients), (other_state, others) = run([]), run(["backbone.stages.*.*"])
        assert all(torch.equal(state[key], other_state[key]) for key in state)
        assert all(torch.equal(*pair) for pair in zip(gradients, others, strict=True))

    def test_a_pattern_must_fit(self):
        model = nn.ModuleDict({"encoder": nn.ModuleList([nn.Linear(1, 1)])})
        with pytest.raises(ValueError, match=r"'encoder\.layers\.\*'.*\['encoder'\]"):
            checkpoint_blocks(model, ["encoder.layers.*"])


class TestCompiling:
    @pytest.fixture(autouse=True)
    def fresh_compiler(self):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()

    @pytest.mark.parametrize("blocks", [[], ["backbone.stages.*.*"]])
    def test_parts_train_as_before(self, plain, blocks):
        def prepare(model):
            names = list(model.state_dict())
            checkpoint_blocks(model, blocks)
            compile_parts(model, parts=["backbone", "neck", "selection"], backend="aot_eager")
            assert list(model.state_dict()) == names

        _, rows = train(make_batches(3), prepare=prepare)
        assert_near(rows, plain[1][:3], COMPILED_RTOL)

    def test_the_whole_model_can_be_named(self):
        seen = []
        model = nn.Linear(2, 2)
        compile_parts(model, parts=["."], backend=lambda graph, inputs: seen.append(1) or graph)
        model(torch.ones(1, 2))
        assert seen == [1]

    def test_parts_must_exist(self):
        with pytest.raises(ValueError, match=r"'head'.*\['0'\]"):
            compile_parts(nn.Sequential(nn.Linear(1, 1)), parts=["head"])


def test_the_plain_settings_draw_nothing():
    """Else the curves above could not be compared."""
    assert len(PLAIN) == 3
    first, second = train(make_batches(1)), train(make_batches(1))
    assert first[1] == second[1]
