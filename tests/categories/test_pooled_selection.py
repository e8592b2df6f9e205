import math

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from cqdino_d2.categories import PooledSelection
from cqdino_d2.structures import ClassQueries, ClassRequest, ImageTargets


def make(**changes):
    torch.manual_seed(0)
    settings = dict(
        dim=16, map_channels=12, image_dim=8, output_dim=10, num_selected=4, hidden_dim=20
    )
    return PooledSelection(**(settings | changes))


def inputs(batch=2, categories=9):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 12, 3, 5, generator=generator),
        ClassQueries(torch.randn(categories, 16, generator=generator)),
    )


def plain_logit(model, query, image_map):
    """Of one category in one image, place by place."""
    similarity = model.similarity
    q = similarity.query(query)
    total = 0.0
    for y in range(image_map.shape[1]):
        for x in range(image_map.shape[2]):
            place = similarity.places(image_map[:, y, x])
            total += math.exp(4 * float(q @ place) / math.sqrt(16))
    mean = total / (image_map.shape[1] * image_map.shape[2])
    return math.exp(float(similarity.log_scale)) / 4 * math.log(mean) + float(similarity.bias)


def test_logits_are_smooth_maxima_over_the_places():
    model = make().eval()
    image_map, queries = inputs()
    logits = model(image_map, queries).scores.logits
    for image in range(2):
        for category in range(9):
            expected = plain_logit(model, queries.features[category], image_map[image])
            assert float(logits[image, category]) == pytest.approx(expected, abs=1e-5)


def test_the_k_best_are_refined_as_the_image_guided_layers_do():
    model = make(num_layers=2).eval()
    image_map, queries = inputs()
    selected = model(image_map, queries)
    assert torch.equal(selected.vocab_ids, selected.scores.logits.topk(4, dim=1).indices)
    tokens = image_map.flatten(2).transpose(1, 2)
    tokens = model.image_projection(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
    features = queries.features[selected.vocab_ids]
    for layer in model.layers:
        features = layer(features, layer.attention.keys_values(tokens))
    torch.testing.assert_close(selected.features, model.output_projection(features))


@pytest.mark.parametrize("chunk_size", [1, 4, 20, None])
@pytest.mark.parametrize("prepared", [False, True])
def test_neither_chunks_nor_preparing_nor_the_other_images_change_anything(chunk_size, prepared):
    image_map, queries = inputs()
    expected = make().eval()(image_map, queries)
    model = make(chunk_size=chunk_size).eval()
    given = model.prepare(queries) if prepared else queries
    alone = [model(image_map[i : i + 1], given) for i in range(2)]
    for image, found in enumerate(alone):
        assert torch.equal(found.vocab_ids[0], expected.vocab_ids[image])
        torch.testing.assert_close(found.features[0], expected.features[image])
        torch.testing.assert_close(found.scores.logits[0], expected.scores.logits[image])


def test_forced_targets_requests_and_small_vocabularies():
    model, (image_map, queries) = make(force_targets=True, dropout=0.0), inputs()
    worst = model.eval()(image_map, queries).scores.logits.argmin(dim=1)
    targets = [ImageTargets(torch.zeros(1, 4), worst[i : i + 1], (9, 9)) for i in range(2)]
    assert (model.train()(image_map, queries, targets).vocab_ids == worst[:, None]).any(1).all()
    model.eval()
    request = ClassRequest(vocab_ids=torch.tensor([1, 5, 8]))
    assert set(model(image_map, queries, request=request).vocab_ids.flatten().tolist()) == {1, 5, 8}
    few = model(*inputs(categories=3))
    assert few.valid.tolist() == [[True, True, True, False]] * 2


def test_a_category_learns_most_from_the_place_that_is_most_like_it():
    similarity, (image_map, queries) = make().similarity, inputs()
    places = similarity.read(image_map).detach().requires_grad_(True)
    query = similarity.query(queries.features)
    [gradient] = torch.autograd.grad(similarity(query, places)[0, 3], places)
    assert not gradient[1].any()
    assert gradient[0].norm(dim=1).argmax() == (places[0] @ query[3]).argmax()


def test_stage_1_trains_the_scores_alone():
    model = make()
    model.train_scores_alone()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("similarity.") for name in trained)
    model(*inputs()).scores.logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_only_the_chosen_go_through_the_layers(monkeypatch):
    model, seen = make(), []
    refine = model.layers[0].forward
    monkeypatch.setattr(
        model.layers[0], "forward", lambda x, *rest: seen.append(x.shape) or refine(x, *rest)
    )
    model(*inputs(categories=50))
    assert seen == [(2, 4, 16)]


def test_the_recipe_has_it():
    config = LazyConfig.load("configs/emojidet/icons_pooled.py").model.selection
    config.update(dim=16, output_dim=10, map_channels=12, image_dim=8)
    assert isinstance(instantiate(config), PooledSelection)


@pytest.mark.parametrize("given", [{"cascade": 6}, {"recompute": "full"}])
def test_what_saves_nothing_here_is_refused(given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} must be None"):
        make(**given)
