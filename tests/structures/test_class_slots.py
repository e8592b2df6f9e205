"""Several slots for one category, slots for none, and what is asked for."""

import math

import pytest
import torch

from cqdino_d2.structures import CategoryScores, ClassRequest, ClassSlots, Phrases, TextPrompt

# two images of six tokens: the second has an empty slot at the end, and one phrase less
MEMBERS = torch.tensor(
    [
        [[0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 1]],
        [[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]],
    ]
).bool()
PHRASE_IDS = torch.tensor([[2, 7, 2], [4, 9, -1]])
VALID = torch.tensor([[True] * 6, [True] * 5 + [False]])


def tokens(features=None):
    features = torch.randn(2, 6, 3) if features is None else features
    nothing = torch.full((2, 6), -1)
    return ClassSlots(features, nothing, VALID, phrases=Phrases(MEMBERS, PHRASE_IDS))


def test_targets_are_all_slots_of_all_phrases_of_a_category():
    rows = tokens().multi_hot(0, torch.tensor([2, 7, 5, -1]))
    assert rows.tolist() == [[0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0], [0] * 6, [0] * 6]
    shares = tokens().multi_hot(1, torch.tensor([9, 4]), normalised=True)
    torch.testing.assert_close(
        shares, torch.tensor([[0, 0, 0, 1.0, 0, 0], [1 / 3, 1 / 3, 0, 0, 1 / 3, 0]])
    )


def test_an_empty_slot_is_no_target():
    slots = ClassSlots(torch.zeros(1, 2, 3), torch.tensor([[5, 5]]), torch.tensor([[True, False]]))
    assert slots.multi_hot(0, torch.tensor([5])).tolist() == [[1, 0]]
    assert slots.multi_hot(0, torch.tensor([-1])).tolist() == [[0, 0]]


def test_a_phrase_has_the_mean_of_its_slots_and_a_category_the_best_of_its_phrases():
    values = torch.arange(12.0).view(2, 6)
    vocab_ids, pooled = tokens().pool(values, 1)
    assert vocab_ids.tolist() == [4, 9]
    torch.testing.assert_close(pooled, torch.tensor([[(0 + 1 + 4) / 3, 3], [(6 + 7 + 10) / 3, 9]]))
    vocab_ids, pooled = tokens().pool(torch.tensor([[1.0, 0, 9, 0, 0, 4], [5, 0, 0, 3, 0, 0]]), 0)
    assert vocab_ids.tolist() == [2, 7]
    torch.testing.assert_close(pooled, torch.tensor([[3.0, 1], [1.5, 5]]))


def test_single_slots_keep_their_order():
    slots = ClassSlots(
        torch.zeros(1, 4, 3),
        torch.tensor([[8, 3, -1, 5]]),
        torch.tensor([[True, True, False, True]]),
    )
    vocab_ids, values = slots.pool(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 0)
    assert vocab_ids.tolist() == [8, 3, 5] and values.tolist() == [[1, 2, 4]]


def test_the_feature_of_a_phrase_is_the_mean_over_its_slots():
    features = torch.randn(2, 6, 3)
    means = tokens(features).entry_features()
    assert means.shape == (2, 3, 3)
    torch.testing.assert_close(means[0, 0], features[0, 2:5].mean(dim=0))
    torch.testing.assert_close(means[1, 1], features[1, 3])
    torch.testing.assert_close(means[1, 0], features[1, [0, 1, 4]].mean(dim=0))
    assert tokens().entry_ids(0, torch.tensor([7, 2, 4, -1])).tolist() == [1, 0, -1, -1]
    alone = ClassSlots(features, torch.tensor([[3, 1, 4, 0, 5, 9]] * 2), VALID)
    assert alone.entry_features() is features
    assert alone.entry_ids(1, torch.tensor([9, 1])).tolist() == [-1, 1]


def test_scores_of_a_part_of_the_vocabulary_are_minus_infinity_elsewhere():
    scores = CategoryScores(torch.tensor([[1.0, 2.0]])).among(torch.tensor([4, 0]), 6)
    assert scores.logits.tolist() == [[2, -torch.inf, -torch.inf, -torch.inf, 1, -torch.inf]]


def test_a_prompt_says_which_thing_each_phrase_names():
    spans = (((2, 5),), ((0, 1), (7, 8)))
    assert TextPrompt("a cat. b", spans).phrase_ids == (0, 1)
    assert TextPrompt("a cat. b", spans, (3, 3)).phrase_ids == (3, 3)
    assert TextPrompt("a cat. b", spans).words(1) == "a b"
    with pytest.raises(ValueError, match="one number from 0 on for each of the 2 phrases"):
        TextPrompt("a cat. b", spans, (3,))


@pytest.mark.parametrize("spans", [(((0, 3),), ()), (((2, 2),),), (((0, 9),),), (((-1, 2),),)])
def test_spans_must_lie_in_the_caption(spans):
    with pytest.raises(ValueError, match="needs spans within its caption of 8 characters"):
        TextPrompt("a cat. b", spans)


def test_a_request_names_categories_or_prompts():
    prompt = TextPrompt("a cat.", (((2, 5),),))
    assert ClassRequest(prompts=(prompt,)).vocab_ids is None
    with pytest.raises(ValueError, match="either categories or prompts, queries or passes"):
        ClassRequest(torch.tensor([1]), prompts=(prompt,))


def test_selection_scores_are_the_probabilities_of_an_images_own_valid_slots():
    scores = CategoryScores(torch.tensor([[0.0, 1.0, 2.0, 3.0], [-1.0, -2.0, 4.0, 0.5]]))
    vocab_ids = torch.tensor([[3, 1], [2, 0]])
    valid = torch.tensor([[True, True], [True, False]])
    slots = ClassSlots(torch.zeros(2, 2, 3), vocab_ids, valid, scores=scores)
    probabilities = [[1 / (1 + math.exp(-x)) for x in row] for row in ([3.0, 1.0], [4.0])]
    for image, expected in enumerate(probabilities):
        torch.testing.assert_close(slots.selection_scores(image), torch.tensor(expected))
