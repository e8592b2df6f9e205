"""Swin as a graph with dynamic sizes."""

import pytest
import torch
from timm.models.swin_transformer import PatchMerging
from torch.export import Dim

from cqdino_d2.backbone import TimmBackbone
from cqdino_d2.backbone.windowed_block import _traced_windows, _windows
from tests.backbone.test_backbones import TINY_SWIN

SIZES = [(1, 1), (4, 8), (5, 9), (13, 3), (16, 16)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [(0, 0), (2, 2), (0, 1)])
def test_traced_windows_hold_the_same_tokens(size, shift):
    """The other form sorts windows without a mask before those with one."""
    window, device = (4, 4), torch.device("cpu")
    ((tokens, mask),), places = _traced_windows(size, window, shift, device)
    groups, _ = _windows(size, window, shift, device)
    expected = {}
    for ids, own in groups:
        rows = ids.view(-1, 16).tolist()
        for number, row in enumerate(rows):
            expected[tuple(row)] = None if own is None else own[number, 0]
    assert len(expected) == len(tokens) // 16 - 1
    assert (tokens[-16:] == size[0] * size[1]).all()  # the further window
    everything = torch.ones(16, 16, dtype=torch.bool)
    for number, row in enumerate(tokens[:-16].view(-1, 16).tolist()):
        own, other = expected[tuple(row)], None if mask is None else mask[number, 0]
        own, other = (everything if one is None else one for one in (own, other))
        real = torch.tensor(row) < size[0] * size[1]  # what is said of padding does not matter
        assert torch.equal(own[real], other[real])
    assert torch.equal(tokens[places], torch.arange(size[0] * size[1]))


@pytest.fixture(scope="module")
def traced():
    torch.manual_seed(0)
    backbone = TimmBackbone(**TINY_SWIN).eval().requires_grad_(False)
    for parameter in backbone.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    sides = {2: Dim("height", min=33, max=1024), 3: Dim("width", min=33, max=1024)}
    program = torch.export.export(
        backbone,
        (torch.randn(1, 3, 75, 110),),
        dynamic_shapes={"images": sides},
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    return backbone, program.module()


@pytest.mark.parametrize("size", [(75, 110), (64, 64), (33, 97), (130, 81)])
def test_a_traced_swin_takes_any_size(traced, size):
    backbone, module = traced
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        for one, other in zip(backbone(images).values(), module(images).values(), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (5, 7)])
def test_merging_pads_as_timm_does(size):
    torch.manual_seed(0)
    backbone = TimmBackbone(**TINY_SWIN).eval()
    for module in backbone.modules():
        if isinstance(module, PatchMerging):
            x = torch.randn(2, *size, module.dim)
            assert type(module) is not PatchMerging
            assert torch.equal(module(x), PatchMerging.forward(module, x))
