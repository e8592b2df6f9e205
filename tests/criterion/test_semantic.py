"""The semantic branch against plain loops."""

import math

import torch

from cqdino_d2.criterion import Matched, SemanticLoss
from cqdino_d2.structures import LayerPredictions, random_vocabulary

NOTHING = torch.zeros(0, dtype=torch.int64)


def make_loss(num_categories=5, **kwargs):
    torch.manual_seed(3)
    table = torch.randn(num_categories, 6) * torch.arange(1.0, num_categories + 1)[:, None]
    vocabulary = random_vocabulary(num_categories)
    loss = SemanticLoss(
        dim=4, text_dim=6, table=lambda: table, vocabulary=vocabulary, **{"scale": 5.0} | kwargs
    )
    return loss, table


def make_case(name=""):
    torch.manual_seed(4)
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    images, queries = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    seen = torch.randn(3, 6)
    boxes = torch.zeros(3, 4)
    matched = Matched(images, queries, queries, hidden, boxes, 2.0, NOTHING, NOTHING, seen)
    return LayerPredictions(name, hidden, hidden, {"hidden": hidden}), matched


def probabilities(embedding, table, scale):
    cosines = [
        sum(a * b for a, b in zip(embedding, row, strict=True))
        / math.sqrt(sum(a * a for a in embedding) * sum(b * b for b in row))
        for row in table
    ]
    powers = [math.exp(scale * cosine) for cosine in cosines]
    return [power / sum(powers) for power in powers]


def test_it_is_the_divergence_of_the_student_from_the_teacher():
    loss, table = make_loss(weight=0.7)
    predictions, matched = make_case()
    total = 0.0
    for image, query, seen in zip(
        matched.images, matched.query_ids, matched.region_embeddings, strict=True
    ):
        student = (loss.projection.weight @ predictions.logits[image, query]).tolist()
        said = probabilities(student, table.tolist(), 5.0)
        truth = probabilities(seen.tolist(), table.tolist(), 5.0)
        total += sum(t * math.log(t / s) for t, s in zip(truth, said, strict=True))
    found = loss(predictions, matched)["semantic"]
    torch.testing.assert_close(found.item(), 0.7 * total / 2, rtol=1e-4, atol=0)
    found.backward()
    unmatched = predictions.logits.grad.clone()
    unmatched[matched.images, matched.query_ids] = 0
    assert predictions.logits.grad.any() and not unmatched.any()


def test_only_the_last_layer_has_it():
    loss, _ = make_loss()
    assert set(loss(*make_case("_dn"))) == {"semantic"}
    for name in ("_0", "_dn_0", "_enc"):
        assert loss(*make_case(name)) == {}


def test_probabilities_that_underflow_stay_finite():
    loss, table = make_loss(scale=1000.0)
    predictions, matched = make_case()
    loss.projection.weight.data.copy_(-table[:4].T)
    found = loss(predictions, matched)["semantic"]
    found.backward()
    assert torch.isfinite(found) and found > 100
    assert torch.isfinite(loss.projection.weight.grad).all()
