"""What the models of a server answer, and what is kept of it."""

import dataclasses
import re

import pytest
from PIL import Image

from cqdino_d2.prediction.loading import load_predictor
from cqdino_d2.serving.limits import SharedLimits
from cqdino_d2.serving.models import GONE, Looks, Models, model_names
from tests.prediction.test_category_predictor import load
from tests.prompted import save_prompted


@pytest.fixture(scope="module")
def models(weights):
    return Models({"tiny": load(weights)}, limits=SharedLimits(pixels=6000))


def test_a_look_is_shown_in_several_ways(models, picture):
    look = models.look(str(picture), "tiny", 8, "", True)
    assert look.offered == 40 and look.path == picture
    drawn, summary, boxes, selected = models.show(look, 0.0, 4)
    assert drawn.shape == (640, 800, 3)
    assert "<b>160 boxes</b> of score 0.00" in summary and "8 selected of 40" in summary
    assert boxes.count("<tr>") == 161 and selected.count('class="fill"') == 8
    rolled = models.show(look, 0.0, 1)[2]
    assert set(re.findall(r"</span>(category \d+)</td>", rolled)) == {"category 0"}
    nothing = models.show(look, 1.0, 4)
    assert "<b>0 boxes</b>" in nothing[1] and "Try a lower confidence threshold" in nothing[2]
    assert models.show(None, 0.5, 1) == (None, "", "", "")


@pytest.fixture(scope="module")
def readers(tmp_path_factory, models):
    config, weights = save_prompted(tmp_path_factory.mktemp("prompted"), max_tokens=11)
    reader = load_predictor(config, weights, device="cpu")
    return Models({"words": reader, **models.predictors}, limits=SharedLimits(pixels=6000))


def test_a_model_that_reads_words_is_told_what_to_look_for(readers, picture):
    assert readers.reads_words("words") and not readers.reads_words("tiny")
    assert readers.ranges("words") == (1, 1, 1)
    look = readers.look(picture, "words", 1, "a red cat. two dog", True)
    assert look.offered is None and look.num_bytes > 0
    drawn, summary, boxes, selected = readers.show(look, 0.0, 1)
    assert drawn.shape == (640, 800, 3) and selected == ""
    assert "<b>9 boxes</b> of score 0.00 or more, among 2 phrases" in summary
    assert set(re.findall(r"</span>([^<]*)</td>", boxes)) <= {"a red cat", "two dog"}
    names = readers.look(picture, "words", 1, "a red cat\ntwo dog;bus", True)
    assert names.view.vocabulary.names == ("a red cat", "two dog", "bus")
    assert readers.show(look, 0.0, 1)[1] == summary  # what was asked since then changes nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (" \n", "Say what to look for"),
        (" . ", "a prompt needs words"),
        ("cat;cat", "are the same to the model"),
        ("cat " * 501, "These are 2,004 characters; at most 2,000"),
    ],
)
def test_what_says_nothing_to_look_for_is_refused(readers, picture, words, message):
    with pytest.raises(ValueError, match=message):
        readers.look(picture, "words", 1, words, True)


def test_words_restrict_to_names_or_branches(models, picture):
    names = models.look(str(picture), "tiny", 40, "category 2; Category 37\n\n", False)
    assert sorted(names.result["selected_vocab_ids"].tolist()) == [2, 37]
    branch = models.look(str(picture), "tiny", 3, " category_2 ", True)
    assert branch.offered == 8 and len(branch.result["selected_vocab_ids"]) == 3


def test_users_errors_are_said_without_paths(models, picture, tmp_path):
    with pytest.raises(ValueError, match="no category 'categry 2': did you mean 'category 2"):
        models.look(picture, "tiny", 8, "categry 2", True)
    (tmp_path / "text.png").write_text("no image")
    for unreadable in (tmp_path / "text.png", tmp_path / "gone.png"):
        with pytest.raises(ValueError, match=r"^This file cannot be read as an image\.$"):
            models.look(unreadable, "tiny", 8, "", True)
    Image.new("1", (6001, 1)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"6001 x 1 pixels; at most 0\.006 million"):
        models.look(tmp_path / "large.png", "tiny", 8, "", True)
    with pytest.raises(ValueError, match="no such model"):
        models.look(picture, "/etc/passwd", 8, "", True)


def test_names_of_categories_are_no_markup(weights, picture):
    predictor = load(weights)
    names = tuple(f"<script>{i}</script>" for i in range(40))
    predictor.vocabulary = dataclasses.replace(predictor.vocabulary, names=names)
    models = Models({"tiny": predictor}, limits=SharedLimits(pixels=6000))
    shown = models.show(models.look(str(picture), "tiny", 8, "", True), 0.0, 4)
    assert "<script" not in "".join(shown[1:])
    assert "&lt;script&gt;" in shown[2] and "&lt;script&gt;" in shown[3]


def test_a_deleted_upload_is_said_to_be_gone(models, picture):
    look = models.look(picture, "tiny", 8, "", True)
    picture.unlink()
    with pytest.raises(ValueError, match="not kept here any more"):
        models.show(look, 0.0, 4)


def test_a_large_image_is_drawn_smaller(weights, tmp_path):
    Image.new("RGB", (4100, 60), "grey").save(tmp_path / "wide.png")
    models = Models({"tiny": load(weights)}, limits=SharedLimits(pixels=10**6))
    look = models.look(tmp_path / "wide.png", "tiny", 8, "", True)
    assert models.show(look, 0.0, 4)[0].shape == (30, 2048, 3)


def test_memory_does_not_grow_with_pixels_or_sessions(models, weights, tmp_path):
    """Fifty sessions look at an image of 16 megapixels that is a small file."""
    Image.new("1", (4000, 4000)).save(tmp_path / "large.png")
    many = Models({"tiny": load(weights)}, limits=SharedLimits(pixels=16_000_000))
    look = many.look(tmp_path / "large.png", "tiny", 8, "", True)
    assert look.num_bytes < 100_000
    looks = Looks(most_sessions=10, most_bytes=3 * look.num_bytes)
    for session in range(50):
        looks.keep(f"session {session}", look)
        looks.keep(f"session {session}", look)  # replaces its first
    assert looks.num_bytes == 3 * look.num_bytes and len(looks) == 3
    assert looks.of("session 49") is look
    with pytest.raises(ValueError, match=GONE):
        looks.of("session 46")


def test_the_least_recently_used_look_goes_first(models, picture):
    look = models.look(picture, "tiny", 8, "", True)
    looks = Looks(most_sessions=2, most_bytes=10**9)
    looks.keep("a", look)
    looks.keep("b", None)
    assert looks.of("a") is look and looks.of("b") is None
    assert looks.of("a") is look
    looks.keep("c", look)
    assert len(looks) == 2 and looks.of("a") is look
    with pytest.raises(ValueError, match=GONE):
        looks.of("b")


def test_names_of_models():
    assert model_names(["c/a.py"], ["x/m.pth"]) == ["a"]
    names = model_names(["c/a.py"] * 2, ["x/m.pth", "y/m.pth"])
    assert names == ["a: x/m.pth", "a: y/m.pth"]
    with pytest.raises(ValueError, match="given twice"):
        model_names(["a.py"] * 2, ["m.pth"] * 2)
