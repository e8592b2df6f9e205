"""What is converted to ODVG reads as it did before."""

import io
import json
import tarfile

import numpy as np
import pytest
from convert_annotations import main

from cqdino_d2.annotations import load_odvg_texts, read_grounded_texts
from cqdino_d2.data import (
    dataset_vocabulary,
    register_coco_like,
    register_odvg,
    registered_records,
)

from ..annotation_sets import (
    box_row,
    clean_catalogs,  # noqa: F401
    image_row,
    v3det_root,  # noqa: F401
    write_json,
    write_picture,
)
from ..text_sets import expressions, generalised, sentences


def convert(form, source, output, *arguments):
    return main(["--form", form, "--input", str(source), "--output", str(output), *arguments])


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def lvis_like():
    """Ids with gaps, a crowd, names that read the same, boxes that are none, LVIS' lists."""
    lists = [([7, 4], [12]), ([], []), ([9, 4], [])]
    images = [
        image_row(3 * i, f"train/{i}.png", neg_category_ids=n, not_exhaustive_category_ids=e)
        for i, (n, e) in enumerate(lists)
    ]
    names = {4: "hot_dog", 7: "bow (tie)", 9: "Hot dog", 12: "zebra"}
    boxes = [
        box_row(1, 0, 12, [1.5, 2, 10.25, 5]),
        box_row(2, 0, 7, [20, 10, 30, 5]),  # partly outside
        box_row(3, 3, 9, [1, 1, 3, 3]),
        box_row(4, 3, 4, [2, 2, 0, 3]),
        box_row(5, 3, 12, [0, 0, 30, 20], iscrowd=1),
        box_row(6, 6, 4, [50, 50, 3, 3]),  # wholly outside
        box_row(7, 6, 4, [5, 5, 3, 3]),
    ]
    categories = [{"id": one, "name": name, "frequency": "f"} for one, name in names.items()]
    return {"images": images, "annotations": boxes, "categories": categories}


def test_boxes_with_categories(tmp_path, capsys):
    source = write_json(tmp_path / "in.json", lvis_like())
    for i in range(3):
        write_picture(tmp_path / f"train/{i}.png")
    target, labels = tmp_path / "out.jsonl", tmp_path / "labels.json"
    assert convert("coco", source, target, "--label-map", str(labels)) == 0
    said = capsys.readouterr().out
    assert "1 categories have a name that reads like another's: one label" in said
    assert "2 boxes are empty, outside their image or not finite" in said
    assert "1 crowd boxes are left out" in said and "3 lines, 4 boxes" in said
    assert json.loads(labels.read_text()) == {"0": "hot_dog", "1": "bow (tie)", "2": "zebra"}
    assert not list(tmp_path.glob("*.columns"))
    register_odvg("new", target, tmp_path, labels)
    register_coco_like("old", source, tmp_path, evaluator_type="lvis")
    label_of = {4: 0, 7: 1, 9: 0, 12: 2}
    ids = dataset_vocabulary("old").dataset_ids
    for new, old in zip(registered_records("new"), registered_records("old"), strict=True):
        assert {k: new[k] for k in ("file_name", "height", "width")} == {
            k: old[k] for k in ("file_name", "height", "width")
        }
        wanted = [
            (a["bbox"], label_of[ids[a["category_id"]]])
            for a in old["annotations"]
            if not a["iscrowd"]
        ]
        assert [(a["bbox"], a["category_id"]) for a in new["annotations"]] == wanted
    found = registered_records("new")
    assert [r["neg_category_ids"] for r in found] == [[0], [], []], "what is there is no negative"
    assert [r["not_exhaustive_category_ids"] for r in found] == [[2], [2], []]


def test_a_set_without_lists_and_crowds_has_plain_lines(tmp_path):
    content = lvis_like()
    for row in content["images"]:
        for field in ("neg_category_ids", "not_exhaustive_category_ids"):
            del row[field]
    content["annotations"] = content["annotations"][:2]
    source = write_json(tmp_path / "in.json", content)
    target = tmp_path / "out.jsonl"
    labels = ["--label-map", str(tmp_path / "labels.json"), "--name-parts", "1"]
    assert convert("coco", source, target, *labels) == 0
    first, *others = lines_of(target)
    assert first == {
        "filename": "0.png",
        "height": 20,
        "width": 30,
        "detection": {
            "instances": [
                {"bbox": [1.5, 2, 11.75, 7], "label": 2, "category": "zebra"},
                {"bbox": [20, 10, 30, 15], "label": 1, "category": "bow (tie)"},
            ]
        },
    }
    assert [line["detection"]["instances"] for line in others] == [[], []]


