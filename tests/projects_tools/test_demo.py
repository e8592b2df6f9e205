"""The demo command with a tiny detector of random weights."""

import io
import json
import os

import demo
import numpy as np
import pytest

from cqdino_d2.files import read_image
from cqdino_d2.prediction import CategoryPredictor
from cqdino_d2.visualization.media import VideoFile, VideoReader, write_image
from tests.prediction.test_category_predictor import load, save_tiny
from tests.prompted import save_prompted

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


def test_objects_of_a_video_keep_their_numbers(weights, pictures, tmp_path, capsys):
    """Nothing moves: each box is in every frame, under one number and in one colour."""
    pytest.importorskip("trackers", reason="trackers is not installed")
    still = np.full((64, 96, 3), 90, np.uint8)
    still[20:44, 30:60] = (200, 40, 60)
    with VideoFile(tmp_path / "clip.mp4", 12) as video:
        for _ in range(6):
            video.write(still)
    inputs = ["--input", tmp_path / "clip.mp4", pictures / "0.png", "--output", tmp_path / "out"]
    options = ["--track", "--batch-size", 4, "--threshold", 0.02, "--nms", 0.3]
    options += ["--json", tmp_path / "found.json"]
    assert run(weights, *inputs, *options) == 0
    rows = json.loads((tmp_path / "found.json").read_text())
    followed = [row for row in rows if "frame" in row]
    frames = {}
    for row in followed:
        frames.setdefault(row["track_id"], []).append(row["frame"])
    assert frames and all(seen == list(range(6)) for seen in frames.values())
    assert sorted(frames) == list(range(1, len(frames) + 1))
    assert all("track_id" not in row for row in rows if "frame" not in row)
    drawn = list(VideoReader(tmp_path / "out/clip.mp4"))
    assert len(drawn) == 6
    change = np.abs(drawn[1].astype(int) - drawn[4].astype(int))
    assert change.mean() < 2, "labels and colours stay"


def test_images_alone_have_nothing_to_follow(weights, pictures, tmp_path, capsys):
    arguments = ["--input", pictures, "--output", tmp_path / "out", "--track"]
    assert run(weights, *arguments) == 2
    assert "followed through videos, and no input is one" in capsys.readouterr().err


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


THIN = [(1, 3000), (3000, 1), (3, 2000), (1, 1), (20000, 1)]


def test_images_of_odd_shapes_are_drawn_with_the_others(weights, pictures, tmp_path, capsys):
    for height, width in THIN:
        write_image(pictures / f"{height}x{width}.png", np.zeros((height, width, 3), np.uint8))
    options = ["--threshold", 0, "--topk", 2, "--show-categories", "--sheet", tmp_path / "s.png"]
    options += ["--batch-size", 3, "--json", tmp_path / "f.json"]
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", *options) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3 + len(THIN)
    assert len({row["image_id"] for row in json.loads((tmp_path / "f.json").read_text())}) == 8
    assert max(read_image(tmp_path / "s.png", "RGB").shape) <= 4 * 1286
    assert "could not be done" not in capsys.readouterr().err


