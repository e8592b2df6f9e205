import pytest
import torch

from cqdino_d2.categories.cascade import Cascade
from cqdino_d2.layers.recompute import RECOMPUTATIONS
from cqdino_d2.structures import ClassRequest, ImageTargets
from tests.categories.test_selection import inputs, make
from tests.tiny import make_input, tiny_model

CASCADE = "model.selection.cascade="


def twins(cascade, **changes):
    """A selection without and one with a cascade, with the same weights."""
    whole, other = make(dropout=0.0, **changes), make(dropout=0.0, cascade=cascade, **changes)
    left_over = other.load_state_dict(whole.state_dict(), strict=False)
    assert all(name.startswith("cascade.mlp.") for name in left_over.missing_keys)
    assert not left_over.unexpected_keys
    return whole, other


def train_step(model, *arguments):
    """What it selects, and the gradients of a loss on all of it."""
    selected = model.train()(*inputs(), *arguments)
    loss = selected.features.sum() + selected.scores.logits.square().sum()
    if selected.scores.auxiliary is not None:
        loss = loss + selected.scores.auxiliary.square().sum()
    loss.backward()
    return selected, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("keep", [9, 20])
def test_keeping_all_categories_is_the_selection_without_a_cascade(keep):
    whole, cascade = (model.eval() for model in twins(keep))
    with torch.no_grad():
        expected, found = whole(*inputs()), cascade(*inputs())
    assert torch.equal(found.vocab_ids, expected.vocab_ids)
    torch.testing.assert_close(found.scores.logits, expected.scores.logits)
    torch.testing.assert_close(found.features, expected.features)


def test_training_takes_all_categories_through_all_layers():
    whole, cascade = twins(4)
    expected, wanted = train_step(whole)
    found, gradients = train_step(cascade)
    assert torch.equal(found.vocab_ids, expected.vocab_ids)
    torch.testing.assert_close(found.scores.logits, expected.scores.logits)
    with torch.no_grad():
        inferred = cascade.eval()(*inputs())
    torch.testing.assert_close(found.scores.auxiliary, inferred.scores.auxiliary)
    later = ("layers.1.", "score.", "output_projection.", "layers.0.feed_forward.")
    for name, gradient in gradients.items():
        if name.startswith("cascade."):
            assert gradient.any()
        elif name.startswith(later):  # trained as without a cascade
            torch.testing.assert_close(gradient, wanted[name])


def test_a_tenth_of_the_gradient_goes_back():
    cascade, looks = Cascade(dim=6, keep=2), torch.randn(2, 5, 6, requires_grad=True)
    torch.testing.assert_close(cascade.score(looks), cascade.mlp(looks).squeeze(-1))
    scaled, whole = (
        torch.autograd.grad(score.sum(), looks)[0]
        for score in (cascade.score(looks), cascade.mlp(looks))
    )
    torch.testing.assert_close(scaled, whole / 10)


def test_only_the_best_after_the_first_attention_go_on():
    whole, cascade = (model.eval() for model in twins(5))
    seen = []
    for layer in cascade.layers:
        layer.feed_forward.register_forward_hook(lambda _, x, __: seen.append(x[0].shape[1]))
    with torch.no_grad():
        selected, expected = cascade(*inputs()), whole(*inputs())
    assert seen == [5, 5]
    kept = selected.scores.auxiliary.topk(5, dim=1).indices
    among_kept = torch.full_like(expected.scores.logits, -torch.inf)
    among_kept = among_kept.scatter(1, kept, expected.scores.logits.gather(1, kept))
    assert torch.equal(selected.vocab_ids, among_kept.topk(4, dim=1).indices)
    torch.testing.assert_close(
        selected.scores.logits.gather(1, kept), expected.scores.logits.gather(1, kept)
    )
    for logits, auxiliary, ids in zip(
        selected.scores.logits, selected.scores.auxiliary, kept, strict=True
    ):
        rest = torch.ones(9, dtype=torch.bool).index_fill(0, ids, False)
        assert logits[rest].max() <= logits[ids].min()
        assert torch.equal(logits[rest].argsort(), auxiliary[rest].argsort())


