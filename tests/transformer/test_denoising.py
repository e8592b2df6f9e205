import torch

from cqdino_d2.structures import ClassSlots, ImageTargets
from cqdino_d2.transformer import CategoryContent, Denoising, ReleasedLabelContent

DIM, NUM_SLOTS, NUM_OBJECT_QUERIES = 6, 5, 7


def selected(batch):
    generator = torch.Generator().manual_seed(0)
    return ClassSlots(
        features=torch.randn(batch, NUM_SLOTS, DIM, generator=generator),
        vocab_ids=torch.arange(10, 10 + NUM_SLOTS).expand(batch, -1),
        valid=torch.ones(batch, NUM_SLOTS, dtype=torch.bool),
    )


def targets(*counts):
    return [
        ImageTargets(
            torch.tensor([[0.5, 0.5, 0.2, 0.4]]).repeat(count, 1),
            torch.arange(10, 10 + count),
            (64, 64),
        )
        for count in counts
    ]


def make(**changes):
    settings = dict(
        content=CategoryContent(dim=DIM), num_object_queries=NUM_OBJECT_QUERIES, num_queries=8
    )
    return Denoising(**(settings | changes))


def test_groups_hold_positives_then_negatives():
    group = make()(targets(2, 1), selected(2))
    assert group.num_groups == 8 // 2
    assert group.content.shape == (2, 4 * 2 * 2, DIM)
    assert group.target_ids[0].tolist() == [0, 1, -1, -1] * 4
    assert group.target_ids[1].tolist() == [0, -1, -1, -1] * 4
    padding = group.content[1].view(4, 4, DIM)[:, [1, 3]]
    assert not padding.any()


def test_positives_stay_close_and_negatives_go_further():
    torch.manual_seed(0)
    group = make(num_queries=400)(targets(1), selected(1))
    boxes = group.boxes_cxcywh_norm[0]
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    shift = (corners - torch.tensor([0.4, 0.3, 0.6, 0.7])).abs() / torch.tensor([0.1, 0.2] * 2)
    positive = group.target_ids[0] >= 0
    assert shift[positive].max() <= 1 + 1e-3
    assert shift[positive].max() > 0.9
    # sides that cross each other make a box of other corners, so compare what is not swapped
    assert shift[~positive].mean() > 1.2
    assert shift[~positive].max() <= 2 + 1e-3


def test_no_noise_gives_the_boxes_and_the_category_queries_themselves():
    categories = selected(1)
    group = make(label_noise=0.0, box_noise=0.0)(targets(2), categories)
    torch.testing.assert_close(group.content[0, :2], categories.features[0, :2])
    expected = torch.tensor([0.5, 0.5, 0.2, 0.4])
    torch.testing.assert_close(group.boxes_cxcywh_norm[0, 0], expected)


def test_a_quarter_of_the_labels_is_replaced():
    torch.manual_seed(0)
    categories = selected(1)
    group = make(num_queries=4000)(targets(1), categories)
    same = (group.content[0] == categories.features[0, 0]).all(dim=1).float().mean()
    assert abs(float(same) - (0.75 + 0.25 / NUM_SLOTS)) < 0.02


def test_a_category_that_was_not_selected_has_a_learnt_content():
    content = CategoryContent(dim=DIM)
    one = [ImageTargets(torch.full((1, 4), 0.5), torch.tensor([3]), (8, 8))]
    group = make(content=content, label_noise=0.0)(one, selected(1))
    torch.testing.assert_close(group.content[0, 0], content.not_selected)


def test_attention_mask_separates_groups_and_hides_them_from_object_queries():
    mask = make()(targets(2), selected(1)).attention_mask
    size = 4 * 4
    assert mask.shape == (size + NUM_OBJECT_QUERIES, size + NUM_OBJECT_QUERIES)
    assert not mask[:, size:].any(), "everybody sees the object queries"
    assert mask[size:, :size].all(), "object queries see no denoising query"
    own = torch.arange(size) // 4
    assert torch.equal(mask[:size, :size], own[:, None] != own[None])


def test_the_released_content_indexes_an_image_local_list():
    content = ReleasedLabelContent(dim=DIM, num_labels=16)
    labels, size = content.labels(targets(3, 2), selected(2))
    assert size == 16
    assert sorted(labels[:3].tolist()) == [0, 1, 2]
    assert sorted(labels[3:].tolist()) == [0, 1]


def test_no_box_in_the_batch_keeps_the_graph():
    module = make(content=ReleasedLabelContent(dim=DIM))
    group = module(targets(0, 0), selected(2))
    assert (group.target_ids == -1).all()
    group.content.sum().backward()
    assert module.content.embedding.weight.grad is not None
