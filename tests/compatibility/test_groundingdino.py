"""The calls of the official package, on a tiny model."""

import numpy as np
import pytest
import torch
from PIL import Image

from cqdino_d2.compatibility import groundingdino
from cqdino_d2.text import PromptTokenizer
from cqdino_d2.text.token_phrases import between_separators, token_phrase
from tests.prompted import save_prompted


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    files = save_prompted(tmp_path_factory.mktemp("prompted"), max_tokens=11)
    return groundingdino.Model(*files, device="cpu")


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("images") / "image.png"
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_is_resized_and_normalised(image_file):
    source, pixels = groundingdino.load_image(image_file)
    assert source.shape == (30, 50, 3) and pixels.shape == (3, 800, 1333)
    colour = source.reshape(-1, 3).mean(axis=0) / 255
    expected = (colour - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    torch.testing.assert_close(
        pixels.mean(dim=(1, 2)), torch.tensor(expected, dtype=torch.float32), atol=0.02, rtol=0
    )


@pytest.mark.parametrize("caption", ["", " . "])
def test_a_caption_without_words_is_refused(model, caption):
    with pytest.raises(ValueError, match="has no word to look for"):
        groundingdino.predict(model.model, torch.zeros(3, 64, 64), caption, 0.3, 0.3)


def test_it_predicts_what_the_predictor_does_in_the_official_form(model, image_file):
    _, pixels = groundingdino.load_image(image_file)
    pixels = torch.nn.functional.interpolate(pixels[None], (64, 96))[0]
    caption = "A red cat . two dog"
    boxes, scores, phrases = groundingdino.predict(model.model, pixels, caption, 0.0, 2.0)
    assert boxes.shape == (9, 4) and len(scores) == 9 and phrases == [""] * 9
    assert 0 < boxes.min() and boxes.max() < 1
    few = groundingdino.predict(model.model, pixels, caption, scores.median().item(), 0.0)
    kept = scores > scores.median()
    torch.testing.assert_close(few[0], boxes[kept])
    torch.testing.assert_close(few[1], scores[kept])
    assert set(few[2]) == {"a red cat two dog [SEP]"}  # all tokens; nothing is told apart
    _, _, alone = groundingdino.predict(
        model.model, pixels, caption, 0.0, 0.0, remove_combined=True
    )
    assert set(alone) <= {"a red cat", "two dog", ""} and set(alone) != {""}


def test_phrases_are_made_of_tokens(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "a", "cat", "dr", "##ier", "hair"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = PromptTokenizer(path)
    encoding = tokenizer.encode("a cat. hair drier.")  # CLS a cat . hair dr ##ier . SEP
    assert token_phrase(tokenizer, encoding, [0, 1, 2]) == "a cat"
    assert token_phrase(tokenizer, encoding, [2, 3, 4]) == "cat hair"
    assert token_phrase(tokenizer, encoding, [4, 6]) == "hairier"
    assert token_phrase(tokenizer, encoding, [6]) == "##ier"
    assert token_phrase(tokenizer, encoding, []) == ""
    assert between_separators(encoding, 2) == (0, 3)
    assert between_separators(encoding, 5) == (3, 7)
    assert token_phrase(tokenizer, encoding, [2, 4, 5, 6], (3, 7)) == "hair drier"
    assert token_phrase(tokenizer, encoding, [1, 2], between_separators(encoding, 0)) == ""


def test_classes_are_places_in_the_list_whatever_their_case(model, image_file):
    image = np.asarray(Image.open(image_file))[:, :, ::-1]
    classes = ["Cat", "dog", "a red bus", "two"]  # two passes of eleven tokens
    found = model.predict_with_classes(image, classes, 0.0, 0.0)
    assert len(found) == 18 and found.xyxy.shape == (18, 4)
    assert set(found.class_id.tolist()) <= {0, 1, 2, 3} and len(set(found.class_id.tolist())) > 1
    assert (model.predict_with_classes(image, classes, 0.0, 2.0).class_id == -1).all()
    assert len(model.predict_with_classes(image, classes, 2.0, 0.0)) == 0
    caption, phrases = model.predict_with_caption(image, "cat. dog", 0.0, 2.0)
    one = model.predict_with_classes(image, ["cat", "dog"], 0.0, 0.0)
    np.testing.assert_allclose(caption.xyxy, one.xyxy, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(caption.confidence, one.confidence, rtol=1e-4)
    assert len(phrases) == 9 and caption.class_id is None
    assert caption.xyxy[:, 0::2].max() <= 60 and caption.xyxy[:, 1::2].max() <= 40


def test_what_is_found_is_drawn(image_file):
    source, _ = groundingdino.load_image(image_file)
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.6], [0.2, 0.3, 0.2, 0.2]])
    drawn = groundingdino.annotate(source, boxes, torch.tensor([0.9, 0.5]), ["cat", "dog"])
    assert drawn.shape == source.shape and drawn.dtype == np.uint8
    assert (drawn[:, :, ::-1] != source).any()
    empty = groundingdino.annotate(source, torch.zeros(0, 4), torch.zeros(0), [])
    np.testing.assert_array_equal(empty[:, :, ::-1], source)


def test_captions_are_as_the_official_code_makes_them():
    assert groundingdino.preprocess_caption(" Red Cat . ") == "red cat ."
    assert groundingdino.preprocess_caption("red cat ?") == "red cat ?."