@pytest.mark.parametrize("chunk_size", [1, 4, None])
@pytest.mark.parametrize("recompute", RECOMPUTATIONS)
def test_chunks_and_recomputing_change_nothing(chunk_size, recompute):
    plain = make(cascade=5, chunk_size=None, dropout=0.0)
    other = make(cascade=5, chunk_size=chunk_size, recompute=recompute, dropout=0.0)
    with torch.no_grad():
        expected, found = plain.eval()(*inputs()), other.eval()(*inputs())
    assert torch.equal(found.vocab_ids, expected.vocab_ids)
    torch.testing.assert_close(found.scores.logits, expected.scores.logits)
    torch.testing.assert_close(found.features, expected.features)
    for wanted, gradient in zip(*(train_step(m)[1].values() for m in (plain, other)), strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_targets_can_be_forced_through():
    _, model = twins(4, force_targets=True)
    image_map, queries = inputs()
    worst = model.train()(image_map, queries).scores.logits.argmin(dim=1)
    targets = [ImageTargets(torch.zeros(1, 4), worst[i : i + 1], (9, 9)) for i in range(2)]
    assert (model(image_map, queries, targets).vocab_ids == worst[:, None]).any(1).all()
    assert not (model.eval()(image_map, queries, targets).vocab_ids == worst[:, None]).any()


def test_a_random_ranking_selects_any_category():
    model = make(cascade=5, ranking="random").eval()
    torch.manual_seed(0)
    chosen = {v for _ in range(40) for v in model(*inputs()).vocab_ids.flatten().tolist()}
    assert chosen == set(range(9))


def test_a_small_vocabulary_leaves_empty_slots():
    selected = make(cascade=6).eval()(*inputs(categories=3))
    assert selected.valid.tolist() == [[True, True, True, False]] * 2


def test_impossible_cascades_are_refused():
    with pytest.raises(ValueError, match="at least num_selected = 4 .* got cascade = 3"):
        make(cascade=3)
    with pytest.raises(ValueError, match="at least 1 category, got 0"):
        Cascade(dim=4, keep=0)


def test_without_a_cascade_nothing_is_added():
    assert not [name for name, _ in make().named_parameters() if "cascade" in name]
    assert make().eval()(*inputs()).scores.auxiliary is None


def test_a_detector_trains_every_part_of_it():
    model = tiny_model(overrides=[CASCADE + "12"]).train()
    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.selection.cascade.parameters()), "lr": 0.03},
            {"params": [p for n, p in model.named_parameters() if ".cascade." not in n]},
        ],
        lr=1e-4,
    )
    batch = [make_input(), make_input(seed=1, classes=[7, 30])]
    first = None
    for _ in range(12):
        losses = model(batch)
        assert {"loss_category", "loss_category_auxiliary"} <= set(losses)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        first = first or losses["loss_category_auxiliary"].item()
    assert losses["loss_category_auxiliary"].item() < first
    with torch.no_grad():
        found = model.eval()(batch)
    assert all(len(item["selected_vocab_ids"]) == 8 for item in found)


def test_it_selects_among_the_categories_on_offer():
    model = make(cascade=4).eval()
    offer = ClassRequest(torch.tensor([7, 1, 4, 8, 2]), num_selected=5)
    with torch.no_grad():
        selected = model(*inputs(), request=offer)
    assert all(sorted(ids) == [1, 2, 4, 7, 8] for ids in selected.vocab_ids.tolist())
    assert torch.equal(selected.scores.logits.topk(5, dim=1).indices, selected.vocab_ids)
    assert selected.scores.logits.isinf().sum(dim=1).tolist() == [4, 4]
