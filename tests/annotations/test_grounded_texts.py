import gzip
import json

import pytest

from cqdino_d2.annotations import read_grounded_texts

from ..annotation_sets import write_json
from ..text_sets import expressions, generalised, sentences, target, text_row


def read(folder, content, kind):
    return read_grounded_texts(write_json(folder / "texts.json", content), kind)


def test_expressions(tmp_path):
    texts = read(tmp_path, expressions(), "refexp")
    assert texts.image_ids == (10, 11, 12, 13, 14)
    assert texts.file_names[4] == "COCO_train2014_1.png"
    assert texts.captions[1] == "A dog, sleeping. "
    assert texts.dataset_names == ("refcoco",) * 2 + ("refcocog",) * 3
    assert texts.phrases == ((),) * 5
    assert texts.sizes.tolist() == [[60, 80]] * 5
    assert texts.box_offsets.tolist() == [0, 1, 2, 3, 4, 5]
    assert texts.boxes_xywh[3].tolist() == [30, 5, 20, 20]
    assert texts.box_phrases.tolist() == [0] * 5
    assert texts.num_things().tolist() == [1] * 5


def test_an_expression_may_have_several_targets_or_none(tmp_path):
    texts = read(tmp_path, generalised(), "grefcoco")
    assert texts.image_ids == (3, 1, 2, 5)
    assert texts.box_offsets.tolist() == [0, 2, 3, 3, 3]
    assert texts.boxes_xywh[:, 0].tolist() == [0, 40, 30]


def test_a_box_belongs_to_the_phrase_of_its_spans_or_of_its_id(tmp_path):
    texts = read(tmp_path, sentences(), "flickr30k")
    assert texts.image_ids == (0, 2)  # the sentence without a phrase is left out
    assert texts.phrases == ((((0, 5),), ((11, 20),)), (((0, 3), (4, 8)), ((13, 19),)))
    assert texts.box_offsets.tolist() == [0, 2, 5]
    # the ids 9 and 77 are the phrases 0 and 1
    assert texts.box_phrases.tolist() == [0, 1, 1, 0, 0]
    assert texts.num_things().tolist() == [2, 2]


def test_phrases_that_boxes_alone_name(tmp_path):
    content = sentences()
    for row in content["images"]:
        del row["tokens_positive_eval"]
    for row, spans in enumerate(([[13, 19]], [[4, 8], [0, 3]], [[4, 8]]), start=2):
        content["annotations"][row]["tokens_positive"] = spans
    texts = read(tmp_path, content, "goldg")
    assert texts.image_ids == (0, 1, 2)
    first, none, last = texts.phrases
    assert first == (((0, 5),), ((11, 20),)) and none == ()
    assert last == (((0, 3), (4, 8)), ((4, 8),), ((13, 19),))
    assert texts.box_phrases.tolist() == [0, 1, 2, 0, 1]
    for spans, message in (
        (None, "annotation 3 has the tokens_positive None"),
        ([[0, 99]], "span"),
    ):
        content["annotations"][2]["tokens_positive"] = spans
        with pytest.raises(ValueError, match=message):
            read(tmp_path, content, "goldg")


def test_spelling_does_not_matter(tmp_path):
    content = sentences()
    for row in content["images"]:
        row["id"] = str(row["id"])
    content["annotations"][3]["phrase_ids"] = "9"
    content["annotations"][4]["phrase_ids"] = [9.0]
    path = tmp_path / "texts.json.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(content).encode()))
    texts = read_grounded_texts(path, "flickr30k")
    assert texts.image_ids == ("0", "2")
    assert texts.box_phrases.tolist() == [0, 1, 1, 0, 0]


def test_boxes_without_area_are_kept_with_a_warning(tmp_path, caplog):
    content = expressions()
    content["annotations"][0]["bbox"] = [3, 3, 0, 5]
    assert len(read(tmp_path, content, "refexp").boxes_xywh) == 5
    assert "1 boxes have no area" in caplog.text


def changed(content, table, row, **fields):
    content[table][row].update(fields)
    return content


