import math

import pytest
import torch

from cqdino_d2.categories import TreeAggregation
from cqdino_d2.structures import CategoryHierarchy, Vocabulary


def vocabulary_of(num_categories, parents, levels=None):
    return Vocabulary(
        tuple(f"c{i}" for i in range(num_categories)),
        tuple(range(num_categories)),
        CategoryHierarchy(num_categories, parents, levels),
    )


def aggregate_by_hand(features, hierarchy, deepest_level=7):
    """One category at a time, levels from the deepest up, values of a level read before it."""
    features = features.clone()
    count = hierarchy.num_categories
    levels = [min(int(level), deepest_level) for level in hierarchy.levels[:count]]
    for level in range(max(levels), 0, -1):
        before = features.clone()
        for category in range(count):
            children = hierarchy.category_children[category].tolist()
            if levels[category] == level and children:
                descendants = int(hierarchy.descendant_counts[category])
                w = 0.4 + 0.4 * math.log(2 + descendants) / math.log(2 + count)
                mean = before[children].mean(dim=0)
                features[category] = (1 - w) * before[category] + w * mean
    return features


@pytest.mark.parametrize(
    "parents",
    [
        [[], [0], [0], [1], [1], [2], [5]],
        [[], [], [0, 1], [0, 1], [2], [2, 3]],  # several parents
        [[4], [4], [5], [], [3], [3]],  # nodes 4 and 5 are virtual for V = 4
    ],
)
def test_agrees_with_the_formula(parents):
    vocabulary = vocabulary_of(4 if parents[0] == [4] else len(parents), parents)
    module = TreeAggregation(vocabulary=vocabulary, dim=6)
    features = torch.randn(len(vocabulary), 6)
    expected = module.norm(aggregate_by_hand(features, vocabulary.hierarchy))
    torch.testing.assert_close(module(features), expected)


def test_levels_below_the_deepest_are_updated_together():
    parents = [[], [0], [1]]
    vocabulary = vocabulary_of(3, parents, levels=[7, 8, 9])
    module = TreeAggregation(vocabulary=vocabulary, dim=4)
    features = torch.randn(3, 4)
    expected = module.norm(aggregate_by_hand(features, vocabulary.hierarchy))
    torch.testing.assert_close(module(features), expected)
    assert module.num_steps == 1


def test_without_a_tree_only_the_norm_acts():
    vocabulary = Vocabulary(("a", "b"), (1, 2), CategoryHierarchy.flat(2))
    module = TreeAggregation(vocabulary=vocabulary, dim=4)
    features = torch.randn(2, 4)
    torch.testing.assert_close(module(features), module.norm(features))


def test_the_mixing_weight_is_an_option():
    """The paper's hyper-parameter is 0.3 where the released code has 0.4."""
    vocabulary = vocabulary_of(2, [[], [0]])
    features = torch.randn(2, 4)
    module = TreeAggregation(vocabulary=vocabulary, dim=4, mixing_weight=0.3)
    w = 0.3 + 0.3 * math.log(3) / math.log(4)
    expected = torch.stack([(1 - w) * features[0] + w * features[1], features[1]])
    torch.testing.assert_close(module(features), module.norm(expected))
    with pytest.raises(ValueError, match="mixing_weight"):
        TreeAggregation(vocabulary=vocabulary, dim=4, mixing_weight=0.6)
