"""The kernels and the reference against loops that follow the definition."""

import pytest
import torch
from benchmarks.ops import grid_sample_attention

from cqdino_d2 import ops
from cqdino_d2.ops import compiled
from cqdino_d2.ops.reference import multi_scale_deformable_attention_reference
from tests.ops import definition
from tests.ops.definition import gradients, random_arguments, random_offsets, relative_error

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
needs_extension = pytest.mark.skipif("cpu" not in compiled.DEVICES, reason="not compiled")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(
    params=[
        "reference",
        pytest.param("cpu", marks=needs_extension),
        pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda]),
    ]
)
def device(request, monkeypatch):
    """Where the op runs; "reference": on the CPU, without the extension."""
    if request.param == "reference":
        monkeypatch.setattr(compiled, "DEVICES", frozenset())
        return "cpu"
    assert ops.backend(request.param) == "compiled"
    return request.param


def on(device, inputs):
    return [x.to(device) for x in inputs]


def plain(*inputs):
    return ops.multi_scale_deformable_attention(*inputs).cpu()


def fused(*inputs):
    return ops.deformable_attention_from_offsets(*inputs).cpu()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 4, 7, 16, 32, 53, 64])
def test_agrees_with_the_definition(device, dtype, channels):
    inputs = random_arguments(dtype, channels=channels, queries=3)
    result = plain(*on(device, inputs))
    assert result.dtype == dtype
    assert relative_error(result, definition.by_definition(*inputs)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reference_size", [2, 4])
def test_offsets_agree_with_the_definition(device, dtype, reference_size):
    inputs = random_offsets(dtype, reference_size, channels=16, queries=4)
    result = fused(*on(device, inputs))
    expected = definition.from_offsets_by_definition(*inputs)
    assert relative_error(result, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("channels", [3, 16])
def test_gradients_agree_with_finite_differences(device, channels):
    inputs = random_arguments(batch=1, heads=2, queries=2, channels=channels)
    value, shapes, starts, locations, weights = on(device, inputs)

    def function(value, locations, weights):
        return ops.multi_scale_deformable_attention(value, shapes, starts, locations, weights)

    differentiable = [x.requires_grad_() for x in (value, locations, weights)]
    assert torch.autograd.gradcheck(function, differentiable, nondet_tol=1e-12)


@pytest.mark.parametrize("reference_size", [2, 4])
@pytest.mark.parametrize("with_references", [False, True])
def test_gradients_of_offsets_agree_with_finite_differences(
    device, reference_size, with_references
):
    inputs = random_offsets(reference_size=reference_size, batch=1, heads=2, queries=2)
    value, shapes, starts, references, offsets, logits = on(device, inputs)

    def function(value, references, offsets, logits):
        return ops.deformable_attention_from_offsets(
            value, shapes, starts, references, offsets, logits
        )

    differentiable = [x.requires_grad_() for x in (value, offsets, logits)]
    references.requires_grad_(with_references)
    differentiable.insert(1, references)
    assert torch.autograd.gradcheck(function, differentiable, nondet_tol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_gradients_in_every_precision(device, dtype):
    inputs = random_arguments(dtype, channels=32, queries=9)
    grad_output = torch.rand(2, 9, 96).to(dtype)
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    expected = gradients(multi_scale_deformable_attention_reference, exact, (0, 3, 4), grad_output)
    found = gradients(
        ops.multi_scale_deformable_attention, on(device, inputs), (0, 3, 4), grad_output
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours.cpu(), theirs) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_errors_are_at_most_twice_pytorchs(device, dtype):
    inputs = random_arguments(dtype, [(25, 42), (13, 21)], batch=1, channels=32, queries=200)
    grad_output = torch.rand(1, 200, 96).to(dtype)
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    expected = gradients(grid_sample_attention, exact, (0, 3, 4), grad_output)
    theirs = gradients(grid_sample_attention, on(device, inputs), (0, 3, 4), grad_output)
    ours = gradients(
        ops.multi_scale_deformable_attention, on(device, inputs), (0, 3, 4), grad_output
    )
    for our, their, right in zip(ours, theirs, expected, strict=True):
        assert relative_error(our.cpu(), right) <= 2 * relative_error(their.cpu(), right)


def test_inputs_need_not_be_contiguous(device):
    value, shapes, starts, locations, weights = inputs = random_arguments()
    stretched = [
        value.transpose(1, 3).contiguous().transpose(1, 3),
        shapes.t().contiguous().t(),
        torch.stack([starts, starts], dim=1)[:, 0],
        locations.flip(-1).contiguous().flip(-1).transpose(1, 2).contiguous().transpose(1, 2),
        weights.movedim(2, 0).contiguous().movedim(0, 2),
    ]
    assert not any(x.is_contiguous() for x in stretched)
    torch.testing.assert_close(plain(*on(device, stretched)), plain(*on(device, inputs)))
    grad_output = torch.rand(2, 1, 12, dtype=torch.float64).expand(2, 6, 12)
    first = gradients(
        ops.multi_scale_deformable_attention, on(device, inputs), (0, 3, 4), grad_output
    )
    second = gradients(
        ops.multi_scale_deformable_attention, on(device, stretched), (0, 3, 4), grad_output
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("batch", "queries"), [(0, 6), (2, 0), (0, 0)])
def test_nothing_to_do(device, batch, queries):
    inputs = random_arguments(batch=batch, queries=queries)
    grad_output = torch.zeros(batch, queries, 12)
    found = gradients(
        ops.multi_scale_deformable_attention, on(device, inputs), (0, 3, 4), grad_output
    )
    assert found[0].shape == (batch, queries, 12)
    for i, grad in zip((0, 3, 4), found[1:], strict=True):
        assert grad.shape == inputs[i].shape and not grad.any()


@pytest.mark.parametrize("far", [1.5, -7.0, 1e9, -1e30])
def test_what_lies_outside_is_zero(device, far):
    value, shapes, starts, locations, weights = random_arguments()
    inputs = (value, shapes, starts, torch.full_like(locations, far), weights)
    assert plain(*on(device, inputs)).abs().max() == 0
    value = torch.full_like(value, torch.nan)  # outside, values do not matter
    assert plain(*on(device, (value, *inputs[1:]))).abs().max() == 0


@needs_extension
@pytest.mark.parametrize("far", [torch.inf, -torch.inf])
def test_infinitely_far_is_outside(far):
    """For the kernels; grid_sample makes NaN of it."""
    value, shapes, starts, locations, weights = random_arguments()
    assert plain(value, shapes, starts, torch.full_like(locations, far), weights).abs().max() == 0


@pytest.mark.parametrize("position", [3, 4])
def test_nan_stays_where_it_is(device, position):
    inputs = list(random_arguments(channels=16))
    inputs[3][1, 4, 2] = torch.tensor([3.0, 0.5])  # outside
    for place in ((0, 2, 1, 1, 0), (1, 4, 2, 0, 0)):
        inputs[position][place] = torch.nan
    result = plain(*on(device, inputs)).view(2, 6, 3, 16)
    expected = torch.zeros(2, 6, 3, dtype=torch.bool)
    expected[0, 2, 1] = expected[1, 4, 2] = True
    assert torch.equal(result.isnan(), expected[..., None].expand_as(result))


def test_nothing_beside_the_maps_is_read(device):
    """NaN before, between and behind the maps, and in the head beside, does not show."""
    value, shapes, _, locations, weights = random_arguments(batch=1, channels=16)
    starts = torch.tensor([3, 40, 50])
    roomy = torch.full((1, 60, 3, 16), torch.nan, dtype=value.dtype)
    for start, part in zip(starts.tolist(), value.split([35, 6, 1], dim=1), strict=True):
        roomy[:, start : start + part.shape[1]] = part
    roomy[:, :, 1] = torch.nan
    result = plain(*on(device, (roomy, shapes, starts, locations, weights))).view(1, 6, 3, 16)
    expected = plain(
        *on(device, (value, shapes, torch.tensor([0, 35, 41]), locations, weights))
    ).view(1, 6, 3, 16)
    assert result[:, :, 1].isnan().all()
    torch.testing.assert_close(result[:, :, ::2], expected[:, :, ::2])


@needs_extension
def test_gradients_are_the_same_every_time():
    inputs = random_arguments(torch.float32, batch=2, heads=8, channels=32, queries=40)
    grad_output = torch.rand(2, 40, 256)
    runs = []
    threads = torch.get_num_threads()
    for number in (1, 2, 3, 2):
        torch.set_num_threads(number)
        function = ops.multi_scale_deformable_attention
        runs.append(gradients(function, inputs, (0, 3, 4), grad_output))
    torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(map(torch.equal, runs[0], run))


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_queries_give_what_few_give(dtype):
    """40 queries visit each of the 42 tokens often enough for their rows to be packed, 5 do not."""
    value, shapes, starts, locations, weights = random_arguments(dtype, channels=21, queries=40)
    grad_output = torch.rand(2, 40, 63).to(dtype)
    function = ops.multi_scale_deformable_attention

    def some(part):
        chosen = (value, shapes, starts, locations[:, part], weights[:, part])
        return gradients(function, chosen, (0, 3, 4), grad_output[:, part])

    whole = some(slice(None))
    parts = list(zip(*(some(slice(i, i + 5)) for i in range(0, 40, 5)), strict=True))
    for i in (0, 2, 3):
        assert torch.equal(whole[i], torch.cat(parts[i], dim=1))
    grad_value = sum(grad.double() for grad in parts[1])
    assert relative_error(whole[1], grad_value) < TOLERANCE[dtype]
    expected = multi_scale_deformable_attention_reference(
        value.double(), shapes, starts, locations.double(), weights.double()
    )
    assert relative_error(whole[0], expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("exponent", [-30, -15, -14, 0, 15])
def test_half_is_rounded_as_pytorch_rounds(exponent):
    """Numbers of all sizes, subnormal ones and infinities included, through one whole sample."""
    numbers = torch.linspace(1, 2, 1000, dtype=torch.float64) * 2.0**exponent
    numbers = torch.cat([numbers, -numbers, torch.tensor([0.0, 65519.9, 65520.0])])
    for dtype in (torch.float16, torch.bfloat16):
        value = numbers.to(dtype).float().view(1, 1, 1, -1)
        weight = torch.full((1, 1, 1, 1, 1), 1.5)
        shape, place = torch.ones(1, 2, dtype=torch.long), torch.full((1, 1, 1, 1, 1, 2), 0.5)
        start = torch.zeros(1, dtype=torch.long)
        result = plain(value.to(dtype), shape, start, place, weight.to(dtype))
        assert torch.equal(result.flatten(), (value * 1.5).to(dtype).flatten())


@pytest.mark.parametrize(
    ("position", "shape", "message"),
    [
        (0, (2, 42, 12), "value must be"),
        (3, (2, 6, 3, 3, 2), "must be .B, Q, H, L, P, 2."),
        (4, (2, 6, 3, 3, 3), "attention weights or logits must be"),
        (0, (2, 42, 5, 4), "do not fit"),
    ],
)
def test_wrong_shapes_are_refused(device, position, shape, message):
    arguments = list(random_arguments())
    arguments[position] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        plain(*on(device, arguments))


def test_wrong_references_are_refused(device):
    inputs = list(random_offsets())
    inputs[3] = inputs[3][..., :1]
    with pytest.raises(ValueError, match=r"references must be \(2, 6, 3\) and 2 or 4"):
        fused(*on(device, inputs))


def test_the_reference_finds_levels_from_numbers_as_from_tensors():
    inputs = random_arguments(torch.float64, channels=4, queries=3)
    sizes = [tuple(size) for size in inputs[1].tolist()]
    assert len(sizes) >= 3 and len(set(sizes)) > 1
    expected = multi_scale_deformable_attention_reference(*inputs)
    found = multi_scale_deformable_attention_reference(*inputs, sizes)
    torch.testing.assert_close(found, expected)