def test_v3det(v3det_root, tmp_path):  # noqa: F811
    source = v3det_root / "V3Det/annotations/v3det_2023_v1_train.json"
    labels = tmp_path / "labels.json"
    assert convert("coco", source, tmp_path / "out.jsonl", "--label-map", str(labels)) == 0
    assert json.loads(labels.read_text()) == {"0": "dog", "1": "animal", "2": "watch"}
    register_odvg("new", tmp_path / "out.jsonl", v3det_root / "V3Det", labels)
    found = registered_records("new")
    assert [[a["category_id"] for a in r["annotations"]] for r in found] == [[0, 1, 2], [], [], [0]]
    assert found[2]["not_exhaustive_category_ids"] == [0]


def boxes_of(texts):
    """(text, phrase, box) of each box, whatever the order within a text."""
    of_text = np.repeat(np.arange(len(texts)), np.diff(texts.box_offsets))
    rows = zip(of_text.tolist(), texts.box_phrases.tolist(), texts.boxes_xywh.tolist(), strict=True)
    return sorted(rows)


@pytest.mark.parametrize(
    ("form", "content"),
    [("refexp", expressions()), ("grefcoco", generalised()), ("flickr30k", sentences())],
)
def test_texts(tmp_path, form, content):
    source = write_json(tmp_path / "in.json", content)
    assert convert(form, source, tmp_path / "out.jsonl") == 0
    old, new = read_grounded_texts(source, form), load_odvg_texts(tmp_path / "out.jsonl")
    assert list(new.captions) == list(old.captions)
    assert list(new.file_names) == list(old.file_names)
    assert boxes_of(new) == boxes_of(old)
    for row, phrases in enumerate(old.phrases):
        if phrases:
            assert new.phrases[row] == phrases
        elif new.phrases[row]:
            ((first, last),) = new.phrases[row][0]
            caption = old.captions[row]
            assert caption[first:last] == caption.strip(" .?")


def test_phrases_named_by_boxes(tmp_path):
    content = sentences()
    del content["annotations"][2:]
    for row in content["images"]:
        del row["tokens_positive_eval"]
    source = write_json(tmp_path / "in.json", content)
    assert convert("goldg", source, tmp_path / "out.jsonl") == 0
    first, *others = lines_of(tmp_path / "out.jsonl")
    assert [r["phrase"] for r in first["grounding"]["regions"]] == ["A man", "a red hat"]
    assert first["grounding"]["regions"][0]["bbox"] == [[0, 0, 30, 50]]
    assert [line["grounding"]["regions"] for line in others] == [[], []]


def grit_object(key, caption="a wire hanger with a cover", **fields):
    return {
        "key": key,
        "caption": caption,
        "width": 200,
        "height": 100,
        "noun_chunks": [
            [21.0, 26, 0.1, 0.2, 0.5, 1.0, 0.7],
            [0, 13, 0.0, 0.0, 0.25, 0.5, 0.9],
            [0, 13, 0.5, 0.5, 1.0, 1.0005, 0.9],
        ],
        "ref_exps": [[0, 26, 0.1, 0.2, 0.5, 1.0, 0.7]],
        **fields,
    }