def without(content, table, row, field=None):
    if field is None:
        del content[table][row]
    else:
        del content[table][row][field]
    return content


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("refexp", without(expressions(), "images", 2, "caption"), "image 12 has the caption None"),
        ("refexp", changed(expressions(), "images", 1, caption=" \n"), r"image 11 has the caption"),
        ("refexp", changed(expressions(), "images", 1, caption=7), "the caption 7, expected the t"),
        (
            "refexp",
            changed(expressions(), "images", 3, dataset_name="refclef"),
            "image 13 has the dataset_name 'refclef', expected one of refcoco, refcoco",
        ),
        ("refexp", without(expressions(), "images", 3, "dataset_name"), "the dataset_name None"),
        ("refexp", without(expressions(), "annotations", 1), "image 11 has 0 annotations, expect"),
        (
            "refexp",
            changed(expressions(), "annotations", 1, image_id=10),
            "image 10 has 2 annotations, expected one box",
        ),
        (
            "refexp",
            changed(expressions(), "annotations", 4, image_id=99),
            r"annotation 5 belongs to image 99, which is not listed \(1 such annotations; 5 are",
        ),
        ("refexp", without(expressions(), "images", 0, "file_name"), "has neither 'file_name'"),
        ("refexp", changed(expressions(), "images", 0, id=12), r"more than once.*\[12\]"),
        (
            "refexp",
            changed(expressions(), "annotations", 2, bbox=[1, 2, float("nan"), 4]),
            "annotation 3 has the bbox .*expected four finite numbers",
        ),
        ("refexp", changed(expressions(), "annotations", 2, bbox=[1, 2, 3]), "expected four finit"),
        ("refexp", without(expressions(), "annotations", 2, "bbox"), "annotation 3 has the bbox N"),
        ("refexp", {"images": [], "annotations": []}, "lists no images"),
        ("refexp", {"images": []}, "missing required field `annotations`"),
        ("refexp", [1], "is not in MDETR's form"),
        ("grefcoco", without(generalised(), "annotations", 3), "image 2 has no annotation, expect"),
        (
            "grefcoco",
            changed(generalised(), "annotations", 2, category_id=-1),
            r"image 3 has 1 annotations with the category -1 \(no target\) and 1 boxes",
        ),
        (
            "flickr30k",
            changed(sentences(), "images", 0, tokens_positive_eval=[[[0, 5]], [[11, 23]]]),
            r"image 0: phrase 1 has the span \[11, 23\], expected .* caption of 22 characters",
        ),
        (
            "flickr30k",
            changed(sentences(), "images", 0, tokens_positive_eval=[[[5, 5]]]),
            r"phrase 0 has the span \[5, 5\]",
        ),
        (
            "flickr30k",
            changed(sentences(), "images", 0, tokens_positive_eval=[[]]),
            r"image 0: phrase 0 is \[\], expected a list of spans",
        ),
        (
            "flickr30k",
            changed(sentences(), "images", 0, tokens_positive_eval=[[0, 5]]),
            "phrase 0 has the span 0, expected",
        ),
        (
            "flickr30k",
            without(sentences(), "images", 0, "tokens_positive_eval"),
            "image 0 has the tokens_positive_eval None, expected a list of spans",
        ),
        (
            "flickr30k",
            changed(sentences(), "annotations", 1, tokens_positive=[[11, 16]]),
            r"annotation 2 belongs to no phrase: its tokens_positive are \[\[11, 16\]\]",
        ),
        (  # a phrase without a box would shift the ids of the others
            "flickr30k",
            without(sentences(), "annotations", 2),
            r"annotation 4 belongs to no phrase.* its phrase_ids 9 \(of 1 in the text\)",
        ),
        (
            "flickr30k",
            {"images": [text_row(1, "a.png", "x", tokens_positive_eval=[])], "annotations": []},
            "none of its 1 sentences has a phrase",
        ),
        (
            "flickr30k",
            {
                "images": [text_row(1, "a.png", "x", tokens_positive_eval=[])],
                "annotations": [target(1, 1, [0, 0, 1, 1])],
            },
            "annotation 1 belongs to no phrase",
        ),
        ("phrases", {}, "texts are of the kinds refexp, grefcoco, flickr30k, goldg, got 'phrases'"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, kind, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, content, kind)
    assert "\n" not in str(caught.value)
    if kind != "phrases":
        assert str(tmp_path / "texts.json") in str(caught.value)


def test_a_missing_file_is_named_with_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"texts\.json; expected layout: ROOT/x"):
        read_grounded_texts(tmp_path / "texts.json", "refexp", "ROOT/x")
