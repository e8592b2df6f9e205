import gzip
import json
import pickle

import pytest

from cqdino_d2.annotations import load_odvg_annotations, load_odvg_texts
from cqdino_d2.annotations.label_maps import read_label_map
from cqdino_d2.annotations.region_phrases import cuts_words, region_spans

from ..annotation_sets import write_json
from ..odvg_sets import (
    NAMES,
    SIZE,
    detection_line,
    detection_lines,
    grounding_line,
    grounding_lines,
    region,
    write_lines,
    write_odvg,
)


@pytest.fixture
def folder(tmp_path):
    return write_odvg(tmp_path)


def detection(folder, **options):
    return load_odvg_annotations(folder / "detection.jsonl", folder / "label_map.json", **options)


def test_detection_lines(folder, caplog):
    found = detection(folder)
    assert found.image_ids().tolist() == [1, 2, 3, 4, 5]  # the lines
    assert [found.text("file_name", row) for row in (0, 4)] == ["a.png", "e.png"]
    assert found.columns["sizes"].tolist() == [list(SIZE)] * 5
    assert [row["name"] for row in found.categories()] == NAMES
    assert found.columns["box_offsets"].tolist() == [0, 1, 1, 1, 4, 5]
    assert found.columns["vocab_ids"].tolist() == [2, 3, 4, 3, 0]
    assert found.columns["boxes_xywh"][:3].tolist() == [
        [1, 2, 29, 38],
        [5, 5, 15, 15],
        [70, 50, 10, 10],
    ]
    assert found.image_list("neg_category_ids")[4].tolist() == [1, 3]
    assert found.image_list("neg_category_ids")[0].tolist() == []
    assert found.facts["events"] == {
        "zero or negative size": 1,
        "outside the image": 1,
        "clipped": 1,
    }
    assert found.facts["first_lines"] == {
        "zero or negative size": 1,
        "outside the image": 1,
        "clipped": 4,
    }
    assert "1 boxes dropped: outside the image (the first: line 1)" in caplog.text


def test_grounding_lines(folder, caplog):
    texts = load_odvg_texts(folder / "grounding.jsonl")
    assert list(texts.image_ids) == [1, 2, 3, 4] and len(texts) == 4
    assert texts.captions[1] == " Caterpillar and Cat" and texts.captions[-1] == "two big, old dogs"
    assert list(texts.phrases) == [
        (((0, 5),),),  # the other one's box is outside
        (((17, 20),),),  # not the beginning of another word
        (),
        (((0, 3), (13, 17)), ((4, 7),)),
    ]
    assert texts.box_offsets.tolist() == [0, 2, 3, 3, 5]
    assert texts.box_phrases.tolist() == [0, 0, 0, 0, 1]
    assert texts.boxes_xywh[:3].tolist() == [[1, 2, 29, 38], [5, 5, 15, 15], [0, 0, 80, 9]]
    assert texts.facts["events"] == {"outside the image": 1, "clipped": 1}
    assert "clipped (the first: line 2)" in caplog.text
    assert texts.num_things().tolist() == [1, 1, 1, 2]


def test_boxes_under_a_pixel_and_phrases_without_a_box_are_left_out(folder):
    """As recorded of mmdetection 3.3: what has no box is not even looked at."""
    first = grounding_line(
        "a.png",
        "a man on the bench",
        region([[1, 2, 30, 40], [5, 5, 20, 20]], "a man", (0, 5)),
        region([3, 3, 3.2, 9], "x", (6, 8)),
        region([2, 2, 50, 50], "the bench", (9, 18)),
        region([], "y"),
    )
    texts = load_odvg_texts(write_lines(folder / "grounding.jsonl", [first]))
    assert texts.phrases[0] == (((0, 5),), ((9, 18),))
    assert texts.box_phrases.tolist() == [0, 0, 1]
    assert texts.facts["events"] == {"smaller than a pixel": 1}
    line = detection_line("a.png", [(2, 1, 2, 30, 40), (1, 10, 10, 10.5, 40), (0, -5, -5, 20, 20)])
    write_lines(folder / "detection.jsonl", [line])
    found = detection(folder)
    assert found.columns["vocab_ids"].tolist() == [2, 0]
    assert found.facts["events"] == {"smaller than a pixel": 1, "clipped": 1}
    assert found.facts["annotations"] == 3