def write_grit(folder):
    """A folder with one object of each kind of file."""
    write_json(folder / "00/000.json", grit_object("000"))
    lines = [grit_object("7"), grit_object("8", caption=""), grit_object("9", status="failed")]
    (folder / "more.jsonl").write_text("\n".join(json.dumps(one) for one in lines))
    with tarfile.open(folder / "01.tar", "w") as tar:
        for name, text in (
            ("000.jpg", b"x"),
            ("./000.json", json.dumps(grit_object("1")).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return folder


def test_grit(tmp_path, capsys):
    folder = write_grit(tmp_path / "grit")
    assert convert("grit", folder, tmp_path / "out.jsonl") == 0
    assert "2 objects have no caption, no size or no image" in capsys.readouterr().out
    texts = load_odvg_texts(tmp_path / "out.jsonl")
    assert list(texts.file_names) == ["00/000.jpg", "01/000.jpg", "7.jpg"]
    assert texts.sizes.tolist() == [[100, 200]] * 3
    assert texts.phrases[0] == (((0, 13),), ((21, 26),))
    assert texts.boxes_xywh[:3].tolist() == [[0, 0, 50, 50], [100, 50, 100, 50], [20, 20, 80, 80]]
    assert convert("grit", folder, tmp_path / "out.jsonl", "--phrases", "ref_exps") == 0
    assert load_odvg_texts(tmp_path / "out.jsonl").phrases[2] == (((0, 26),),)


@pytest.mark.parametrize(
    "wrong",
    [
        [0, 99, 0, 0, 1, 1, 1],
        [5, 5, 0, 0, 1, 1, 1],
        [0.5, 5, 0, 0, 1, 1, 1],
        [0, 5, 0, 0, 10, 20, 1],
        [0, 5, 0.5, 0, 0.5, 1, 1],
        [1, 2, 0, 0, 1, 1, 1],
        [0, 5, 0, float("nan"), 1, 1, 1],
        [0, 5, 0, 0],
        "a wire",
    ],
)
def test_phrases_of_grit_that_cannot_be_used_are_counted_and_named(tmp_path, capsys, wrong):
    chunks = [wrong, [0, 6, 0, 0, 1, 1, 1]]
    source = write_json(tmp_path / "5.json", grit_object("5", noun_chunks=chunks))
    assert convert("grit", source, tmp_path / "out.jsonl") == 0
    assert f"1 noun_chunks cannot be used: left out; the first: {source}: " in (
        capsys.readouterr().out
    )
    assert load_odvg_texts(tmp_path / "out.jsonl").phrases[0] == (((0, 6),),)


def cut_tar(folder):
    path = write_grit(folder) / "01.tar"
    path.write_bytes(path.read_bytes()[:1300])
    return path


def unlisted(content):
    content["annotations"][0]["category_id"] = 99
    return content


def unnamed(content):
    content["categories"][0]["name"] = " . "
    return content


@pytest.mark.parametrize(
    ("form", "make", "message"),
    [
        ("coco", lambda f: f / "none.json", "no such file"),
        ("grit", lambda f: f / "none", "no such file or folder"),
        ("coco", lambda f: write_json(f / "a.json", unlisted(lvis_like())), "category id 99"),
        (
            "coco",
            lambda f: write_json(f / "a.json", unnamed(lvis_like())),
            "4 has the name",
        ),
        ("coco", lambda f: write_json(f / "a.json", {"images": []}), "is not in the COCO format"),
        ("refexp", lambda f: write_json(f / "a.json", sentences()), "dataset_name None"),
        ("grit", cut_tar, "is a damaged tar file"),
        ("grit", lambda f: write_json(f / "a.json", [1]), "is no JSON object"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path, capsys, form, make, message):
    labels = ["--label-map", str(tmp_path / "labels.json")] if form == "coco" else []
    assert convert(form, make(tmp_path), tmp_path / "out.jsonl", *labels) == 2
    error = capsys.readouterr().err
    assert error.startswith("convert_annotations: ") and message in error
    assert error.count("\n") == 1 and not (tmp_path / "out.jsonl").exists()


def test_the_command_line_is_checked(tmp_path, capsys):
    for arguments in (
        ["--form", "coco", "--input", "a", "--output", "b"],
        ["--form", "grit", "--input", "a", "--output", "b", "--label-map", "c"],
        ["--form", "grit", "--input", "a", "--output", "b", "--name-parts", "-1"],
        ["--form", "odvg", "--input", "a", "--output", "b"],
    ):
        with pytest.raises(SystemExit):
            main(arguments)
    path = write_json(tmp_path / "a.json", grit_object("1"))
    assert convert("grit", path, path) == 2
    assert "must be different files" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert convert("grit", empty, tmp_path / "out.jsonl") == 0
    assert "nothing was written" in capsys.readouterr().out
