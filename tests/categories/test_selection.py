import pytest
import torch

from cqdino_d2.categories import ImageGuidedSelection
from cqdino_d2.structures import ImageTargets


def make(**changes):
    torch.manual_seed(0)
    settings = dict(
        dim=16, map_channels=12, image_dim=8, output_dim=10, num_selected=4, hidden_dim=20
    )
    return ImageGuidedSelection(**(settings | changes))


def inputs(batch=2, categories=9):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 12, 3, 5, generator=generator),
        torch.randn(categories, 16, generator=generator),
    )


def test_the_k_best_categories_are_selected_in_order():
    selected = make().eval()(*inputs())
    assert torch.equal(selected.vocab_ids, selected.logits.topk(4, dim=1).indices)
    assert selected.features.shape == (2, 4, 10)
    assert selected.valid.all()


def test_slot_ids_find_what_was_selected():
    selected = make().eval()(*inputs())
    assert selected.slot_ids(1, selected.vocab_ids[1].flip(0)).tolist() == [3, 2, 1, 0]
    absent = next(v for v in range(9) if v not in selected.vocab_ids[0])
    assert selected.slot_ids(0, torch.tensor([absent])).tolist() == [-1]


def test_targets_can_be_forced_in_training_only():
    model = make(force_targets=True, dropout=0.0)
    image_map, queries = inputs()
    worst = model.eval()(image_map, queries).logits.argmin(dim=1)
    targets = [ImageTargets(torch.zeros(1, 4), worst[i : i + 1], (9, 9)) for i in range(2)]
    assert (model.train()(image_map, queries, targets).vocab_ids == worst[:, None]).any(1).all()
    assert not (model.eval()(image_map, queries, targets).vocab_ids == worst[:, None]).any()


def test_a_small_vocabulary_leaves_empty_slots():
    selected = make().eval()(*inputs(categories=3))
    assert selected.valid.tolist() == [[True, True, True, False]] * 2
    assert selected.slot_ids(0, torch.tensor([0])).item() >= 0
    assert not selected.features[:, 3].any()


def test_an_unknown_ranking_is_refused():
    with pytest.raises(ValueError, match="ranking must be"):
        make(ranking="best")