def break_some(pictures):
    """Files of six kinds that cannot be done; their names."""
    (pictures / "0eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n")
    whole = (pictures / "0.png").read_bytes()
    (pictures / "0cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "0empty.png").touch()
    (pictures / "0folder.jpg").mkdir()
    (pictures / "0link.png").symlink_to("gone.png")
    (pictures / "0text\n\udce9.png").write_text("no image")
    (pictures / "0clip.mp4").write_text("no video")
    return ["0eps.png", "0cut.png", "0empty.png", "0link.png", "0text \ufffd.png", "0clip.mp4"]


def test_every_file_that_cannot_be_done_is_named_and_the_rest_is_done(
    weights, pictures, tmp_path, capsys
):
    broken = break_some(pictures)
    options = ["--threshold", 0, "--topk", 1, "--batch-size", 2, "--json", tmp_path / "f.json"]
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", *options) == 1
    told = capsys.readouterr()
    for name in broken:
        assert told.err.count(f"cannot do {pictures / name}: ") == 1
    assert f"demo: {len(broken)} of {3 + len(broken)} could not be done" in told.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    assert [r["image_id"] for r in json.loads((tmp_path / "f.json").read_text())] == [1, 2, 3]


def test_a_pipe_and_names_that_steer_a_terminal(weights, pictures, tmp_path, capsys):
    os.mkfifo(pictures / "pipe.png")
    (pictures / "\x1b[2J\nevil.png").write_text("no picture")
    os.rename(pictures / "0.png", os.fsencode(pictures) + b"/\xff.png")
    assert run(weights, "--input", pictures, "--output", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "pipe.png: it is no regular file" in told.err and "2 of 5 could not" in told.err
    assert "\x1b" not in told.out + told.err and "\ufffd[2J evil.png" in told.err
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_images_that_the_annotations_lack_are_drawn_and_named(weights, pictures, tmp_path, capsys):
    images = [{"file_name": f"{i}.png", "id": 40 + i} for i in (0, 2)]
    (tmp_path / "gt.json").write_text(json.dumps({"images": images}))
    options = ["--annotations", tmp_path / "gt.json", "--json", tmp_path / "f.json"]
    options += ["--threshold", 0, "--topk", 1]
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", *options) == 1
    assert f"cannot do {pictures / '1.png'}: {tmp_path}/gt.json has no image 1.png" in (
        capsys.readouterr().err
    )
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert [r["image_id"] for r in json.loads((tmp_path / "f.json").read_text())] == [40, 42]


def test_one_image_that_the_model_refuses(weights, pictures, tmp_path, capsys, monkeypatch):
    batch = CategoryPredictor.batch

    def fails_for_the_second(self, images):
        if any(np.array_equal(image, second) for image in images):
            raise RuntimeError("not enough memory:\nyou tried to allocate 9 bytes")
        return batch(self, images)

    second = read_image(pictures / "1.png", "BGR")
    monkeypatch.setattr(CategoryPredictor, "batch", fails_for_the_second)
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", "--topk", 1) == 1
    told = capsys.readouterr().err
    assert f"cannot do {pictures / '1.png'}: not enough memory: you tried to" in told
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]


def test_a_broken_video_leaves_no_results(weights, pictures, tmp_path, capsys, monkeypatch):
    with VideoFile(tmp_path / "clip.mp4", 12) as video:
        for seed in range(3):
            video.write(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    monkeypatch.setattr(VideoFile, "write", fail_at(VideoFile.write, 2))
    inputs = ["--input", tmp_path / "clip.mp4", pictures / "0.png", "--output", tmp_path / "out"]
    options = ["--threshold", 0, "--topk", 1, "--json", tmp_path / "f.json"]
    assert run(weights, *inputs, *options) == 1
    assert "clip.mp4: the disk is full" in capsys.readouterr().err
    rows = json.loads((tmp_path / "f.json").read_text())
    assert [row["file_name"] for row in rows] == [str(pictures / "0.png")]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["0.png"]


def fail_at(function, number):
    calls = []

    def wrapped(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError("the disk is full")
        return function(*arguments)

    return wrapped


def test_category_names_with_line_breaks_and_control_characters(pictures, tmp_path, capsys):
    weights = save_tiny(tmp_path)
    stored = json.loads((tmp_path / "vocabulary.json").read_text())
    stored["names"] = [f"{name}\n\x1b[2J\u202e" for name in stored["names"]]
    (tmp_path / "vocabulary.json").write_text(json.dumps(stored))
    options = ["--threshold", 0, "--topk", 3, "--show-categories", "--json", tmp_path / "f.json"]
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", *options) == 0
    told = capsys.readouterr()
    lines = [line for line in told.out.splitlines() if line.strip()]
    assert len(lines) == 3 and "\x1b" not in told.out and "\u202e" not in told.out
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("content", ["[1]", "{", '{"images": [{"id": 1}]}'])
def test_annotations_that_cannot_be_used_are_said_before_the_model_is_loaded(
    weights, pictures, tmp_path, capsys, content, monkeypatch
):
    monkeypatch.setattr("cqdino_d2.prediction.loading.load_predictor", None)
    (tmp_path / "gt.json").write_text(content)
    options = ["--annotations", tmp_path / "gt.json", "--json", tmp_path / "f.json"]
    assert run(weights, "--input", pictures, "--output", tmp_path / "out", *options) == 2
    told = capsys.readouterr().err.strip()
    assert "gt.json" in told and "\n" not in told


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return save_prompted(tmp_path_factory.mktemp("prompted"), max_tokens=11)


def ask(reader, *arguments):
    config, weights = reader
    start = ["--config-file", config, "--weights", weights, "--device", "cpu", "--threshold", 0]
    return demo.main([*map(str, start), *map(str, arguments)])


def test_a_model_that_reads_words_looks_for_a_caption(reader, pictures, tmp_path, capsys):
    results = tmp_path / "found.json"
    files = ["--input", pictures, "--output", tmp_path / "out", "--json", results]
    assert ask(reader, *files, "--text", "a red cat. two dog") == 0
    rows = json.loads(results.read_text())
    assert {row["category_id"] for row in rows} <= {1, 2} and len(rows) == 27
    assert "a red cat" in capsys.readouterr().out
    assert ask(reader, *files, "--text", "cat", "--negatives", "dog", "--nms", 0.7) == 0
    fewer = json.loads(results.read_text())
    assert len(fewer) < 27 and {row["category_id"] for row in fewer} == {1}


def test_both_kinds_of_models_look_for_the_names_of_a_file(reader, weights, pictures, tmp_path):
    names, results = tmp_path / "names.txt", tmp_path / "found.json"
    files = ["--input", pictures / "0.png", "--output", tmp_path / "out.png", "--json", results]
    names.write_text("cat | dog\n\na red bus\ntwo red\n", encoding="utf-8-sig")
    assert ask(reader, *files, "--names", names) == 0
    assert {row["category_id"] for row in json.loads(results.read_text())} <= {1, 2, 3}
    names.write_text("category 2|category 3\nCategory_9\n")
    assert run(weights, *files, "--threshold", 0, "--names", names) == 0
    assert {row["category_id"] for row in json.loads(results.read_text())} == {3, 4, 10}
    assert run(weights, *files, "--threshold", 0, "--text", "category 2. category 9.") == 0
    assert {row["category_id"] for row in json.loads(results.read_text())} == {3, 10}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "this model needs a prompt: give it a caption or names"),
        (["--text", " . "], "a prompt needs words"),
        (["--text", "cat", "--branch", "cat"], "this model selects no categories"),
        (["--text", "cat", "--text-encoder", "folder"], "it takes no text encoder"),
        (["--negatives", "cat"], "negatives need names to look for beside them"),
        (["--names", "gone.txt"], "gone.txt"),
    ],
)
def test_what_asks_for_nothing_is_said_at_once(
    reader, pictures, tmp_path, capsys, options, message
):
    assert ask(reader, "--input", pictures, "--output", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_a_model_of_categories_does_not_know(weights, pictures, tmp_path, capsys):
    options = ["--input", pictures, "--output", tmp_path / "out", "--text", "a zebra"]
    assert run(weights, *options) == 2
    assert "'a zebra' the first: a text encoder" in capsys.readouterr().err