def test_columns_are_kept_until_file_or_label_map_change(folder):
    detection(folder), load_odvg_texts(folder / "grounding.jsonl")
    caches = [folder / f"{name}.jsonl.columns" for name in ("detection", "grounding")]
    before = [path.read_bytes() for path in caches]
    again, texts = detection(folder), load_odvg_texts(folder / "grounding.jsonl")
    assert [path.read_bytes() for path in caches] == before
    assert again.cache_file == caches[0] and texts.cache_file == caches[1]
    other = pickle.loads(pickle.dumps(texts))
    assert list(other.captions) == list(texts.captions) and len(pickle.dumps(texts)) < 500
    for line in (lines := detection_lines()):
        for instance in line.get("detection", {}).get("instances", ()):
            del instance["category"]
    write_lines(folder / "detection.jsonl", lines)
    assert [row["name"] for row in detection(folder).categories()] == NAMES
    write_json(folder / "label_map.json", ["one", "two", "three", "four", "five"])
    assert [row["name"] for row in detection(folder).categories()][0] == "one"
    write_lines(folder / "grounding.jsonl", grounding_lines()[1:])
    assert load_odvg_texts(folder / "grounding.jsonl").captions[0] == " Caterpillar and Cat"


def test_the_same_without_a_cache(folder):
    texts = load_odvg_texts(folder / "grounding.jsonl", keep=False)
    assert texts.cache_file is None and not list(folder.glob("*.columns"))
    assert list(pickle.loads(pickle.dumps(texts)).phrases) == list(texts.phrases)
    assert len(detection(folder, keep=False)) == 5


def test_a_damaged_cache_is_made_anew(folder, caplog):
    load_odvg_texts(folder / "grounding.jsonl")
    cache = folder / "grounding.jsonl.columns"
    cache.write_bytes(cache.read_bytes()[:-70])
    assert len(load_odvg_texts(folder / "grounding.jsonl")) == 4
    assert "it is rebuilt" in caplog.text


def test_spellings(folder):
    lines = [json.dumps(line) for line in detection_lines()[:2]]
    lines[0] = lines[0].replace('"label": 2', '"label": "2"').replace("90", "NaN")
    path = folder / "detection.jsonl"
    path.write_bytes(gzip.compress(("\ufeff" + "\n\n".join(lines) + "\n \n").encode()))
    found = detection(folder)
    assert found.image_ids().tolist() == [1, 3] and found.facts["events"]["not finite"] == 1


