"""Multi-scale deformable attention by loops that follow the definition, and inputs for tests."""

import math

import torch

SHAPES = [(5, 7), (3, 2), (1, 1)]


def random_arguments(
    dtype=torch.float64, shapes=SHAPES, batch=2, heads=3, channels=4, queries=6, points=2, seed=0
):
    """Value, shapes, starts, locations, weights; some of the locations lie outside."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    areas = [h * w for h, w in shapes]
    starts = torch.tensor([sum(areas[:i]) for i in range(len(areas))])
    value = draw(batch, sum(areas), heads, channels) * 2 - 1
    locations = draw(batch, queries, heads, len(shapes), points, 2) * 1.4 - 0.2
    weights = draw(batch, queries, heads, len(shapes), points)
    weights = weights / weights.sum((-1, -2), keepdim=True)
    place_type = torch.promote_types(dtype, torch.float32)
    return (
        value.to(dtype),
        torch.tensor(shapes),
        starts,
        locations.to(place_type),
        weights.to(dtype),
    )


def random_offsets(dtype=torch.float64, reference_size=2, seed=1, **sizes):
    """Value, shapes, starts, references, offsets, logits."""
    value, shapes, starts, locations, weights = random_arguments(dtype, seed=seed, **sizes)
    references = locations[:, :, 0, :, 0].repeat(1, 1, 1, reference_size // 2).contiguous()
    references[..., 2:] = references[..., 2:].abs() + 0.1
    offsets = (locations[:, :, :, :, :, :].flip(1).double() * 4 - 2).to(dtype)
    return value, shapes, starts, references, offsets, (weights.double() * 9 - 4).to(dtype)


def bilinear(level_map, x, y):
    """level_map (H, W, C), continuous cell coordinates; zero outside."""
    height, width, channels = level_map.shape
    total = torch.zeros(channels, dtype=level_map.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += level_map[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def by_definition(value, shapes, starts, locations, weights):
    """In float64, whatever the inputs are."""
    value, locations, weights = value.double(), locations.double(), weights.double()
    batch, _, heads, channels = value.shape
    output = torch.zeros(batch, locations.shape[1], heads, channels, dtype=value.dtype)
    for b, q, h in torch.cartesian_prod(*map(torch.arange, output.shape[:3])).tolist():
        for level, (height, width) in enumerate(shapes.tolist()):
            start = int(starts[level])
            level_map = value[b, start : start + height * width, h].view(height, width, channels)
            for p in range(locations.shape[4]):
                x, y = locations[b, q, h, level, p].tolist()
                sample = bilinear(level_map, x * width - 0.5, y * height - 0.5)
                output[b, q, h] += weights[b, q, h, level, p] * sample
    return output.flatten(2)


def from_offsets_by_definition(value, shapes, starts, references, offsets, logits):
    """The locations of `deformable_attention_from_offsets`, then as above."""
    references, offsets, logits = references.double(), offsets.double(), logits.double()
    weights = logits.flatten(-2).exp()
    weights = (weights / weights.sum(-1, keepdim=True)).view_as(logits)
    locations = torch.empty_like(offsets)
    for level, (height, width) in enumerate(shapes.tolist()):
        for axis, size in ((0, width), (1, height)):
            reference = references[:, :, None, level, None]
            scale = 1 / size
            if references.shape[-1] == 4:
                scale = reference[..., 2 + axis] / 2 / offsets.shape[-2]
            moved = reference[..., axis] + offsets[:, :, :, level, :, axis] * scale
            locations[:, :, :, level, :, axis] = moved
    return by_definition(value, shapes, starts, locations, weights)


def gradients(function, inputs, differentiable, grad_output):
    """Output and gradients of ``inputs[i]`` for i in ``differentiable``."""
    inputs = [x.detach().clone() for x in inputs]
    for i in differentiable:
        inputs[i].requires_grad_()
    output = function(*inputs)
    output.backward(grad_output.to(output))
    return [output.detach(), *(inputs[i].grad for i in differentiable)]


def relative_error(found, expected):
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())
