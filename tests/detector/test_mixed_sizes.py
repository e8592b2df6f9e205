"""The whole detector on two images of different sizes, and on each of them alone.

A convolution after the first sees what its forerunners made of the padding, GroupNorm takes its
mean over it, and the image-guided selection looks at the whole map, as in the released code: with
these, an image in a larger batch is not exactly the image alone. They are therefore replaced by
parts that look at one place at a time and by a fixed choice of categories; everything after them
must then agree but for rounding. (The decoder's encoding of its reference boxes is relative to the
padded map, as in the released code, and is switched off too; see tests/transformer.)
"""

import pytest
import torch
from detectron2.config import instantiate
from torch import nn

from tests.slots import make_slots
from tests.tiny import make_input, tiny_config, tiny_model

SIZES = [(48, 80), (64, 40)]
BOXES = [
    [(8, 6, 48, 18), (40, 12, 72, 42), (4, 24, 20, 44)],
    [(4, 8, 36, 24), (10, 16, 20, 60)],
]
CLASSES = [[3, 0, 2], [4, 3]]


class PatchBackbone(nn.Module):
    """Means of patches of 4 and 8 pixels, each through a matrix: no patch sees another."""

    def __init__(self, dim=32):
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(3, dim, 1) for _ in range(2))

    def forward(self, images):
        pooled = [nn.functional.avg_pool2d(images, stride) for stride in (4, 8)]
        layers = zip(self.projections, pooled, strict=True)
        return {str(i): layer(x) for i, (layer, x) in enumerate(layers)}


class FixedSelection(nn.Module):
    """The same five slots for every image, the last one empty."""

    num_selected = None

    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Parameter(torch.randn(5, dim))

    def forward(self, image_map, *_):
        valid = torch.tensor([True] * 4 + [False]).expand(len(image_map), -1)
        ids = torch.tensor([2, 0, 3, 4, 0]).expand(len(image_map), -1)
        features = self.features.expand(len(image_map), -1, -1)
        return make_slots(features, ids, valid, torch.zeros(len(image_map), 40))


def make_model(denoising=False):
    torch.manual_seed(0)
    cfg = tiny_config()
    cfg.model.tokenizer.num_levels = 2
    cfg.model.encoder.num_levels = cfg.model.decoder.num_levels = 2
    cfg.model.criterion.category_loss = None
    cfg.model.denoising.label_noise = cfg.model.denoising.box_noise = 0.0
    if not denoising:
        cfg.model.denoising = None
    model = instantiate(cfg.model)
    model.backbone, model.neck, model.selection = PatchBackbone(), nn.Identity(), FixedSelection()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        model.decoder.position_mlp[-1].weight.zero_()
    return model


def make_batch(equal_counts=False):
    boxes, classes = BOXES, CLASSES
    if equal_counts:
        boxes, classes = [BOXES[0][:2], BOXES[1]], [CLASSES[0][:2], CLASSES[1]]
    return [
        make_input(size=size, boxes=own, classes=labels, seed=seed)
        for seed, (size, own, labels) in enumerate(zip(SIZES, boxes, classes, strict=True))
    ]


@torch.no_grad()
def test_an_image_in_a_padded_batch_is_detected_as_the_image_alone():
    model, batch = make_model().eval(), make_batch()
    together = model(batch)
    for item, found in zip(batch, together, strict=True):
        [expected] = model([item])
        assert torch.equal(found["selected_vocab_ids"], torch.tensor([2, 0, 3, 4]))
        a, b = found["instances"], expected["instances"]
        assert a.image_size == b.image_size == (item["height"], item["width"])
        assert len(a) == 20 * 4 and len(a.pred_boxes.tensor.unique(dim=0)) > 10
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)
        assert torch.equal(a.pred_classes, b.pred_classes)
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("denoising", [False, True])
def test_the_losses_of_a_padded_batch_are_those_of_its_images_alone(denoising):
    """Each image's loss is divided by its boxes, the batch's by all boxes.

    Denoising queries of an image with fewer boxes stand beside empty ones, which they see: with
    them the numbers of boxes must agree.
    """
    model, batch = make_model(denoising).train(), make_batch(equal_counts=denoising)
    counts = [len(item["instances"]) for item in batch]
    together, alone = model(batch), [model([item]) for item in batch]
    assert len(together) == (15 if denoising else 9)
    for name, loss in together.items():
        parts = [count * one[name] for count, one in zip(counts, alone, strict=True)]
        torch.testing.assert_close(loss, sum(parts) / sum(counts), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_perfect_detector_of_oblong_images_has_no_box_loss():
    """The decoder is made to say the boxes that were drawn, in the image's own units."""
    model, batch = make_model().train(), make_batch()
    wanted = []
    for boxes, (height, width) in zip(BOXES, SIZES, strict=True):
        rows = [
            ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            for x0, y0, x1, y1 in boxes
        ]
        wanted.append(torch.tensor(rows))

    def answer(_, __, output):
        for image, boxes in enumerate(wanted):
            output.boxes_cxcywh_norm[:, image, : len(boxes)] = boxes
        return output

    model.decoder.register_forward_hook(answer)
    losses = model(batch)
    for kind in ("l1", "giou"):
        assert losses[f"loss_{kind}"] < 1e-5 and losses[f"loss_{kind}_0"] < 1e-5


@pytest.mark.parametrize("relation", ["tree", "sa"])
@torch.no_grad()
def test_what_another_image_shows_has_no_influence(relation):
    """With the true backbone and selection: the same padding, another neighbour."""
    model = tiny_model(relation).eval()
    first, second = (make_input(size=size, seed=seed) for seed, size in enumerate(SIZES))
    other = make_input(size=SIZES[1], seed=7)
    [one, _], [same, _] = model([first, second]), model([first, other])
    [_, moved] = model([other, first])
    assert torch.equal(one["selected_vocab_ids"], same["selected_vocab_ids"])
    for again in (same, moved):
        a, b = one["instances"], again["instances"]
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=1e-4, atol=1e-3)
