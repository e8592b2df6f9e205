"""Which image of an annotation file a file is."""

import json
from pathlib import Path

import pytest

from cqdino_d2.visualization.media import Source, find_sources
from cqdino_d2.visualization.result_files import ImageIds, found_line, write_rows


def annotations(tmp_path, images, start=""):
    rows = [{"width": 9, "height": 9, **image} for image in images]
    (tmp_path / "gt.json").write_text(start + json.dumps({"images": rows}), encoding="utf-8")
    return tmp_path / "gt.json"


def ids_of(tmp_path, images, inputs, below="", start=""):
    """The ids of files given as (path below the input, ...), or the words of the refusal."""
    folder = tmp_path / below
    sources = [Source(folder / name, Path(name)) for name in inputs]
    ids = ImageIds(annotations(tmp_path, images, start), sources)
    found = []
    for source in sources:
        try:
            found.append(ids.of(source.path))
        except ValueError as error:
            found.append(str(error).split("gt.json ")[1])
    return found


VIDEOS = [{"file_name": f"video{i}/f0.png", "id": 11 * i} for i in (1, 2)]


def test_without_annotations_they_are_numbered():
    ids = ImageIds(None, [])
    assert [ids.of(Path(name)) for name in "abb"] == [1, 2, 3]


def test_frames_of_several_videos_are_told_apart(tmp_path):
    names = ["video2/f0.png", "video1/f0.png"]
    assert ids_of(tmp_path, VIDEOS, names) == [22, 11]
    assert ids_of(tmp_path, VIDEOS, ["f0.png"], below="video2") == [22]
    assert ids_of(tmp_path, VIDEOS, ["video1/f0.png"], below="some/other/place") == [11]


def test_a_name_that_several_images_have_is_refused(tmp_path):
    found = ids_of(tmp_path, VIDEOS, ["f0.png", "video3/f0.png"], below="else")
    assert found[0] == "has 2 images that it could be: ['video1/f0.png', 'video2/f0.png']"
    assert found[1] == "has no image video3/f0.png"
    twice = [{"file_name": "a.png", "id": 1}, {"file_name": "./a.png", "id": 2}]
    assert "has 2 images" in ids_of(tmp_path, twice, ["a.png"])[0]


def test_the_longest_name_that_fits_counts(tmp_path):
    names = ("f.png", "a/f.png", "b/f.png")
    images = [{"file_name": name, "id": i} for i, name in enumerate(names)]
    assert ids_of(tmp_path, images, ["a/f.png", "b/f.png", "f.png"]) == [1, 2, 0]
    found = ids_of(tmp_path, images, ["c/f.png", "f.png"])
    assert found == ["has the image f.png, which 2 of the files could be", 0]


def test_frames_of_two_videos_are_not_one_image(tmp_path):
    images = [{"file_name": "f0.png", "id": 5}]
    refused = "has the image f0.png, which 2 of the files could be"
    assert ids_of(tmp_path, images, ["video1/f0.png", "video2/f0.png"]) == [refused] * 2
    assert ids_of(tmp_path, images, ["video1/f0.png"]) == [5]


def test_a_flat_copy_is_found_once_and_said(tmp_path, caplog):
    images = [{"file_name": "train/deep/0.png", "id": 40}, {"file_name": "1.png", "id": 41}]
    assert ids_of(tmp_path, images, ["0.png", "1.png"], below="copy") == [40, 41]
    assert "1 files are taken for images of the same name in another folder" in caplog.text
    assert ids_of(tmp_path, images, ["deep/0.png"]) == [40]
    found = ids_of(tmp_path, images, ["x/../0.png", "train/deep/0.png"], below="y")
    assert found[1] == 40 and "has no image" in found[0]


def test_two_files_are_not_the_same_image(tmp_path):
    images = [{"file_name": "train/0.png", "id": 40}]
    folder = [
        Source(tmp_path / "a/0.png", Path("0.png")),
        Source(tmp_path / "b/0.png", Path("0.png")),
    ]
    ids = ImageIds(annotations(tmp_path, images), folder)
    for source in folder:
        with pytest.raises(ValueError, match="the image train/0.png, which 2 of the files could"):
            ids.of(source.path)


def test_a_file_that_was_renamed_for_the_output_keeps_its_own_name(tmp_path):
    for name in ("x/a.png", "y/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    sources = find_sources([str(tmp_path / "*/a.png")], ())
    assert [str(source.relative) for source in sources] == ["a.png", "a_2.png"]
    ids = ImageIds(annotations(tmp_path, [{"file_name": "y/a.png", "id": 8}]), sources)
    assert ids.of(tmp_path / "y/a.png") == 8
    with pytest.raises(ValueError):
        ids.of(tmp_path / "x/a.png")


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_lvis_files_and_ids_of_other_kinds(tmp_path, start):
    images = [
        {"coco_url": "http://host/val2017/1.png", "id": "one"},
        {"file_name": "2.png", "id": 2.0},
    ]
    inputs = ["val2017/1.png", "2.png"]
    assert ids_of(tmp_path, images, inputs, start=start) == ["one", 2]


@pytest.mark.parametrize("text", ["[1]", "{}", "{", '{"images": [{"id": 1}]}', '{"images": 3}'])
def test_files_that_are_no_annotations(tmp_path, text):
    (tmp_path / "gt.json").write_text(text)
    with pytest.raises(ValueError, match=r"gt\.json"):
        ImageIds(tmp_path / "gt.json", [])
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        ImageIds(tmp_path / "gone.json", [])


def test_an_image_with_an_odd_file_name_matches_nothing(tmp_path):
    images = [{"file_name": name, "id": i} for i, name in enumerate(("", ".", "..", "a/.."))]
    assert "has no image a.png" in ids_of(tmp_path, images, ["a.png"])[0]


def test_results_make_their_folder_and_lines_stay_lines(tmp_path):
    write_rows(tmp_path / "new/f.json", [{"file_name": "caf\udce9"}])
    assert json.loads((tmp_path / "new/f.json").read_text()) == [{"file_name": "caf\udce9"}]
    assert found_line(["a\nb", "c\x1b[31m", "d"], 2) == "a b, c\ufffd[31m and 1 more"
    assert found_line([], 2) == "nothing"
