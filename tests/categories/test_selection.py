import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cqdino_d2.categories import CategoryQueries, ImageGuidedSelection, TreeAggregation
from cqdino_d2.detector import CategoryTagger
from cqdino_d2.layers.recompute import RECOMPUTATIONS
from cqdino_d2.structures import ClassQueries, ImageTargets, random_vocabulary
from tests.categories import plain_formulation


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
        ClassQueries(torch.randn(categories, 16, generator=generator)),
    )


def test_the_k_best_categories_are_selected_in_order():
    selected = make().eval()(*inputs())
    assert torch.equal(selected.vocab_ids, selected.scores.logits.topk(4, dim=1).indices)
    assert selected.features.shape == (2, 4, 10)
    assert selected.valid.all()


def test_slot_ids_find_what_was_selected():
    selected = make().eval()(*inputs())
    assert selected.entry_ids(1, selected.vocab_ids[1].flip(0)).tolist() == [3, 2, 1, 0]
    absent = next(v for v in range(9) if v not in selected.vocab_ids[0])
    assert selected.entry_ids(0, torch.tensor([absent])).tolist() == [-1]


def test_targets_can_be_forced_in_training_only():
    model = make(force_targets=True, dropout=0.0)
    image_map, queries = inputs()
    worst = model.eval()(image_map, queries).scores.logits.argmin(dim=1)
    targets = [ImageTargets(torch.zeros(1, 4), worst[i : i + 1], (9, 9)) for i in range(2)]
    assert (model.train()(image_map, queries, targets).vocab_ids == worst[:, None]).any(1).all()
    assert not (model.eval()(image_map, queries, targets).vocab_ids == worst[:, None]).any()


def test_targets_can_be_forced_always():
    model = make(force_targets="always").eval()
    image_map, queries = inputs()
    usual = model(image_map, queries)
    worst = usual.scores.logits.argmin(dim=1)
    targets = [ImageTargets(torch.zeros(1, 4), worst[i : i + 1], (9, 9)) for i in range(2)]
    forced = model(image_map, queries, targets).vocab_ids
    assert (forced[:, :1] == worst[:, None]).all()
    assert (forced[:, 1:] == usual.vocab_ids[:, :3]).all(), "the rest are the best of the others"


def test_a_small_vocabulary_leaves_empty_slots():
    selected = make().eval()(*inputs(categories=3))
    assert selected.valid.tolist() == [[True, True, True, False]] * 2
    assert selected.entry_ids(0, torch.tensor([0])).item() >= 0
    assert not selected.features[:, 3].any()


def test_an_unknown_ranking_is_refused():
    with pytest.raises(ValueError, match="ranking must be"):
        make(ranking="best")


@pytest.mark.parametrize("chunk_size", [1, 4, 9, 20, None])
@pytest.mark.parametrize("recompute", RECOMPUTATIONS)
def test_chunks_change_nothing(chunk_size, recompute):
    image_map, queries = inputs()
    whole = make(chunk_size=None, dropout=0.0).eval()
    chunked = make(chunk_size=chunk_size, recompute=recompute, dropout=0.0).eval()
    expected = whole(image_map, queries)
    with torch.no_grad():
        found = chunked(image_map, queries)
    assert torch.equal(found.vocab_ids, expected.vocab_ids)
    torch.testing.assert_close(found.scores.logits, expected.scores.logits)
    torch.testing.assert_close(found.features, expected.features)

    for model in (whole, chunked):
        result = model.train()(image_map, queries)
        (result.features.sum() + result.scores.logits.square().sum()).backward()
    for name, parameter in chunked.named_parameters():
        torch.testing.assert_close(parameter.grad, whole.get_parameter(name).grad)


def test_recomputing_draws_the_same_dropout():
    gradients = []
    for recompute in RECOMPUTATIONS:
        model = make(chunk_size=4, recompute=recompute, dropout=0.5).train()
        torch.manual_seed(3)
        selected = model(*inputs())
        (selected.features.sum() + selected.scores.logits.square().sum()).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, *recomputed in zip(*gradients, strict=True):
        for gradient in recomputed:
            torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputing_under_autocast(recompute):
    gradients = []
    for way in (None, recompute):
        model = make(chunk_size=4, recompute=way, dropout=0.0).train()
        with torch.autocast("cpu", torch.bfloat16):
            selected = model(*inputs())
        assert torch.is_autocast_cache_enabled()
        (selected.features.sum() + selected.scores.logits.float().square().sum()).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0.02, atol=1e-3)


