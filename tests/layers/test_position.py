import math

import torch

from cqdino_d2.layers import box_sine_encoding, map_sine_encoding, sine_encoding


def test_sine_encoding_by_definition():
    encoded = sine_encoding(torch.tensor([0.25]), 4, temperature=100.0)[0]
    angle = 2 * math.pi * 0.25
    expected = [f(angle / scale) for scale in (1, 10) for f in (math.sin, math.cos)]
    torch.testing.assert_close(encoded, torch.tensor(expected))


def test_box_encoding_puts_y_before_x():
    encoded = box_sine_encoding(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), 8)[0]
    torch.testing.assert_close(encoded[:8], sine_encoding(torch.tensor(0.2), 8, 10000.0))
    torch.testing.assert_close(encoded[8:16], sine_encoding(torch.tensor(0.1), 8, 10000.0))


def test_map_encoding_counts_only_the_image():
    padded = torch.zeros(1, 4, 6, dtype=torch.bool)
    padded[:, 3:] = True
    padded[:, :, 4:] = True
    alone = map_sine_encoding(torch.zeros(1, 3, 4, dtype=torch.bool), 8, 20.0)
    torch.testing.assert_close(map_sine_encoding(padded, 8, 20.0)[:, :3, :4], alone)
