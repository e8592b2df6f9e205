"""Prediction by words: captions, names, prompts of one's own, in batches and in passes."""

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances

from cqdino_d2.prediction import TextPredictor, get_predictor_cfg
from cqdino_d2.prediction.labels import PhraseList, labelled
from cqdino_d2.prediction.loading import read_names
from cqdino_d2.structures import TextPrompt
from tests.prompted import save_prompted


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return save_prompted(tmp_path_factory.mktemp("prompted"), max_tokens=11)


def load(files, **kwargs):
    options = {key: kwargs.pop(key) for key in ("one_per_query", "nms_threshold") if key in kwargs}
    config, weights = files
    cfg = get_predictor_cfg(config, weights=weights, device="cpu", **kwargs)
    return TextPredictor(cfg, **options)


@pytest.fixture(scope="module")
def predictor(files):
    return load(files)


def image(seed=0, size=(64, 80)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def assert_same(found, expected):
    for name in ("scores", "pred_classes"):
        torch.testing.assert_close(found.get(name), expected.get(name), rtol=1e-4, atol=1e-5)
    boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=1e-3, atol=1e-2)
    assert found.phrases == expected.phrases


def test_a_caption_names_what_is_found(predictor):
    found = predictor(image(), "A red cat . two dog")["instances"]
    assert found.image_size == (64, 80) and len(found) == 9  # a name for each query
    assert set(found.phrases) <= {"A red cat", "two dog"}
    assert [["A red cat", "two dog"][i] for i in found.pred_classes] == found.phrases
    assert (found.scores.diff() <= 0).all()


def test_all_ways_to_ask_for_the_same_find_the_same(predictor):
    caption = predictor(image(), "red cat. two dog.")["instances"]
    names = predictor(image(), ["red_cat", "two dog"])["instances"]
    prompt = TextPrompt("red cat. two dog.", (((0, 7),), ((9, 16),)))
    asked = predictor.ask(["red cat", "two dog"])
    for found in (
        names,
        predictor(image(), prompt)["instances"],
        asked(image())["instances"],
        predictor.ask("red cat. two dog")(image())["instances"],
    ):
        assert_same(found, caption)
    assert asked.vocabulary.names == ("red cat", "two dog")
    assert asked.metadata.thing_classes == ["red cat", "two dog"]
    assert asked.model is predictor.model and predictor.request is None


def test_each_image_of_a_batch_has_its_own_prompt(predictor):
    images = [image(0), image(1, (50, 90)), image(2), image(3)]
    prompts = ["a cat.", ["bus", ["dog", "two dog"]], "two bus. a red cat. a dog. bus", "dog"]
    together = predictor.batch(images, prompts)
    for one, prompt, result in zip(images, prompts, together, strict=True):
        assert_same(result["instances"], predictor(one, prompt)["instances"])
    assert set(together[1]["instances"].phrases) <= {"bus", "dog"}
    assert predictor.batch([], []) == []


def test_names_beyond_a_prompt_are_found_in_passes(predictor, monkeypatch):
    names = ["a red cat", "two dog", "a red bus", "dog", "two red dog"]
    asked = predictor.ask(names)
    assert len(asked.request.passes) == 3
    everything = asked(image())["instances"]
    parts = [predictor(image(), names[i : i + 2])["instances"] for i in (0, 2, 4)]
    scores = torch.cat([part.scores for part in parts]).sort(descending=True)[0]
    torch.testing.assert_close(everything.scores, scores[:11])
    assert everything.phrases == [names[i] for i in everything.pred_classes]
    monkeypatch.setattr(predictor.model, "passes_at_once", 2)
    assert_same(predictor.ask(names)(image())["instances"], everything)
    assert_same(predictor(image(), ". ".join(names))["instances"], everything)


def test_negatives_may_win_a_box_and_are_left_out(predictor):
    both = predictor(image(), ["cat", "dog"])["instances"]
    assert len(set(both.phrases)) == 2, "a test of nothing"
    asked = predictor.ask(["cat"], negatives=["dog"])
    kept = both[both.pred_classes == 0]
    assert_same(asked(image())["instances"], kept)
    assert asked.vocabulary.names == ("cat", "dog")
    assert len(predictor(image(), ["cat"])["instances"]) > len(kept)
    many = predictor.ask(["a red", "cat", "a bus"], negatives=["dog"])
    assert len(many.request.passes) == 2  # the negative stands in both
    assert not set(many(image())["instances"].pred_classes.tolist()) & {3}


def test_negatives_of_many_passes_take_no_room_from_what_is_looked_for(predictor):
    names = [" ".join(words) for words in product(("a", "two"), ("red", "bus"), ("cat", "red"))]
    asked = predictor.ask(names, negatives=["dog"])
    assert len(asked.request.passes) == len(names)
    parts = [predictor.ask([name], negatives=["dog"]) for name in names]
    scores = torch.cat([part(image())["instances"].scores for part in parts])
    assert 8 < len(scores) < 8 * 9 - 11, "a test of nothing: too few negatives, or no others"
    expected = scores.sort(descending=True)[0][:11]
    torch.testing.assert_close(asked(image())["instances"].scores, expected)


def test_several_names_a_box_and_nms_are_options(files):
    several = load(files, one_per_query=False)(image(), "a red cat. two dog.")["instances"]
    assert len(several) == 11  # as many as the config says, of 9 queries
    strict = load(files, nms_threshold=0.0)(image(), "a red cat. two dog.")["instances"]
    iou = [
        (min(a[2], b[2]) - max(a[0], b[0]) > 0) and (min(a[3], b[3]) - max(a[1], b[1]) > 0)
        for i, a in enumerate(strict.pred_boxes.tensor.tolist())
        for b in strict.pred_boxes.tensor.tolist()[:i]
    ]
    assert 0 < len(strict) < 9 and not any(iou)


