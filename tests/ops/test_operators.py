"""The compiled operators in torch.library: checks, autograd, autocast, compile, export."""

import pytest
import torch

from cqdino_d2 import ops
from cqdino_d2.ops import compiled
from tests.ops.definition import by_definition, random_arguments, random_offsets, relative_error

pytestmark = pytest.mark.skipif("cpu" not in compiled.DEVICES, reason="not compiled")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif("cuda" not in compiled.DEVICES, reason="no CUDA part"),
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
        ],
    ),
]


def operator(*inputs):
    return torch.ops.cqdino_d2.deformable_attention(*inputs)


def both_forms(device, dtype=torch.float32):
    """Arguments of the operator with locations and with offsets."""
    value, shapes, starts, references, offsets, logits = random_offsets(dtype, 4, channels=8)
    forms = (
        random_arguments(dtype, channels=8),
        (value, shapes, starts, offsets, logits, references),
    )
    return [[x.to(device) for x in form] for form in forms]


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device):
    for inputs in both_forms(device):
        for i in (0, 3, 4):
            inputs[i].requires_grad_()
        torch.library.opcheck(torch.ops.cqdino_d2.deformable_attention.default, tuple(inputs))
        grad_output = operator(*inputs).detach()
        detached = [x.detach() for x in inputs]
        torch.library.opcheck(
            torch.ops.cqdino_d2.deformable_attention_backward.default, (grad_output, *detached)
        )


@pytest.mark.parametrize("device", DEVICES)
def test_a_second_derivative_is_refused(device):
    inputs = both_forms(device)[0]
    inputs[0].requires_grad_()
    (first,) = torch.autograd.grad(operator(*inputs).sum(), inputs[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="only once"):
        first.sum().backward()


def test_gradients_of_references_are_refused():
    inputs = both_forms("cpu")[1]
    inputs[5].requires_grad_()
    with pytest.raises(NotImplementedError, match="no gradient for references"):
        operator(*inputs)


@pytest.mark.parametrize("device", DEVICES)
def test_wrong_arguments_are_refused(device):
    good = random_arguments(torch.float32)
    wrong = [
        (0, good[0].int(), TypeError, "value must be float"),
        (0, good[0][0], ValueError, "value must be"),
        (1, good[1].int(), TypeError, "spatial_shapes is"),
        (1, good[1][:2], ValueError, "spatial_shapes is"),
        (2, good[2][:, None], ValueError, "level_start_index is"),
        (3, good[3].double(), TypeError, "sampling_locations is"),
        (3, good[3][0], ValueError, "locations or offsets"),
        (3, good[3][..., :1], ValueError, "sampling_locations is"),
        (4, good[4].half(), TypeError, "attention_weights is"),
        (4, good[4][:, :2], ValueError, "attention_weights is"),
    ]
    for position, tensor, error, message in wrong:
        inputs = [x.to(device) for x in good]
        inputs[position] = tensor.to(device)
        with pytest.raises(error, match=message):
            operator(*inputs)


@pytest.mark.parametrize(
    ("shape", "start"), [((5, 8), 38), ((5, 7), -1), ((-1, 5), 0), ((2**40, 2**40), 0)]
)
def test_levels_outside_the_tokens_are_refused(shape, start):
    value, shapes, starts, locations, weights = random_arguments(torch.float32)
    shapes[0], starts[0] = torch.tensor(shape), start
    with pytest.raises(ValueError, match=r"level 0 of .* does not lie within 42 tokens"):
        operator(value, shapes, starts, locations, weights)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_devices_must_be_the_same():
    inputs = both_forms("cuda")[0]
    inputs[3] = inputs[3].cpu()
    with pytest.raises(ValueError, match="sampling_locations is on cpu, value on cuda"):
        operator(*inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(device, dtype):
    """Values in autocast's type; locations keep their precision, float64 stays as it is."""
    inputs = random_arguments(torch.float32, [(100, 160)], channels=16)
    given = [x.to(device) for x in inputs]
    with torch.autocast(device, dtype):
        result = ops.multi_scale_deformable_attention(*given)
        exact = [x.double() if x.is_floating_point() else x for x in given]
        assert ops.multi_scale_deformable_attention(*exact).dtype == torch.float64
    rounded = (inputs[0].to(dtype), *inputs[1:4], inputs[4].to(dtype))
    assert result.dtype == dtype
    assert relative_error(result.cpu(), by_definition(*rounded)) < torch.finfo(dtype).eps


@pytest.mark.parametrize("fused", [False, True])
def test_autocast_is_the_same_without_the_extension(fused, monkeypatch):
    function = ops.multi_scale_deformable_attention
    inputs = random_arguments(torch.float32, channels=16)
    if fused:
        function = ops.deformable_attention_from_offsets
        inputs = random_offsets(torch.float32, channels=16)
    with torch.autocast("cpu", torch.bfloat16):
        ours = function(*inputs)
        monkeypatch.setattr(compiled, "DEVICES", frozenset())
        reference = function(*inputs)
    assert ours.dtype == reference.dtype == torch.bfloat16
    assert relative_error(ours, reference) < 0.02


@pytest.mark.slow
def test_compile_and_export():
    class Module(torch.nn.Module):
        def forward(self, value, shapes, starts, references, offsets, logits):
            output = ops.deformable_attention_from_offsets(
                value, shapes, starts, references, offsets, logits
            )
            return output * 2

    inputs = random_offsets(torch.float32, channels=8)
    inputs[0].requires_grad_()
    expected = Module()(*inputs)
    (gradient,) = torch.autograd.grad(expected.sum(), inputs[0])
    module = torch.compile(Module(), fullgraph=True, backend="aot_eager")
    result = module(*inputs)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result.sum(), inputs[0])[0], gradient)

    inputs = tuple(x.detach() for x in inputs)
    queries = torch.export.Dim("queries", min=2, max=1000)
    per_query = {1: queries}
    dynamic = (None, None, None, per_query, per_query, per_query)
    exported = torch.export.export(Module(), inputs, dynamic_shapes=dynamic).module()
    fewer = (*inputs[:3], *(x[:, :4] for x in inputs[3:]))
    torch.testing.assert_close(exported(*fewer), Module()(*fewer))


def test_the_reference_alone_can_be_asked_for():
    before = ops.backend("cpu")
    with ops.reference_only():
        assert ops.backend("cpu") == "reference"
        with ops.reference_only(False):
            assert ops.backend("cpu") == before
    assert ops.backend("cpu") == before
