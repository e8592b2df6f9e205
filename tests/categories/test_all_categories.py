"""No selection."""

import pytest
import torch
from torch import nn

from cqdino_d2.categories import AllCategories, CategoryEmbeddings
from cqdino_d2.structures import ClassQueries, ClassRequest, random_vocabulary


def test_every_image_gets_the_whole_vocabulary_in_its_order():
    selection = AllCategories(dim=6, output_dim=4)
    queries = torch.randn(9, 6)
    found = selection(torch.zeros(3, 5, 2, 2), ClassQueries(queries))
    assert found.features.shape == (3, 9, 4) and found.scores is None
    assert (found.vocab_ids == torch.arange(9)).all() and found.valid.all()
    torch.testing.assert_close(found.features[1], selection.output_projection(queries))
    assert found.entry_ids(2, torch.tensor([8, 0])).tolist() == [8, 0]


def test_the_queries_may_pass_as_they_are():
    selection = AllCategories(dim=6)
    assert isinstance(selection.output_projection, nn.Identity)
    embeddings = CategoryEmbeddings(vocabulary=random_vocabulary(9), dim=6)
    found = selection(torch.zeros(2, 5, 2, 2), embeddings())
    found.features.sum().backward()
    assert (embeddings.embeddings.grad == 2).all()


def test_a_request_empties_the_other_slots():
    selection = AllCategories(dim=6).eval()
    found = selection(
        torch.zeros(2, 5, 2, 2),
        ClassQueries(torch.randn(9, 6)),
        None,
        ClassRequest(torch.tensor([7, 2])),
    )
    assert found.valid.nonzero()[:, 1].tolist() == [2, 7, 2, 7]
    assert found.vocab_ids[0].tolist() == [-1, -1, 2, -1, -1, -1, -1, 7, -1]
    assert found.entry_ids(1, torch.tensor([7, 3])).tolist() == [7, -1]
    with pytest.raises(ValueError, match="have no scores"):
        found.selection_scores(0)


@pytest.mark.parametrize(
    "training, request_", [(True, ClassRequest(torch.tensor([1]))), (False, ClassRequest(None, 3))]
)
def test_it_cannot_select_a_number_or_take_a_request_in_training(training, request_):
    with pytest.raises(ValueError, match="selects nothing"):
        AllCategories(dim=6).train(training)(
            torch.zeros(2, 5, 2, 2), ClassQueries(torch.randn(9, 6)), None, request_
        )