def test_nms_comes_before_negatives_are_left_out():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    found = Instances((40, 40), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.8, 0.7]))
    found.pred_classes = torch.tensor([1, 0, 0])
    result = labelled({"instances": found}, ["cat", "dog"], dropped=[1], nms_threshold=0.8)
    assert result["instances"].scores.tolist() == pytest.approx([0.7])
    assert result["instances"].phrases == ["cat"]


def test_phrases_are_taken_as_the_tensors_beside_them(predictor):
    found = predictor(image(), "a red cat. two dog.")["instances"]
    names = np.array(found.phrases)
    keep = found.scores > found.scores.median()
    assert found[keep].phrases == names[keep.numpy()].tolist()
    order = torch.tensor([3, 0, 3])
    assert found[order].phrases == names[[3, 0, 3]].tolist()
    assert found[2:4].phrases == names[2:4].tolist() and found.phrases[1] == names[1]
    assert Instances.cat([found[:1], found[1:]]).phrases == found.phrases
    assert isinstance(pickle.loads(pickle.dumps(found.phrases)), PhraseList)


def test_detectron2s_own_predictor_takes_the_prompt_of_the_cfg(files):
    config, weights = files
    names = ["a red cat", "two dog", "a red bus", "dog"]
    cfg = get_predictor_cfg(config, weights=weights, device="cpu", prompt=names)
    plain, own = DefaultPredictor(cfg), TextPredictor(cfg, one_per_query=False)
    assert plain.metadata.thing_classes == own.metadata.thing_classes == names
    found, expected = plain(image())["instances"], own(image())["instances"]
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    asked = own.ask(names)(image())["instances"]
    assert_same(asked, expected)
    caption = get_predictor_cfg(config, weights=weights, device="cpu", prompt="a red cat. two dog")
    assert DefaultPredictor(caption).metadata.thing_classes == ["a red cat", "two dog"]


def test_names_of_a_cfg_are_texts_whatever_they_look_like(files):
    config, weights = files
    for name in ("1e3", "null", "${x}", "a: b", "\\${y}", "it's 😀", "st. bernard", "{cat"):
        cfg = get_predictor_cfg(config, weights=weights, device="cpu", prompt=[name])
        assert DefaultPredictor(cfg).metadata.thing_classes == [name]
        assert set(TextPredictor(cfg)(image())["instances"].phrases) == {name}


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "a prompt needs words between its separators"),
        ([], "expected a list of names"),
        (["cat", "Cat"], "'Cat' and 'cat' are the same to the model"),
        (["cat", ["dog", "bus"]], r"caption or names .* got \['cat', \['dog', 'bus'\]\]"),
        (TextPrompt("a cat."), r"caption or names .* got TextPrompt"),
        (5, "caption or names .* got 5"),
    ],
)
def test_a_cfg_takes_no_other_prompts(files, prompt, message):
    config, weights = files
    with pytest.raises(ValueError, match=message):
        get_predictor_cfg(config, weights=weights, device="cpu", prompt=prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "a prompt needs words between its separators"),
        (" . ? ", "a prompt needs words between its separators"),
        ([], "expected a list of names"),
        (["cat", ""], "a name needs words, got ''"),
        (["cat", "Cat"], "'Cat' and 'cat' are the same to the model"),
        (["a red cat dog two bus a red cat"], "has 10 tokens, a prompt holds 9"),
    ],
)
def test_prompts_that_ask_for_nothing_clear_are_refused(predictor, prompt, message):
    with pytest.raises(ValueError, match=message):
        predictor(image(), prompt)


def test_a_file_of_names_has_one_per_line_with_synonyms(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcat\r\n\r\nsofa | couch\r\nred ball\r\n".encode())
    assert read_names(path) == ["cat", ["sofa", "couch"], "red ball"]
    for line in ("sofa|", "|", "sofa||couch"):
        path.write_text(f"cat\n{line}\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"names.txt, line 2: .* has an empty name beside"):
            read_names(path)
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no names"):
        read_names(path)


def test_what_else_is_wrong_is_said(files, predictor, caplog):
    with pytest.raises(ValueError, match="say what to look for"):
        predictor(image())
    with pytest.raises(TypeError, match="expected a caption, a TextPrompt or a list of names"):
        predictor(image(), 7)
    with pytest.raises(ValueError, match="2 images need a prompt each, got"):
        predictor.batch([image(), image()], ["a cat."])
    with pytest.raises(ValueError, match="2 images need a prompt each, got 'a cat.'"):
        predictor.batch([image(), image()], "a cat.")
    with pytest.raises(ValueError, match="1 images need a prompt each, got TextPrompt"):
        predictor.batch([image()], TextPrompt("a cat."))
    with pytest.raises(ValueError, match="takes no negatives"):
        predictor.ask(TextPrompt("a cat."), negatives=["dog"])
    with pytest.raises(ValueError, match="a prompt holds 0 next to the phrases of every prompt"):
        predictor.ask(["cat"], negatives=["a red cat two", "a red dog bus"])
    predictor(image(), ["cat", "猫"])
    assert "no word of '猫'" in caplog.text


def test_a_model_that_reads_no_words_is_refused():
    overrides = ["vocabulary._target_=cqdino_d2.structures.random_vocabulary"]
    options = {"weights": "", "device": "cpu", "overrides": overrides}
    config = "configs/emojidet/tiny_tree.py"
    with pytest.raises(ValueError, match="reads no words: got the prompt 'a cat.'"):
        get_predictor_cfg(config, prompt="a cat.", **options)
