"""Several slots for one category, slots for none, and what is asked for."""

import math

import pytest
import torch

from cqdino_d2.structures import CategoryScores, ClassRequest, ClassSlots, TextPrompt

# two images of six tokens: the second has an empty slot at the end
VOCAB_IDS = torch.tensor([[7, -1, 2, 2, 2, -1], [4, 4, -1, 9, 4, -1]])
VALID = torch.tensor([[True] * 6, [True] * 5 + [False]])


def tokens(features=None):
    features = torch.randn(2, 6, 3) if features is None else features
    return ClassSlots(features, VOCAB_IDS, VALID, shared=True)


def test_targets_are_all_slots_of_a_category():
    rows = tokens().multi_hot(0, torch.tensor([2, 7, 5]))
    assert rows.tolist() == [[0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0] * 6]
    shares = tokens().multi_hot(1, torch.tensor([9, 4]), normalised=True)
    torch.testing.assert_close(
        shares, torch.tensor([[0, 0, 0, 1.0, 0, 0], [1 / 3, 1 / 3, 0, 0, 1 / 3, 0]])
    )


def test_an_empty_slot_is_no_target():
    slots = ClassSlots(torch.zeros(1, 2, 3), torch.tensor([[5, 5]]), torch.tensor([[True, False]]))
    assert slots.multi_hot(0, torch.tensor([5])).tolist() == [[1, 0]]
    assert slots.multi_hot(0, torch.tensor([-1])).tolist() == [[0, 0]]


def test_values_are_pooled_by_their_mean():
    values = torch.arange(12.0).view(2, 6)
    vocab_ids, pooled = tokens().pool(values, 1)
    assert vocab_ids.tolist() == [4, 9]
    torch.testing.assert_close(pooled, torch.tensor([[(0 + 1 + 4) / 3, 3], [(6 + 7 + 10) / 3, 9]]))


def test_single_slots_keep_their_order():
    slots = ClassSlots(
        torch.zeros(1, 4, 3),
        torch.tensor([[8, 3, -1, 5]]),
        torch.tensor([[True, True, False, True]]),
    )
    vocab_ids, values = slots.pool(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 0)
    assert vocab_ids.tolist() == [8, 3, 5] and values.tolist() == [[1, 2, 4]]


def test_the_feature_of_a_category_is_the_mean_over_its_slots():
    features = torch.randn(2, 6, 3)
    means = tokens(features).category_features()
    torch.testing.assert_close(means[0, 3], features[0, 2:5].mean(dim=0))
    torch.testing.assert_close(means[1, 3], features[1, 3])
    torch.testing.assert_close(means[1, 0], features[1, [0, 1, 4]].mean(dim=0))
    alone = ClassSlots(features, VOCAB_IDS, VALID)
    assert alone.category_features() is features


def test_scores_of_a_part_of_the_vocabulary_are_minus_infinity_elsewhere():
    scores = CategoryScores(torch.tensor([[1.0, 2.0]])).among(torch.tensor([4, 0]), 6)
    assert scores.logits.tolist() == [[2, -torch.inf, -torch.inf, -torch.inf, 1, -torch.inf]]


@pytest.mark.parametrize("spans", [(((0, 3),), ()), (((2, 2),),), (((0, 9),),), (((-1, 2),),)])
def test_spans_must_lie_in_the_caption(spans):
    with pytest.raises(ValueError, match="needs spans within its caption of 8 characters"):
        TextPrompt("a cat. b", spans)


def test_a_request_names_categories_or_prompts():
    prompt = TextPrompt("a cat.", (((2, 5),),))
    assert ClassRequest(prompts=(prompt,)).vocab_ids is None
    with pytest.raises(ValueError, match="either categories or prompts"):
        ClassRequest(torch.tensor([1]), prompts=(prompt,))


def test_selection_scores_are_the_probabilities_of_an_images_own_valid_slots():
    scores = CategoryScores(torch.tensor([[0.0, 1.0, 2.0, 3.0], [-1.0, -2.0, 4.0, 0.5]]))
    vocab_ids = torch.tensor([[3, 1], [2, 0]])
    valid = torch.tensor([[True, True], [True, False]])
    slots = ClassSlots(torch.zeros(2, 2, 3), vocab_ids, valid, scores=scores)
    probabilities = [[1 / (1 + math.exp(-x)) for x in row] for row in ([3.0, 1.0], [4.0])]
    for image, expected in enumerate(probabilities):
        torch.testing.assert_close(slots.selection_scores(image), torch.tensor(expected))
