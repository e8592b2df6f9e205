"""Prediction among a part of the vocabulary, and among more than it."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
from cqdino_d2.structures import ClassRequest, random_vocabulary
from cqdino_d2.text.encoders import RandomEncoder
from cqdino_d2.text.prompts import encode_categories, prompts_of
from tests.tiny import NUM_CATEGORIES, tiny_model

CONFIG = "configs/emojidet/tiny_{}.py"
LEAVES = [30, 31, 32, 33, 34]  # categories without children, of the parents 7 and 8


def save_tiny(folder, relation="tree", seed=0):
    torch.save(
        {"model": tiny_model(relation, seed=seed).state_dict()}, folder / "model_inference.pth"
    )
    random_vocabulary(NUM_CATEGORIES).save(folder / "vocabulary.json")
    return folder / "model_inference.pth"


def load(weights, relation="tree", **kwargs):
    cfg = get_predictor_cfg(CONFIG.format(relation), weights=weights, device="cpu", **kwargs)
    return CategoryPredictor(cfg)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def predictor(weights):
    return load(weights)


def picture(seed=0, size=(64, 80)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def assert_same(first, second, **tolerance):
    a, b = first["instances"], second["instances"]
    assert torch.equal(a.pred_classes, b.pred_classes)
    assert a.image_size == b.image_size
    torch.testing.assert_close(a.scores, b.scores, **tolerance)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, **tolerance)
    assert torch.equal(first["selected_vocab_ids"], second["selected_vocab_ids"])
    torch.testing.assert_close(first["selected_scores"], second["selected_scores"], **tolerance)


def scores_of(result, vocab_id):
    """Sorted detection scores of a category."""
    found = result["instances"]
    return found.scores[found.pred_classes == vocab_id]


def test_it_predicts_as_detectron2s_own_does(weights, predictor):
    plain = DefaultPredictor(predictor.cfg)
    assert_same(predictor(picture()), plain(picture()), rtol=0, atol=0)


def test_a_batch_gives_what_single_pictures_give(predictor):
    pictures = [picture(0), picture(1, (50, 90)), picture(2), picture(3, (90, 50)), picture(4)]
    together = predictor.batch(pictures)
    for one, result in zip(pictures, together, strict=True):
        assert result["instances"].image_size == one.shape[:2]
        assert_same(result, predictor(one), rtol=1e-4, atol=1e-4)
    assert predictor.batch([]) == []


def test_something_else_than_a_picture_is_refused(predictor):
    with pytest.raises(
        ValueError, match=r"expected a BGR image \(H, W, 3\), got an array \(9, 9\)"
    ):
        predictor(np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match=r"\(0, 9, 3\)"):
        predictor(np.zeros((0, 9, 3), np.uint8))


def test_selected_categories_come_with_their_scores(predictor):
    result = predictor(picture())
    scores = result["selected_scores"]
    assert len(scores) == len(result["selected_vocab_ids"]) == 8
    assert torch.equal(scores, scores.sort(descending=True).values)
    every = predictor.selecting(NUM_CATEGORIES)(picture())
    torch.testing.assert_close(every["selected_scores"][:8], scores)


def test_restricting_to_everything_changes_nothing(predictor):
    everything = predictor.restrict(predictor.vocabulary.names[::-1])
    assert everything.requested_vocab_ids == list(range(NUM_CATEGORIES))
    assert_same(everything(picture()), predictor(picture()), rtol=0, atol=0)


def test_restricting_to_a_branch_gives_only_it(predictor):
    below = [2, 9, 10, 11, 12, 37, 38, 39]  # category i > 0 is a child of (i - 1) // 4
    branch = predictor.restrict(branches="Category_2")
    assert branch.requested_vocab_ids == below
    result = branch(picture())
    assert set(result["selected_vocab_ids"].tolist()) == set(below)
    assert set(result["instances"].pred_classes.tolist()) <= set(below)
    assert predictor.request is None  # the one it came from stays as it was
    assert branch.restrict([38 + 1, "category 0", 1, 2 + 1]).requested_vocab_ids == [2, 38]


class OnlyThese(torch.nn.Module):
    """Ranks the whole vocabulary and throws away what is not kept: more work, the same result."""

    def __init__(self, selection, kept, num_selected):
        super().__init__()
        self.selection, self.kept, self.num_selected = selection, kept, num_selected

    def forward(self, image_map, queries, targets, request):
        everything = ClassRequest(num_selected=len(queries.features))
        full = self.selection(image_map, queries, None, everything)
        (slots,) = torch.isin(full.vocab_ids[0], self.kept).nonzero(as_tuple=True)
        slots = slots[: self.num_selected]
        return dataclasses.replace(
            full,
            features=full.features[:, slots],
            vocab_ids=full.vocab_ids[:, slots],
            valid=full.valid[:, slots],
        )


@pytest.mark.parametrize("relation", ["tree", "sa"])
@pytest.mark.parametrize("kept", [[3, 5, 39], list(range(0, 40, 3))])
def test_kept_categories_score_as_the_model_scores_them(tmp_path, relation, kept):
    predictor = load(save_tiny(tmp_path, relation), relation)
    found = predictor.restrict([vocab_id + 1 for vocab_id in kept])(picture())
    selection = predictor.model.selection
    predictor.model.selection = OnlyThese(selection, torch.tensor(kept), 8)
    assert_same(found, predictor(picture()), rtol=1e-4, atol=1e-5)


def test_restrictions_and_plain_predictions_take_turns(predictor):
    first = predictor.restrict(branches=[3])
    wanted = [predictor(picture()), first(picture())]
    for _ in range(2):
        assert_same(predictor(picture()), wanted[0], rtol=0, atol=0)
        assert_same(first(picture()), wanted[1], rtol=0, atol=0)


def test_another_number_of_categories(predictor):
    few = predictor.restrict(branches=["category 1"]).selecting(3)(picture())
    many = predictor.restrict(branches=["category 1"])(picture())
    assert torch.equal(few["selected_vocab_ids"], many["selected_vocab_ids"][:3])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        predictor.selecting(0)


def test_unknown_categories_are_named_with_what_comes_close(predictor):
    with pytest.raises(ValueError, match="no category 'categry 17': did you mean 'category 17'"):
        predictor.restrict(["categry 17"])
    with pytest.raises(ValueError, match="no category 'zzz': nothing comes close"):
        predictor.restrict(["zzz"])
    with pytest.raises(ValueError, match="no category with the id 99"):
        predictor.restrict([99])
    with pytest.raises(ValueError, match="nothing is left to find"):
        predictor.restrict()
    with pytest.raises(ValueError, match=r"nothing is left to find.*among 1 that it may find"):
        predictor.restrict([1]).restrict([2])


def test_a_request_is_for_inference(predictor):
    model = tiny_model().train()
    with pytest.raises(ValueError, match="not for training"):
        model.selection(torch.zeros(1, 32, 2, 2), model.categories(), None, ClassRequest())
    with pytest.raises(ValueError, match=r"each once; got \[1, 1\]"):
        ClassRequest(torch.tensor([1, 1]))


def test_a_twin_scores_like_its_original(predictor):
    """A new leaf with the embedding of an old one is found wherever that one is."""
    twins = predictor.model.categories.embeddings[LEAVES].detach()
    names = [f"twin {leaf}" for leaf in LEAVES]
    parents = [f"category {(leaf - 1) // 4}" for leaf in LEAVES]
    extended = predictor.extend_vocabulary(names, twins, parents=parents)
    assert len(extended.vocabulary) == 45
    assert extended.vocabulary.dataset_ids[40:] == (41, 42, 43, 44, 45)
    assert extended.metadata.thing_classes[40] == "twin 30"
    new = list(range(40, 45))
    assert extended.vocabulary.hierarchy.branch(8) == [8, 33, 34, 35, 36, 43, 44]
    with torch.no_grad():
        queries = extended.model.categories().features
        torch.testing.assert_close(queries[new], queries[LEAVES])
        torch.testing.assert_close(queries[LEAVES], predictor.model.categories().features[LEAVES])
    result = extended.restrict([*range(31, 36), *range(41, 46)]).selecting(10)(picture())
    assert sorted(result["selected_vocab_ids"].tolist()) == [*LEAVES, *new]
    for old, twin in zip(LEAVES, new, strict=True):
        assert len(scores_of(result, old)) > 0
        torch.testing.assert_close(scores_of(result, old), scores_of(result, twin))


def test_parents_take_up_new_children(predictor):
    before = predictor.model.categories
    new = torch.randn(1, before.embeddings.shape[1], generator=torch.Generator().manual_seed(0))
    extended = predictor.extend_vocabulary(["new"], new, parents=[["category 9", "category 7"]])
    with torch.no_grad():
        changed = (extended.model.categories().features[:40] - before().features).abs().amax(
            1
        ) > 1e-2
    assert changed[[9, 7]].all()
    assert not changed[[i for i in range(40) if i not in (0, 1, 2, 7, 9)]].any()


def test_the_order_of_new_categories_does_not_matter(predictor):
    encoder = RandomEncoder(32, seed=3)
    names, parents = ["red_panda", "bear", "fern"], ["bear", "category 3", None]
    first = predictor.extend_vocabulary(names, text_encoder=encoder, parents=parents)
    second = predictor.extend_vocabulary(names[::-1], text_encoder=encoder, parents=parents[::-1])
    place = [*range(40), 42, 41, 40]
    with torch.no_grad():
        queries = second.model.categories().features[place]
        torch.testing.assert_close(first.model.categories().features, queries)
    a, b = first.selecting(43)(picture()), second.selecting(43)(picture())
    for vocab_id, other in enumerate(place):
        torch.testing.assert_close(scores_of(a, vocab_id), scores_of(b, other))


def test_a_text_encoder_makes_the_embeddings_of_the_tool(predictor):
    encoder = RandomEncoder(32, seed=3)
    templates = ["a {}.", "the {}!"]
    names = ["red_panda", "fern"]
    extended = predictor.extend_vocabulary(names, text_encoder=encoder, templates=templates)
    prompts = [prompts_of(name, "", templates) for name in names]
    wanted = encode_categories(encoder, prompts, batch_size=3)
    torch.testing.assert_close(extended.model.categories.embeddings[40:].detach(), wanted)


@pytest.mark.parametrize("relation", ["tree", "sa"])
def test_saved_and_loaded_it_is_the_same(tmp_path, relation):
    predictor = load(save_tiny(tmp_path, relation), relation)
    encoder = RandomEncoder(32, seed=1)
    once = predictor.extend_vocabulary(["fern"], text_encoder=encoder, parents=["category 4"])
    twice = once.extend_vocabulary(["oak"], text_encoder=encoder, parents=["fern"])
    twice.save(tmp_path / "extended" / "model.pth")
    again = load(tmp_path / "extended" / "model.pth", relation)
    assert again.vocabulary.as_json() == twice.vocabulary.as_json()
    assert again.vocabulary.hierarchy.branch(4)[-2:] == [40, 41]
    assert_same(again(picture()), twice(picture()), rtol=0, atol=0)
    further = again.extend_vocabulary(["elm"], text_encoder=encoder)  # from the saved vocabulary
    assert len(further.vocabulary) == 43
    twice.save(tmp_path / "extended" / "model.pth")
    with pytest.raises(FileExistsError, match="another vocabulary"):
        twice.save(tmp_path / "model_of_others.pth")
    assert not (tmp_path / "model_of_others.pth").exists()


def test_the_two_share_weights_and_see_a_change(weights):
    predictor = load(weights)
    extended = predictor.extend_vocabulary(["new"], torch.ones(1, 32))
    before = [predictor(picture()), extended(picture())]
    with torch.no_grad():
        predictor.model.categories.projection.weight.mul_(-1)
    for one, old in zip([predictor, extended], before, strict=True):
        assert not torch.equal(one(picture())["selected_scores"], old["selected_scores"])
    fresh = load(weights)
    assert_same(fresh(picture()), before[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": "fern"}, "expected a list of names, got 'fern'"),
        ({"names": ["fern"]}, "either embeddings or a text encoder"),
        (
            {"names": ["fern"], "embeddings": torch.zeros(1, 31)},
            r"must be \(1, 32\).*got \(1, 31\)",
        ),
        ({"names": ["fern"], "embeddings": torch.full((1, 32), torch.nan)}, "must be finite"),
        ({"names": ["a"], "embeddings": torch.ones(1, 32), "parents": ["categori 4"]}, "did you"),
        ({"names": ["a"], "embeddings": torch.ones(1, 32), "parents": []}, "as many parents"),
        ({"names": ["a"], "embeddings": torch.ones(1, 32), "parents": ["a"]}, "cycle"),
        ({"names": ["a"], "embeddings": torch.ones(1, 32), "dataset_ids": [7]}, "must be unique"),
    ],
)
def test_unusable_extensions_are_refused(predictor, arguments, message):
    with pytest.raises(ValueError, match=message):
        predictor.extend_vocabulary(**arguments)


def assert_close_scores(first, second):
    """Scores that are alike to rounding may come in another order."""
    assert torch.equal(first["selected_vocab_ids"], second["selected_vocab_ids"])
    for vocab_id in second["selected_vocab_ids"].tolist():
        torch.testing.assert_close(
            scores_of(first, vocab_id), scores_of(second, vocab_id), rtol=0, atol=2e-3
        )


@pytest.mark.parametrize("relation", ["tree", "sa"])
def test_a_compact_predictor_predicts_as_the_whole_one(tmp_path, relation):
    # with other seeds two proposals may be so alike that rounding decides which of them is taken
    whole = load(save_tiny(tmp_path, relation, seed=4), relation)
    expected = whole(picture())
    exact, half = whole.compact(torch.float32), whole.compact()
    assert_same(exact(picture()), expected, rtol=1e-5, atol=1e-5)
    assert_close_scores(half(picture()), expected)
    assert half.model.categories.features.dtype == torch.float16
    assert_close_scores(half.restrict(LEAVES)(picture()), whole.restrict(LEAVES)(picture()))
    assert_same(whole(picture()), expected, rtol=0, atol=0)
    shared = {id(p) for p in whole.model.parameters()}
    own = [name for name, p in half.model.named_parameters() if id(p) not in shared]
    assert own == []
    of_categories = [v for v in half.model.state_dict().values() if NUM_CATEGORIES in v.shape]
    assert [tuple(v.shape) for v in of_categories] == [(NUM_CATEGORIES, 32)]
    assert half.model.criterion is None and whole.model.criterion is not None


def test_what_a_compact_predictor_cannot_do(predictor, tmp_path):
    compact = predictor.compact()
    with pytest.raises(ValueError, match="a compact predictor cannot be saved"):
        compact.save(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="cannot be extended .a compact one"):
        compact.extend_vocabulary(["new"], torch.randn(1, 32))
    with pytest.raises(ValueError, match="floating-point numbers, got torch.int64"):
        predictor.compact(torch.int64)
    assert list(tmp_path.iterdir()) == []
    asked = copy.copy(predictor.model)
    asked._modules = predictor.model._modules | {"categories": torch.nn.Identity()}
    with pytest.raises(ValueError, match="queries of Identity depend on what is asked for"):
        asked.compact()


def test_names_are_asked_for_as_of_a_model_that_reads_words(predictor):
    known = predictor.ask(["Category_30", ["category 31", "category 32"]])
    assert known.requested_vocab_ids == [30, 31, 32]
    expected = predictor.restrict(["category 30", "category 31", "category 32"])
    assert_same(known(picture()), expected(picture()), rtol=0, atol=0)
    found = known(picture())["instances"]
    assert found.phrases == [f"category {i}" for i in found.pred_classes.tolist()]
    assert predictor.ask("category 30. category 31").requested_vocab_ids == [30, 31]


def test_names_that_it_does_not_know_become_categories(predictor):
    encoder = RandomEncoder(32, seed=2)
    asked = predictor.ask(["a zebra", "category 3"], text_encoder=encoder)
    assert asked.vocabulary.names[-1] == "a zebra"
    assert asked.requested_vocab_ids == [3, NUM_CATEGORIES]
    by_hand = predictor.extend_vocabulary(["a zebra"], text_encoder=encoder)
    by_hand = by_hand.restrict(["a zebra", "category 3"])
    assert_same(asked(picture()), by_hand(picture()), rtol=0, atol=0)
    with pytest.raises(ValueError, match="1 of 2 names are not in the vocabulary, 'a zebra' the"):
        predictor.ask(["a zebra", "category 3"])


def test_unknown_names_are_looked_up_not_searched(predictor, monkeypatch):
    searches = []
    monkeypatch.setattr("difflib.get_close_matches", lambda *a, **_: searches.append(a) or [])
    names = [f"zebra {i}" for i in range(5)]
    with pytest.raises(ValueError, match="5 of 5 names"):
        predictor.ask(names)
    predictor.ask(names, text_encoder=RandomEncoder(32, seed=2))
    assert searches == []
    with pytest.raises(ValueError, match="no category 'zebra 0'"):
        predictor.restrict(names)
    assert len(searches) == 1


def test_negatives_are_looked_for_and_left_out(predictor):
    both = predictor.ask(["category 30", "category 31"])(picture())["instances"]
    asked = predictor.ask(["category 30"], negatives=["category 31"])(picture())["instances"]
    assert 0 < len(asked) < len(both)
    assert torch.equal(asked.scores, both.scores[both.pred_classes == 30])


@pytest.mark.parametrize("wanted", [[], [""], [[]], ["category 1", " "]])
def test_asking_for_nothing_is_refused(predictor, wanted):
    with pytest.raises(ValueError, match="expected names to look for"):
        predictor.ask(wanted)


def test_negatives_that_leave_nothing_are_refused(predictor):
    with pytest.raises(ValueError, match="a list of names, got 'category 31'"):
        predictor.ask(["category 30"], negatives="category 31")
    with pytest.raises(ValueError, match="'Category_30' is wanted and a negative at once"):
        predictor.ask(["category 30"], negatives=["category 31", "Category_30"])