def test_what_is_not_kept_is_computed_again():
    kept, operations = {}, {}
    for recompute in RECOMPUTATIONS:
        model = make(chunk_size=4, recompute=recompute, hidden_dim=64).train()
        sizes = {}

        def note(x, sizes=sizes):
            sizes[x.data_ptr()] = x.numel()
            return x

        if recompute != "selective":  # what that keeps goes past the hooks
            with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
                model(*inputs(categories=40))
        kept[recompute] = sum(sizes.values())
        with FlopCounterMode(display=False) as counter:
            model(*inputs(categories=40)).scores.logits.sum().backward()
        operations[recompute] = counter.get_total_flops()
    assert kept["full"] < 0.1 * kept[None]
    assert operations["full"] > 1.25 * operations[None]
    assert operations[None] <= operations["selective"] < 1.1 * operations[None], operations


def test_an_unknown_way_to_recompute_is_refused():
    with pytest.raises(ValueError, match="recompute must be one of .* got 'some'"):
        make(recompute="some")


def test_no_chunks_are_refused():
    with pytest.raises(ValueError, match="chunk_size"):
        make(chunk_size=0)


def test_agrees_with_the_plain_formulation():
    vocabulary = random_vocabulary(23, branching=3)
    relation = TreeAggregation(vocabulary=vocabulary, dim=16)
    categories = CategoryQueries(vocabulary=vocabulary, dim=16, relation=relation).eval()
    selection = make(chunk_size=5).eval()
    image_map, _ = inputs(batch=3)
    logits, vocab_ids, features = plain_formulation.select(categories, selection, image_map)
    with torch.no_grad():
        selected = selection(image_map, categories())
    assert torch.equal(selected.vocab_ids, vocab_ids)
    torch.testing.assert_close(selected.scores.logits, logits)
    torch.testing.assert_close(selected.features, features)


def test_the_part_without_image_is_computed_once_until_a_weight_changes():
    """Of the detector: category queries and their first projection."""
    vocabulary = random_vocabulary(9)
    relation = TreeAggregation(vocabulary=vocabulary, dim=16)
    categories = CategoryQueries(vocabulary=vocabulary, dim=16, relation=relation)
    selection = make()
    model = CategoryTagger(
        backbone=torch.nn.Identity(),
        categories=categories,
        selection=selection,
        category_loss=torch.nn.Identity(),
    ).eval()
    calls = []
    categories.projection.register_forward_hook(lambda *_: calls.append("categories"))
    selection.layers[0].attention.query.register_forward_hook(lambda *_: calls.append("query"))
    image_map, _ = inputs()

    def select():
        calls.clear()
        with torch.no_grad():
            return selection(image_map, model.class_queries()).scores.logits

    first = select()
    assert calls == ["categories", "query"]
    assert torch.equal(select(), first) and not calls
    changes = {
        "an optimizer step": lambda: torch.optim.SGD([categories.embeddings], lr=1.0).step(),
        "loading": lambda: categories.load_state_dict(
            {name: 2 * value for name, value in categories.state_dict().items()}
        ),
        "in place": lambda: torch.nn.init.zeros_(categories.projection.bias),
        "training": lambda: model.train().eval(),
    }
    categories.embeddings.grad = torch.ones_like(categories.embeddings)
    for name, change in changes.items():
        change()
        select()
        assert calls == ["categories", "query"], name
    with torch.no_grad():
        selection.layers[0].attention.query.bias.add_(1)
    changed = select()
    assert calls == ["categories", "query"] and not torch.equal(changed, first)
    with torch.autocast("cpu", torch.bfloat16):
        select()
    assert calls == ["categories", "query"], "another type"
    select()
    assert calls == ["categories", "query"], "back again"
    assert model.kept_bytes == 2 * 9 * 16 * 4
    assert copy.deepcopy(model).kept_bytes == 0
    with torch.inference_mode():
        model.class_queries()
    selection(
        image_map, model.class_queries()
    ).scores.logits.sum().backward()  # nothing kept gets in the way
    assert categories.embeddings.grad is not None