def cut(lines, count):
    return "".join(json.dumps(line) + "\n" for line in lines)[:-count]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (cut(detection_lines(), 9), r"line 5: is not valid JSON \(cut short\?\)"),
        ([{"height": 3}], "line 1: is no line of ODVG: .*missing required field `filename`"),
        ([detection_line("", [])], "line 1: has an empty filename"),
        ("\n[1]\n", "line 2: is no line of ODVG"),
        ("", "has no line"),
        (grounding_lines()[:1], "line 1: is a grounding line, and the set has a label map"),
        (
            [detection_line("a.png", []), detection_line("b.png", [(1, 0, 0, 5)])],
            r"line 2: has the bbox \[0.0, 0.0, 5.0\], expected four numbers",
        ),
        (
            [{"filename": "a", "detection": {"instances": [{"bbox": [0, 0, 1, 1], "label": 5}]}}],
            r"line 1: has the label 5, the label map has 0\.\.4",
        ),
        (
            [{"filename": "a", "detection": {"instances": [{"bbox": [0, 0, 1, 1], "label": "x"}]}}],
            "line 1: has the label 'x'",
        ),
        (
            [
                {"filename": "a", "detection": {"instances": [{"bbox": [0, 0, 1, 1], "label": 1,
                                                              "category": "cat"}]}}
            ] * 3,
            "line 1: has the label 1 with the category 'cat', in the label map it is 'dog'.*"
            r"\(2 more problems",
        ),
    ],
)  # fmt: skip
def test_wrong_detection_lines_are_named(folder, lines, message):
    path = folder / "detection.jsonl"
    if isinstance(lines, str):
        path.write_text(lines)
    else:
        write_lines(path, lines)
    with pytest.raises(ValueError, match=message) as caught:
        detection(folder)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (detection_lines()[0], "line 3: is no grounding line: labelled boxes need a label map"),
        ({"filename": "a"}, "line 3: is no grounding line"),
        (grounding_line("a", " . "), r"line 3: has the caption ' \. ', expected words"),
        (
            grounding_line("a", "a man", region([0, 0, 5, 5], "a dog", (0, 5))),
            r"region 0 has the phrase 'a dog', but its tokens_positive \[\[0, 5\]\] say 'a man', "
            "and the caption does not say it anywhere",
        ),
        (
            grounding_line("a", " a man sat", region([0, 0, 5, 5], "a man", (0, 5))),
            r"say ' a ma'; it stands \+1 characters from there: the spans are shifted",
        ),
        (
            grounding_line("a", "a man and a dog", region([0, 0, 5, 5], "a dog", (0, 5))),
            r"say 'a man'; it stands at \[10, 15\]",
        ),
        (
            grounding_line("a", "a caterpillar", region([0, 0, 5, 5], "cat")),
            "region 0 has the phrase 'cat', which its caption does not say",
        ),
        (
            grounding_line("a", "a man", region([0, 0, 5, 5], "a man", (0, 6))),
            r"has the span \[0, 6\], expected .* caption of 5 characters",
        ),
        (grounding_line("a", "a man", region([0, 0, 5, 5], "", (0, 5))), "has the phrase ''"),
        (grounding_line("a", "a man", region([0, 0, 5, 5], None)), "neither a phrase nor"),
        (
            grounding_line("a", "a - man", region([0, 0, 5, 5], None, (1, 2))),
            "where its caption has no word",
        ),
        (
            grounding_line("a", "a man", {"bbox": [0, 0, 1, 1], "tokens_positive": []}),
            "has empty tokens_positive",
        ),
        (
            grounding_line("a", "a man", region([[0, 0, 5, 5], [1, 2, 3]], "a man", (0, 5))),
            r"region 0 has the bbox \[1, 2, 3\], expected four numbers",
        ),
    ],
)
def test_wrong_grounding_lines_are_named(folder, line, message):
    path = write_lines(folder / "grounding.jsonl", [*grounding_lines()[:2], line])
    with pytest.raises(ValueError, match=message) as caught:
        load_odvg_texts(path)
    assert f"{path}, line 3: " in str(caught.value) and "\n" not in str(caught.value)


def test_phrases_that_begin_or_end_in_a_word_are_told(folder, caplog):
    line = grounding_line("a", "hotdogs here", region([0, 0, 5, 5], "dog", (3, 6)))
    texts = load_odvg_texts(write_lines(folder / "grounding.jsonl", [line]))
    assert texts.facts["cut_words"] == [1, 1]
    assert "1 phrases begin or end inside a word (the first: line 1)" in caplog.text
    assert not cuts_words(((0, 5), (6, 9)), "a man in")
    assert not cuts_words(((2, 5),), "a man's hat")


def test_a_phrase_says_what_its_spans_say_whatever_the_spelling():
    caption = "The  Man's red-hat"
    assert region_spans("the man", [0, 8], caption) == ((0, 8),)
    assert region_spans("red hat", None, "a RED \n hat.") == ((2, 11),)
    assert region_spans(None, [[11, 14], [5, 8]], caption) == ((5, 8), (11, 14))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": "cat", "2": "dog"}, r"2 labels must be 0\.\.1, without gaps; missing: \[1\]"),
        ({"1": "cat", "2": "dog"}, r"missing: \[0\], beyond: \[2\]"),
        ({"0": "hot dog", "1": "cat", "2": "Hot_Dog"}, r"labels 0 \('hot dog'\) and 2 \('Hot_Dog"),
        ({"0": "cat", "1": " . "}, r"label 1 has the name ' \. ', expected words"),
        (["cat", None], "label 1 has the name None"),
        ({"cat": 0}, r"whole numbers from 0 on, got \['cat'\]"),
        ({}, "is no label map"),
        ("cat", "is no label map"),
    ],
)
def test_wrong_label_maps(folder, content, message):
    path = write_json(folder / "label_map.json", content)
    with pytest.raises(ValueError, match=message) as caught:
        read_label_map(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"label_map\.json; expected layout: ROOT/x"):
        detection(tmp_path, layout="ROOT/x")
    with pytest.raises(FileNotFoundError, match=r"grounding\.jsonl"):
        load_odvg_texts(tmp_path / "grounding.jsonl")
