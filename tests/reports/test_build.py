"""Reports as functions of the package: what is opened, what is shown, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.reports import ReportOptions, write_report
from cqdino_d2.reports.comparison import COLOURS, DrawnBox, draw_pair

SECRET = (255, 0, 255)


@pytest.fixture
def folder(tmp_path):
    """Three grey images, each with a box; a fourth beside their folder has another colour."""
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (60, 40), "grey").save(root / "images" / f"{name}.png")
    Image.new("RGB", (60, 40), SECRET).save(tmp_path / "secret.png")
    images = [
        {"id": place, "file_name": f"images/{name}.png", "width": 60, "height": 40}
        for place, name in enumerate("abc", 1)
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 10], "area": 200}
        for i in (1, 2, 3)
    ]
    content = {
        "images": images,
        "annotations": [box | {"iscrowd": 0} for box in boxes],
        "categories": [{"id": 1, "name": "thing"}],
    }
    found = [box | {"score": 0.9} for box in boxes[:2]]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(found))
    return tmp_path


def write(folder, **options):
    return write_report(
        folder / "annotations.json",
        folder / "results.json",
        folder / "report",
        images=folder / "root",
        options=ReportOptions(**options),
    )


def rename(folder, *names):
    content = json.loads((folder / "annotations.json").read_text())
    for row, name in zip(content["images"], names, strict=False):
        row["file_name"] = name
    (folder / "annotations.json").write_text(json.dumps(content))


def drawn(folder):
    paths = sorted((folder / "report" / "pictures").glob("*.jpg"))
    return [np.asarray(Image.open(path)).reshape(-1, 3).astype(int) for path in paths]


def test_a_report_from_python(folder):
    written = write(folder)
    assert written.refused == () and written.page == folder / "report" / "index.html"
    assert len(drawn(folder)) >= 3
    assert "<title>results.json on annotations.json</title>" in written.page.read_text()


@pytest.mark.parametrize("way", ["up", "absolute", "inner", "nul"])
def test_images_outside_the_folder_are_refused_and_named(folder, way, caplog):
    names = {
        "up": "../secret.png",
        "absolute": str(folder / "secret.png"),
        "inner": "images/../../secret.png",
        "nul": "images/a\0.png",
    }
    rename(folder, names[way])
    written = write(folder)
    (reason,) = written.refused
    assert reason.startswith("image 1 is not shown") and repr(names[way])[1:-1] in reason
    assert reason in caplog.text
    assert "image 1 is not shown" in written.page.read_text(encoding="utf-8")
    images = drawn(folder)
    assert images  # the others
    for image in images:
        assert (np.abs(image - SECRET).sum(1) > 200).all()


def test_a_report_without_any_image_inside_is_still_written(folder):
    rename(folder, *["../secret.png"] * 3)
    written = write(folder)
    assert len(written.refused) == 3 and drawn(folder) == []


def test_inner_dots_and_links_of_the_folder_are_followed(folder):
    (folder / "root" / "linked").symlink_to(folder / "root" / "images")
    rename(folder, "images/../images/a.png", "linked/b.png")
    assert write(folder).refused == ()


def test_other_formats_are_not_opened(folder, caplog):
    Image.new("RGB", (60, 40)).save(folder / "a.eps")
    shutil.copy(folder / "a.eps", folder / "root" / "images" / "a.png")
    write(folder)
    assert "cannot read" in caplog.text and "images/a.png" in caplog.text


def test_bad_options_are_named(folder):
    with pytest.raises(ValueError, match="protocol must be one of"):
        write(folder, protocol="voc")
    with pytest.raises(ValueError, match="needs a category tree"):
        write(folder, protocol="v3det")
    with pytest.raises(ValueError, match="max_dets must be positive, got 0"):
        write(folder, max_dets=0)
    with pytest.raises(ValueError, match="images_per_kind must not be negative"):
        write(folder, images_per_kind=-1)
    with pytest.raises(ValueError, match="no category 'thong' among 1"):
        write(folder, categories=["thong"])
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        write_report(
            folder / "annotations.json", folder / "results.json", folder, images=Path("nowhere")
        )


def test_a_pair_shows_truth_left_and_detections_right():
    image = np.full((100, 200, 3), 200, np.uint8)
    truth = DrawnBox((20, 30, 60, 40), "", "missed")
    found = DrawnBox((100, 30, 80, 50), "", "error", thick=True)
    sheet = np.asarray(draw_pair(image, [truth], [found]))
    assert sheet.shape == (210, 2 * 420 + 6, 3)
    zoom = 2.1

    def columns(role):
        return np.flatnonzero((sheet == COLOURS[role]).all(-1).any(0))

    missed, error = columns("missed"), columns("error")
    assert abs(missed.min() - 20 * zoom) <= 1 and abs(missed.max() - 80 * zoom) <= 1
    assert abs(error.min() - 426 - 100 * zoom) <= 1 and abs(error.max() - 426 - 180 * zoom) <= 1
    thick = (sheet[int(55 * zoom)] == COLOURS["error"]).all(-1).sum()
    thin = (sheet[int(50 * zoom)] == COLOURS["missed"]).all(-1).sum()
    assert thick == 2 * thin > 0


def test_ids_that_are_texts_name_no_files(folder):
    content = json.loads((folder / "annotations.json").read_text())
    content["categories"][0]["id"] = evil = "../../outside"
    for row in content["annotations"]:
        row["category_id"] = evil
    found = [row | {"score": 0.9} for row in content["annotations"][:1]]
    (folder / "annotations.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(found))
    before = {path for path in folder.rglob("*") if "report" not in path.parts}
    write(folder, categories=[evil])
    assert {path for path in folder.rglob("*") if "report" not in path.parts} == before
    assert (folder / "report" / "pictures" / "category-row-0-0.jpg").is_file()
