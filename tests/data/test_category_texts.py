"""Names and descriptions of categories from annotation files and plain lists."""

import gzip
import json

import pytest

from cqdino_d2.data.category_texts import CategoryTexts

from ..annotation_sets import box_row, image_row, v3det_categories

CONTENT = json.dumps(
    {
        "images": [image_row(1, "a.png")],
        "annotations": [box_row(1, 1, 1, [0, 0, 5, 5])],
        "categories": v3det_categories(),
    }
)


@pytest.mark.parametrize("name", ["a.json", "VAL.JSON", "val.Json", "names.txt", "names"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n  "])
def test_annotations_are_known_by_their_content(tmp_path, name, start):
    (tmp_path / name).write_text(start + CONTENT, encoding="utf-8")
    texts = CategoryTexts.of_file(tmp_path / name)
    assert texts.ids == (1, 2, 3, 4)
    assert texts.names == ("dog", "animal", "dog", "watch")
    assert texts.descriptions[3] == "about watch"


def test_gzipped_annotations(tmp_path):
    (tmp_path / "A.JSON.GZ").write_bytes(gzip.compress(CONTENT.encode()))
    assert CategoryTexts.of_file(tmp_path / "A.JSON.GZ").ids == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "content",
    [
        "dog\r\n{odd} cat\r\n[1]x\r\n\r\n".encode("utf-8-sig"),
        b" dog \n{odd} cat\n[1]x",
    ],
)
def test_a_name_per_line(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content)
    texts = CategoryTexts.of_file(tmp_path / "names.txt")
    assert texts == CategoryTexts((1, 2, 3), ("dog", "{odd} cat", "[1]x"), ("", "", ""))


def test_only_line_ends_end_a_name(tmp_path):
    (tmp_path / "names.txt").write_text("a\u2028b\n\u0085c\x0cd\n", encoding="utf-8")
    assert CategoryTexts.of_file(tmp_path / "names.txt").ids == (1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dog\n\n\ncat\n", r"no name in the lines \[2, 3\]"),
        (b"\n \n", "has no names"),
        (b"[1, 2]", "names.txt"),
        (b'{"categories": []}', "names.txt"),
        ("dog".encode("utf-16"), "no text file in UTF-8"),
        ("dog".encode("utf-16-be"), "no text file in UTF-8"),
    ],
)
def test_files_without_names(tmp_path, content, message):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        CategoryTexts.of_file(tmp_path / "names.txt")
