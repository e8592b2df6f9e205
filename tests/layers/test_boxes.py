import torch
from torchvision.ops import generalized_box_iou

from cqdino_d2.layers import (
    cxcywh_to_xyxy,
    inverse_sigmoid,
    paired_generalized_iou,
    xyxy_to_cxcywh,
)


def random_boxes(count, seed):
    boxes = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    return cxcywh_to_xyxy(boxes)


def test_box_formats_are_inverse():
    boxes = torch.tensor([[10.0, 20.0, 4.0, 6.0]])
    assert cxcywh_to_xyxy(boxes).tolist() == [[8, 17, 12, 23]]
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes)


def test_generalized_iou_agrees_with_torchvision():
    a, b = random_boxes(7, 0), random_boxes(5, 1)
    ours = paired_generalized_iou(a[:, None], b[None])
    torch.testing.assert_close(ours, generalized_box_iou(a, b), rtol=1e-4, atol=1e-5)


def test_inverse_sigmoid_is_bounded():
    values = inverse_sigmoid(torch.tensor([0.0, 0.3, 1.0]), eps=1e-3)
    torch.testing.assert_close(
        values.sigmoid(), torch.tensor([0.001, 0.3, 0.999]), atol=1e-5, rtol=0
    )


def test_generalized_iou_of_boxes_without_area_is_finite():
    """A point with itself, with another point, and inside a box of a quarter."""
    a = torch.tensor([[0.2, 0.3, 0.2, 0.3], [0.2, 0.3, 0.2, 0.3], [0.2, 0.3, 0.2, 0.3]])
    b = torch.tensor([[0.2, 0.3, 0.2, 0.3], [0.6, 0.8, 0.6, 0.8], [0.0, 0.0, 0.5, 0.5]])
    a.requires_grad_()
    values = paired_generalized_iou(a, b)
    torch.testing.assert_close(values, torch.tensor([0.0, -1.0, 0.0]), atol=1e-4, rtol=0)
    values.sum().backward()
    assert a.grad.isfinite().all()
