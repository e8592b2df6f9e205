"""The reference against loops that follow the definition."""

import math

import pytest
import torch

from cqdino_d2 import ops

SHAPES = [(5, 7), (3, 2)]


def random_arguments(dtype=torch.float64, batch=2, heads=3, channels=4, queries=6, points=2):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.rand(*size, generator=generator, dtype=dtype)

    tokens = sum(h * w for h, w in SHAPES)
    shapes = torch.tensor(SHAPES)
    starts = torch.tensor([0, SHAPES[0][0] * SHAPES[0][1]])
    value = draw(batch, tokens, heads, channels)
    locations = draw(batch, queries, heads, len(SHAPES), points, 2) * 1.4 - 0.2
    weights = draw(batch, queries, heads, len(SHAPES), points)
    return value, shapes, starts, locations, weights / weights.sum((-1, -2), keepdim=True)


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
    batch, _, heads, channels = value.shape
    output = torch.zeros(batch, locations.shape[1], heads, channels, dtype=value.dtype)
    for b in range(batch):
        for q in range(locations.shape[1]):
            for h in range(heads):
                for level, (height, width) in enumerate(shapes.tolist()):
                    start = int(starts[level])
                    level_map = value[b, start : start + height * width, h]
                    level_map = level_map.view(height, width, channels)
                    for p in range(locations.shape[4]):
                        x, y = locations[b, q, h, level, p].tolist()
                        sample = bilinear(level_map, x * width - 0.5, y * height - 0.5)
                        output[b, q, h] += weights[b, q, h, level, p] * sample
    return output.flatten(2)


def test_agrees_with_the_definition():
    arguments = random_arguments()
    result = ops.multi_scale_deformable_attention(*arguments)
    torch.testing.assert_close(result, by_definition(*arguments))


def test_gradients_agree_with_finite_differences():
    value, shapes, starts, locations, weights = random_arguments(batch=1, heads=1, queries=2)

    def function(value, locations, weights):
        return ops.multi_scale_deformable_attention(value, shapes, starts, locations, weights)

    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    assert torch.autograd.gradcheck(function, inputs)


def test_backend_is_named():
    assert ops.backend() == "reference"


@pytest.mark.parametrize(
    ("position", "shape", "message"),
    [
        (0, (2, 41, 12), "value must be"),
        (3, (2, 6, 3, 2, 2), "sampling_locations must be"),
        (4, (2, 6, 3, 2, 3), "attention_weights must be"),
        (0, (2, 41, 5, 4), "do not fit"),
    ],
)
def test_wrong_shapes_are_refused(position, shape, message):
    arguments = list(random_arguments())
    arguments[position] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        ops.multi_scale_deformable_attention(*arguments)
