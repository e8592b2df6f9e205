"""The demo command with a tiny detector of random weights."""

import io
import json

import demo
import numpy as np
import pytest

from cqdino_d2.files import read_image
from cqdino_d2.visualization.media import VideoFile, VideoReader, write_image
from tests.prediction.test_category_predictor import load, save_tiny

CONFIG = "configs/emojidet/tiny_tree.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        write_image(tmp_path / f"in/{number}.png", image)
    return tmp_path / "in"


def run(weights, *arguments):
    start = ["--config-file", CONFIG, "--weights", str(weights), "--device", "cpu"]
    return demo.main([*start, *map(str, arguments)])


def test_a_folder_with_a_file_that_cannot_be_read(weights, pictures, tmp_path, capsys):
    (pictures / "1b.png").write_text("no picture")
    options = ["--threshold", 0, "--topk", 5, "--batch-size", 2, "--json", tmp_path / "found.json"]
    options += ["--sheet", tmp_path / "sheet.png"]
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", *options) == 1
    told = capsys.readouterr()
    assert f"cannot do {pictures / '1b.png'}: cannot identify" in told.err
    assert "1 of 4 could not be done" in told.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    drawn = read_image(tmp_path / "out/2.png", "BGR")
    assert drawn.shape == (64 * 8, 80 * 8, 3)  # enlarged
    assert np.array_equal(read_image(tmp_path / "sheet.png", "BGR")[518:, :640], drawn)
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["image_id"] for row in rows] == [1] * 5 + [2] * 5 + [3] * 5
    predictor = load(weights)
    best = predictor(read_image(pictures / "2.png", "BGR"))["instances"][0]
    row = rows[10]
    assert row["category_id"] == predictor.vocabulary.dataset_ids[best.pred_classes.item()]
    assert row["score"] == pytest.approx(best.scores.item(), abs=1e-4)
    x0, y0, x1, y1 = best.pred_boxes.tensor[0].tolist()
    assert row["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=0.1)
    assert row["file_name"] == str(pictures / "2.png")


def test_names_from_the_standard_input_and_ids_of_a_data_set(
    weights, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{pictures / '2.png'}\n{pictures / '0.png'}\n"))
    images = [{"file_name": "deep/0.png", "id": 40}, {"file_name": "2.png", "id": 41}]
    (tmp_path / "gt.json").write_text(json.dumps({"images": images}))
    options = ["--annotations", tmp_path / "gt.json", "--json", tmp_path / "f.json"]
    options += ["--threshold", 0, "--topk", 1]
    assert run(weights, "--input", "-", "--output", tmp_path / "out", *options) == 0
    assert [r["image_id"] for r in json.loads((tmp_path / "f.json").read_text())] == [41, 40]


def test_one_picture_to_a_file_with_its_categories(weights, pictures, tmp_path, capsys):
    options = ["--show-categories", "--branch", "category 2", "--num-selected", 3, "--threshold", 0]
    options += ["--json", tmp_path / "found.json"]
    picture, output = pictures / "0.png", tmp_path / "new" / "drawn.jpg"
    assert run(weights, "--input", picture, "--output", output, *options) == 0
    assert read_image(output, "BGR").shape == (512, 640 + 380, 3)
    ids = {row["category_id"] for row in json.loads((tmp_path / "found.json").read_text())}
    assert ids <= {i + 1 for i in (2, 9, 10, 11, 12, 37, 38, 39)} and 0 < len(ids) <= 3
    assert "category" in capsys.readouterr().out


def test_a_video_keeps_its_length_and_rate(weights, tmp_path, capsys):
    with VideoFile(tmp_path / "clip.mp4", 12) as video:
        for seed in range(5):
            video.write(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    (tmp_path / "broken.mp4").write_text("no video")
    inputs = ["--input", tmp_path / "*.mp4", "--output", tmp_path / "out"]
    options = ["--batch-size", 2, "--threshold", 0, "--topk", 2, "--json", tmp_path / "found.json"]
    assert run(weights, *inputs, *options) == 1
    assert "broken.mp4: OpenCV cannot read it" in capsys.readouterr().err
    reader = VideoReader(tmp_path / "out/clip.mp4")
    assert (reader.rate, len(list(reader))) == (12, 5)
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["frame"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--branch", "categry 2"], "did you mean 'category 2"),
        (["--annotations", "gone.json"], "gone.json"),
        (["--input", "gone*.png"], "no file fits the pattern gone"),
        (["modl.selection.num_selected=3"], "did you mean 'model'"),
    ],
)
def test_what_cannot_be_used_is_said_at_once(weights, pictures, tmp_path, capsys, options, message):
    start = ["--input", pictures, "--output", tmp_path / "out"]
    assert run(weights, *start, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--threshold", "1.5"], ["--topk", "0"], ["--depth", "0"]])
def test_numbers_out_of_range(weights, pictures, option, capsys):
    with pytest.raises(SystemExit):
        run(weights, "--input", pictures, "--output", "out", *option)
    assert option[0] in capsys.readouterr().err


def test_an_override_after_the_inputs_counts(weights, pictures, tmp_path):
    arguments = ["--output", tmp_path / "out", "--threshold", 0, "--json", tmp_path / "f.json"]
    override = "model.post_processor.num_detections=2"
    assert run(weights, *arguments, "--input", pictures / "0.png", override) == 0
    assert len(json.loads((tmp_path / "f.json").read_text())) == 2
