"""Vectors that belong to names: where they are added, what learns, and what is saved."""

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from cqdino_d2.categories import PromptVectors
from cqdino_d2.engine.freezing import freeze_parts
from cqdino_d2.structures import ClassRequest, TextPrompt
from tests.prompted import prompted_config, randomised
from tests.tiny import make_input

NAMES = ["red_cat", "dog"]
PLACES = [  # caption -> the rows of the vectors that its tokens have
    ("red cat. bus. dog.", [-1, 0, 0, -1, -1, -1, 1, -1, -1]),
    ("two dog. dog? RED  cat.", [-1, -1, -1, -1, 1, -1, 0, 0, -1, -1]),
    ("a red cat. cat. red. cat red.", [-1] * 13),
    ("bus. dog", [-1] * 5),  # what no separator ends is read word by word
]


@pytest.fixture
def cfg(tmp_path):
    config = prompted_config(tmp_path)
    config.model.categories.prompt_vectors = L(PromptVectors)(
        names=NAMES, tokenizer="${model.categories.tokenizer}", dim="${model.neck.dim}"
    )
    return config


def categories_of(cfg):
    torch.manual_seed(0)
    return instantiate(cfg.model.categories).eval()


def read(categories, *captions):
    prompts = tuple(TextPrompt(caption) for caption in captions)
    return categories(ClassRequest(prompts=prompts)).features


def test_nothing_changes_at_first(cfg):
    tuned = categories_of(cfg)
    cfg.model.categories.prompt_vectors = None
    plain = categories_of(cfg)
    captions = [caption for caption, _ in PLACES]
    assert torch.equal(read(tuned, *captions), read(plain, *captions))


@pytest.mark.parametrize("together", [False, True])
def test_a_vector_follows_its_name_to_other_prompts_and_places(cfg, together):
    categories = categories_of(cfg)
    captions = [caption for caption, _ in PLACES]

    def features():
        if together:
            return read(categories, *captions)
        return [read(categories, caption)[0] for caption in captions]

    before = features()
    with torch.no_grad():
        vectors = categories.prompt_vectors.vectors.normal_()
    after = features()
    for image, (_, rows) in enumerate(PLACES):
        expected = before[image].clone()
        for place, row in enumerate(rows):
            if row >= 0:
                expected[place] += vectors[row]
        torch.testing.assert_close(after[image], expected)


def test_a_gradient_reaches_the_names_of_the_prompt_alone(cfg):
    model = instantiate(cfg.model)
    freeze_parts(model, ["."], ["categories.prompt_vectors"])
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning == ["categories.prompt_vectors.vectors"]
    weights = torch.randn(1, 9, 16)
    (read(model.categories, "bus. red cat. a.") * weights).sum().backward()
    gradient = model.categories.prompt_vectors.vectors.grad
    torch.testing.assert_close(gradient, torch.stack([weights[0, 3:5].sum(0), torch.zeros(16)]))


def test_a_prompt_without_any_of_the_names_still_has_a_gradient(cfg):
    categories = categories_of(cfg)
    read(categories, "bus.").sum().backward()  # several processes wait for every parameter
    assert torch.equal(categories.prompt_vectors.vectors.grad, torch.zeros(2, 16))


def test_names_are_saved_with_their_vectors_and_others_are_refused(cfg):
    categories = categories_of(cfg)
    with torch.no_grad():
        categories.prompt_vectors.vectors.normal_()
    saved = categories.state_dict()
    again = categories_of(cfg)
    again.load_state_dict(saved)
    captions = [caption for caption, _ in PLACES]
    assert torch.equal(read(again, *captions), read(categories, *captions))
    cfg.model.categories.prompt_vectors.names = ["red cat", "Dog.", "dog"]  # read the same
    categories_of(cfg).load_state_dict(saved)
    for others in (["red cat", "bus"], ["dog", "red cat"]):
        cfg.model.categories.prompt_vectors.names = others
        with pytest.raises(ValueError, match="belong to 2 other names or another order"):
            categories_of(cfg).load_state_dict(saved)


def test_weights_from_before_load_and_leave_the_vectors_at_zero(cfg):
    categories = categories_of(cfg)
    old = {k: v for k, v in categories.state_dict().items() if "prompt_vectors" not in k}
    missing, unexpected = categories.load_state_dict(old, strict=False)
    assert sorted(missing) == ["prompt_vectors.readings", "prompt_vectors.vectors"]
    assert not unexpected


def test_the_kept_text_side_of_a_long_prompt_notices_a_vector(cfg):
    cfg.model.categories.tokenizer.max_tokens = 7
    model = randomised(instantiate(cfg.model))
    spans = (((0, 3),), ((5, 12),), ((14, 17),))
    prompt = TextPrompt("bus. red cat. dog.", spans)
    with torch.no_grad():
        before = model._passes_of(prompt)
        assert len(before) == 2 and model._passes_of(prompt) is before
        model.categories.prompt_vectors.vectors[1].add_(1.0)
        after = model._passes_of(prompt)
    changed = [
        not torch.equal(one.features, other.features)
        for one, other in zip(before, after, strict=True)
    ]
    assert changed == [False, True]


@pytest.mark.parametrize(("names", "message"), [([], "at least one"), (["cat", "._?"], "'._\\?'")])
def test_names_without_words_are_refused(cfg, names, message):
    cfg.model.categories.prompt_vectors.names = names
    with pytest.raises(ValueError, match=message):
        categories_of(cfg)


def test_a_prompt_without_the_names_finds_what_it_found_before(cfg):
    model = randomised(instantiate(cfg.model))
    item = {k: v for k, v in make_input((48, 80), seed=0).items() if k != "instances"}

    def scores(caption):
        (found,) = model([item], ClassRequest(prompts=(TextPrompt(caption),)))
        return found["instances"].scores

    with torch.no_grad():
        before = scores("bus. two cat."), scores("bus. dog.")
        model.categories.prompt_vectors.vectors.add_(1.0)
        after = scores("bus. two cat."), scores("bus. dog.")
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
