"""A detector that is asked in words: each image has its own prompt, and no neighbour matters.

Backbone and neck are replaced by parts that look at one place at a time, as in test_mixed_sizes:
what convolutions and windows make of the padding is not what is tried here.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Instances
from torch import nn

from cqdino_d2.structures import ClassRequest, TextPrompt
from tests.detector.test_mixed_sizes import PatchBackbone
from tests.prompted import WORDS, prompted_config, randomised
from tests.tiny import ROOT, make_input

PROMPTS = [
    TextPrompt("a red cat. two dog.", (((2, 9),), ((11, 18),)), (7, 3)),
    TextPrompt("bus?", (((0, 3),),)),
]


def use_light_encoder(model):
    """The second of two levels meets the words, and the two are merged."""
    light = LazyConfig.load(str(ROOT / "configs/models/grounding_dino_edge.py")).model.encoder
    model.encoder.update(first_level=1, image_layer=light.image_layer, merge=light.merge)
    model.encoder.image_layer.update(num_heads=2, hidden_dim=24)
    model.encoder.merge.update(hidden_dim=12, num_convolutions=1)


@pytest.fixture(scope="module", params=["deformable", "light"])
def model(request, tmp_path_factory):
    cfg = prompted_config(tmp_path_factory.mktemp("words"))
    if request.param == "light":
        use_light_encoder(cfg.model)
    detector = instantiate(cfg.model)
    detector.backbone, detector.neck = PatchBackbone(16), nn.Identity()
    randomised(detector)
    with torch.no_grad():
        detector.decoder.position_mlp[-1].weight.zero_()  # it looks at the padded map
    return detector


def images():
    return [
        {key: value for key, value in make_input(size, seed=seed).items() if key != "instances"}
        for seed, size in enumerate([(48, 80), (64, 40)])
    ]


def assert_same(found, expected):
    for name in ("scores", "pred_classes"):
        torch.testing.assert_close(found.get(name), expected.get(name), rtol=1e-4, atol=1e-5)
    boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=1e-3, atol=1e-2)


def test_an_image_in_a_batch_is_the_image_alone(model):
    inputs = [item | {"prompt": prompt} for item, prompt in zip(images(), PROMPTS, strict=True)]
    with torch.no_grad():
        together = model(inputs)
        for item, found in zip(inputs, together, strict=True):
            (alone,) = model([item])
            assert_same(found["instances"], alone["instances"])
    assert set(together[0]["instances"].pred_classes.tolist()) == {3, 7}
    assert set(together[1]["instances"].pred_classes.tolist()) == {0}
    assert len(together[0]["instances"]) == 11 and len(together[1]["instances"]) == 9


def test_padding_and_the_other_prompt_change_nothing_at_any_stage(model):
    inputs = images()
    with torch.no_grad():
        batch = model.preprocess(inputs)
        both = model.run(batch, None, ClassRequest(prompts=tuple(PROMPTS)))
        for i, prompt in enumerate(PROMPTS):
            alone = model.run(
                model.preprocess(inputs[i : i + 1]), None, ClassRequest(prompts=(prompt,))
            )
            length = alone.slots.num_slots
            torch.testing.assert_close(both.slots.features[i, :length], alone.slots.features[0])
            torch.testing.assert_close(
                both.output.boxes_cxcywh_norm[-1, i], alone.output.boxes_cxcywh_norm[-1, 0]
            )


def test_words_of_another_phrase_are_not_seen(model):
    first = ClassRequest(prompts=(TextPrompt("a red cat. two dog."),))
    second = ClassRequest(prompts=(TextPrompt("a red cat. bus dog."),))
    with torch.no_grad():
        one, other = model.class_queries(first), model.class_queries(second)
    torch.testing.assert_close(one.features[0, :5], other.features[0, :5])
    assert not torch.allclose(one.features[0, 5], other.features[0, 5])


LONG = TextPrompt("a red cat. two dog. bus. a red dog.", (((2, 9),), ((20, 23),), ((27, 34),)))
PARTS = (
    TextPrompt("a red cat. two dog. bus.", (((2, 9),), ((20, 23),)), (0, 1)),
    TextPrompt("a red dog.", (((2, 9),),), (2,)),
)


@pytest.fixture
def reads_little(model, monkeypatch):
    monkeypatch.setattr(model.categories.tokenizer, "max_tokens", 12)
    return model


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_long_prompt_is_looked_for_in_passes(reads_little, monkeypatch, at_once):
    model, inputs = reads_little, images()
    monkeypatch.setattr(model, "passes_at_once", at_once)
    with torch.no_grad():
        found = model([item | {"prompt": LONG} for item in inputs])
        read = model(inputs, ClassRequest(passes=model.read_prompts(PARTS)))
        parts = [model(inputs, ClassRequest(prompts=(prompt,) * 2)) for prompt in PARTS]
    for image, result in enumerate(found):
        together = Instances.cat([part[image]["instances"] for part in parts])
        best = together.scores.argsort(descending=True)[:11]  # as many as one pass gives
        assert_same(result["instances"], together[best])
        assert_same(read[image]["instances"], together[best])


def test_a_long_prompt_may_be_asked_while_another_one_is_read(reads_little, monkeypatch):
    model, inputs, read = reads_little, images(), reads_little.read_prompts
    other = TextPrompt("a dog. two red cat. two red bus.", (((2, 5),), ((7, 18),), ((28, 31),)))

    def ask(prompt):
        with torch.no_grad():
            return [row["instances"] for row in model([x | {"prompt": prompt} for x in inputs])]

    expected = {prompt: ask(prompt) for prompt in (LONG, other)}
    model._kept_passes.clear()

    def read_meanwhile(prompts):
        monkeypatch.setattr(model, "read_prompts", read)
        with ThreadPoolExecutor(1) as pool:
            found[other] = pool.submit(ask, other).result()
        return read(prompts)

    found = {}
    monkeypatch.setattr(model, "read_prompts", read_meanwhile)
    found[LONG] = ask(LONG)
    again = {prompt: ask(prompt) for prompt in (other, LONG)}
    for results in (found, again):
        for prompt, rows in results.items():
            for one, own in zip(rows, expected[prompt], strict=True):
                assert_same(one, own)


def test_images_of_a_batch_may_have_long_and_short_prompts(reads_little):
    inputs = [item | {"prompt": p} for item, p in zip(images(), (LONG, PROMPTS[1]), strict=True)]
    with torch.no_grad():
        for item, found in zip(inputs, reads_little(inputs), strict=True):
            assert_same(found["instances"], reads_little([item])[0]["instances"])


def test_its_own_prompt_is_for_images_without_one_and_follows_the_weights(
    reads_little, monkeypatch
):
    model, inputs = reads_little, images()
    with torch.no_grad():
        expected = model([item | {"prompt": LONG} for item in inputs])
        monkeypatch.setattr(model, "prompt", LONG)
        for own, found in zip(expected, model(inputs), strict=True):
            assert_same(found["instances"], own["instances"])
        kept = model._kept_passes.value
        model(inputs)
        assert model._kept_passes.value is kept
        (found,) = model([inputs[0] | {"prompt": PROMPTS[1]}])
        assert set(found["instances"].pred_classes.tolist()) == {0}
        weight = model.categories.projection.weight
        before = weight.clone()
        weight.data.mul_(2.0)
        changed = model(inputs)
        weight.data.copy_(before)
        other = model(
            [item | {"prompt": TextPrompt(LONG.caption, LONG.spans, (5, 6, 7))} for item in inputs]
        )
    assert not torch.equal(changed[0]["instances"].scores, expected[0]["instances"].scores)
    shifted = expected[0]["instances"].pred_classes + 5
    assert torch.equal(other[0]["instances"].pred_classes, shifted)
    model.train()
    assert model._kept_passes.value is None
    model.eval()


def test_a_query_may_give_its_best_thing_alone(model, monkeypatch):
    monkeypatch.setattr(model.post_processor, "one_per_query", True)
    inputs = images()[:1]
    with torch.no_grad():
        (found,) = model([inputs[0] | {"prompt": PROMPTS[0]}])
        run = model.run(model.preprocess(inputs), None, ClassRequest(prompts=(PROMPTS[0],)))
        vocab_ids, scores = run.slots.pool(run.output.logits[-1, 0].sigmoid(), 0)
    found = found["instances"]
    best, columns = scores.max(dim=1)
    order = best.argsort(descending=True)
    assert len(found) == 9  # one for each query
    torch.testing.assert_close(found.scores, best[order])
    assert torch.equal(found.pred_classes, vocab_ids[columns[order]])


def test_training_needs_a_prompt_and_reaches_every_parameter(model):
    model.train()
    inputs = [
        make_input((64, 80), boxes=((4, 4, 30, 40), (20, 10, 60, 50)), classes=[3, 7]),
        make_input((48, 64), boxes=(), seed=1),
    ]
    with pytest.raises(ValueError, match="image 0 of 2 has no prompt"):
        model(inputs)
    losses = model([x | {"prompt": p} for x, p in zip(inputs, PROMPTS, strict=True)])
    sum(losses.values()).backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    model.zero_grad()
    model.eval()
    assert unused == ["denoising.content.not_selected"] or unused == []
    assert all(value.isfinite() for value in losses.values())


def test_what_says_nothing_to_look_for_is_refused(model):
    with torch.no_grad(), pytest.raises(ValueError, match="no request says what to look for"):
        model(images())
    with torch.no_grad(), pytest.raises(ValueError, match="2 images need a prompt each, got 1"):
        model(images(), ClassRequest(prompts=tuple(PROMPTS[:1])))


def test_a_vocabulary_of_another_model_is_refused(model, tmp_path, monkeypatch):
    tokenizer = model.categories.tokenizer
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*WORDS, "one"]) + "\n", encoding="utf-8")
    other = type(tokenizer)(path)
    monkeypatch.setattr(model.categories, "tokenizer", other)
    with pytest.raises(ValueError, match="has 13 tokens, the language model's 12"):
        model.class_queries(ClassRequest(prompts=tuple(PROMPTS)))
