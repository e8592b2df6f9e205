"""The batch command with a tiny detector of random weights."""

import os
import shutil
import sys

import numpy as np
import predict_many
import pytest
import torch
from pyarrow import parquet

from cqdino_d2.files import read_image, weights_file
from cqdino_d2.jobs import BatchJob
from cqdino_d2.prediction import CategoryPredictor
from cqdino_d2.visualization.media import write_image
from tests.prediction.test_category_predictor import load, save_tiny
from tests.prompted import save_prompted

CONFIG = "configs/emojidet/tiny_tree.py"
SIZES = [(64, 80), (50, 70), (64, 80), (80, 64), (64, 80), (40, 90), (64, 80)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def images(tmp_path):
    """Seven images in two folders, and a file that is none."""
    folder = tmp_path / "in"
    for number, size in enumerate(SIZES):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        write_image(folder / f"{'ab'[number % 2]}/{number}.png", image)
    (folder / "notes.md").write_text("no image")
    return folder


def predict(weights, source, output, *options):
    start = ["--config-file", CONFIG, "--weights", weights, "--device", "cpu"]
    small = ["--input", source, "--output", output, "--part-size", 3, "--batch-size", 2]
    return predict_many.main([str(word) for word in (*start, *small, "--threshold", 0, *options)])


def rows_of(output):
    parts = sorted(output.glob("part-*.parquet"))
    return [row for part in parts for row in parquet.read_table(part).to_pylist()]


def test_every_image_has_what_the_predictor_finds(weights, images, tmp_path, capsys):
    output = tmp_path / "out"
    assert predict(weights, images, output, "--price-per-hour", 2) == 0
    rows = rows_of(output)
    names = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    assert [row["image"] for row in rows] == names and len(list(output.glob("part-*"))) == 3
    predictor = load(weights)
    for row in rows:
        image = read_image(images / row["image"], "BGR")
        found = predictor(image)["instances"]
        assert (row["height"], row["width"]) == image.shape[:2] and row["error"] is None
        assert row["labels"] == list(found.phrases)
        ids = [predictor.vocabulary.dataset_ids[i] for i in found.pred_classes.tolist()]
        assert row["category_ids"] == ids
        np.testing.assert_allclose(row["scores"], found.scores.numpy(), rtol=1e-4, atol=1e-6)
        boxes = found.pred_boxes.tensor.numpy()
        np.testing.assert_allclose(row["boxes_xyxy"], boxes, rtol=1e-4, atol=1e-2)
    out = capsys.readouterr().out
    assert "7 images in 3 parts, 3 to do" in out and "and cost" in out
    assert f"{7:,} images, {sum(len(row['scores']) for row in rows):,} boxes, 0 images" in out


def test_a_stopped_job_does_what_is_missing(weights, images, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    assert predict(weights, images, output) == 0
    before = rows_of(output)
    (output / "part-00001.parquet").unlink()
    write_image(images / "a/8.png", np.zeros((30, 30, 3), np.uint8))  # it came later
    done = []
    original = BatchJob.do_part
    monkeypatch.setattr(
        BatchJob, "do_part", lambda job, part, p: done.append(part) or original(job, part, p)
    )
    assert predict(weights, images, output, "--batch-size", 5) == 0
    assert done == [1] and [row["image"] for row in rows_of(output)] == [
        row["image"] for row in before
    ]
    assert predict(weights, images, output) == 0
    assert "0 to do" in capsys.readouterr().out and done == [1]


def test_a_failed_part_is_not_there(weights, images, tmp_path, monkeypatch, capsys):
    def full(path, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cqdino_d2.jobs.batch_job.write_part", full)
    assert predict(weights, images, tmp_path / "out") == 2
    assert "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("part-*"))


def test_images_that_cannot_be_done_are_named_in_their_rows(weights, images, tmp_path, capsys):
    (images / "a/2.png").write_bytes(b"no image")
    (images / "list.txt").write_text("a/0.png\na/2.png\ngone.png\nb/1.png\n")
    output = tmp_path / "out"
    assert predict(weights, images / "list.txt", output) == 1
    rows = {row["image"]: row for row in rows_of(output)}
    assert list(rows) == ["a/0.png", "a/2.png", "gone.png", "b/1.png"]
    assert rows["gone.png"]["error"] == "there is no such file"
    assert rows["a/2.png"]["error"] and str(tmp_path) not in rows["a/2.png"]["error"]
    assert rows["a/0.png"]["scores"] and rows["b/1.png"]["scores"]
    assert rows["gone.png"]["scores"] == [] and rows["gone.png"]["height"] == 0
    assert "2 images that could not be done" in capsys.readouterr().out
    assert predict(weights, images / "list.txt", output) == 1  # it is remembered
    out = capsys.readouterr().out
    assert "0 to do" in out and "2 images of the job could not be done" in out
    write_image(images / "gone.png", np.zeros((30, 30, 3), np.uint8))
    write_image(images / "a/2.png", np.zeros((30, 30, 3), np.uint8))
    assert predict(weights, images / "list.txt", output, "--retry-failed") == 0
    assert "1 to do" in capsys.readouterr().out  # the fourth image is in a part of its own
    assert all(row["error"] is None for row in rows_of(output))


def test_a_batch_that_fails_is_done_one_by_one(weights, images, tmp_path, monkeypatch):
    original = CategoryPredictor.batch

    def refuses_wide_ones(self, batch):
        if any(image.shape[1] == 90 for image in batch):
            raise RuntimeError("too wide")
        return original(self, batch)

    monkeypatch.setattr(CategoryPredictor, "batch", refuses_wide_ones)
    assert predict(weights, images, tmp_path / "out") == 1
    rows = {row["image"]: row for row in rows_of(tmp_path / "out")}
    assert {name for name, row in rows.items() if row["error"]} == {"b/5.png"}
    assert rows["b/5.png"]["error"] == "too wide" and len(rows) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "0.5"], "holds results of another job (threshold 0.0 there, 0.5 now)"),
        (["--only", "category 3"], "holds results of another job (question "),
        (["model.post_processor.num_detections=7"], "holds results of another job"),
    ],
)
def test_another_job_does_not_mix_with_the_results(
    weights, images, tmp_path, capsys, options, message
):
    output = tmp_path / "out"
    assert predict(weights, images, output) == 0
    assert predict(weights, images, output, *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_another_input_is_another_job(weights, images, tmp_path, capsys):
    output = tmp_path / "out"
    assert predict(weights, images, output) == 0
    assert predict(weights, images / "a", output) == 2
    assert "holds results of another job (input " in capsys.readouterr().err
    (output / "job.json").write_text("[1]")
    assert predict(weights, images, output) == 2
    assert "job.json is no record of a job" in capsys.readouterr().err


def test_nothing_is_claimed_by_an_input_that_is_not_there(weights, images, tmp_path):
    output = tmp_path / "out"
    assert predict(weights, tmp_path / "nowhere", output) == 2
    assert not output.exists()
    assert predict(weights, images, output) == 0


@pytest.mark.parametrize("name", ["a\nb.png", " c.png", os.fsdecode(b"\xff.png")])
def test_names_that_a_list_cannot_hold(weights, images, tmp_path, capsys, name):
    (images / name).write_bytes(b"")
    assert predict(weights, images, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "has a file name that is no text of one line" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a/0.png\na/0.png\n", "names 'a/0.png' twice"),
        ("../secret.png\n", "leads out of"),
        ("/etc/passwd\n", "is absolute"),
        ("\n \n", "names no image"),
        (None, "no such folder or list"),
    ],
)
def test_lists_that_cannot_be_used(weights, tmp_path, capsys, content, message):
    source = tmp_path / "list.txt"
    if content is not None:
        source.write_text(content)
    assert predict(weights, source, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_weights_are_read_once(weights, images, tmp_path, monkeypatch):
    reads, original = [], weights_file.read_tensor_file

    def counted(path, **options):
        reads.append(path)
        return original(path, **options)

    monkeypatch.setattr(weights_file, "read_tensor_file", counted)
    assert predict(weights, images, tmp_path / "out") == 0
    assert reads == [str(weights)]
    assert predict(weights, images, tmp_path / "out") == 0  # nothing is missing
    assert len(reads) == 1


def test_a_tagger_of_stage_1_is_refused_at_once(images, tmp_path, capsys):
    tagger = save_tiny(tmp_path, "stage1")
    start = ["--config-file", CONFIG.replace("tree", "stage1"), "--weights", str(tagger)]
    output = ["--input", str(images), "--output", str(tmp_path / "out")]
    assert predict_many.main([*start, *output]) == 2
    said = capsys.readouterr().err
    assert "tiny_stage1.py is a tagger of stage 1, which finds no boxes" in said
    assert said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_claim_nothing(weights, images, tmp_path, capsys):
    other = tmp_path / "other.pth"
    torch.save({"model": {"a": torch.zeros(2)}}, other)
    shutil.copy(weights.with_name("vocabulary.json"), tmp_path)
    assert predict(other, images, tmp_path / "out") == 2
    assert "does not fit this config" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert predict(weights, images, tmp_path / "out") == 0


def test_a_device_that_does_not_exist(weights, images, tmp_path, capsys):
    assert predict(weights, images, tmp_path / "out", "--device", "foo") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("predict_many: expected a device") and said.endswith("got 'foo'")


def test_a_job_by_words(images, tmp_path):
    config, weights = save_prompted(tmp_path, max_tokens=11)
    arguments = ["--config-file", config, "--weights", weights, "--device", "cpu"]
    arguments += ["--input", images, "--output", tmp_path / "out", "--text", "a cat. two dog."]
    assert predict_many.main([*map(str, arguments), "--threshold", "0"]) == 0
    rows = rows_of(tmp_path / "out")
    assert {label for row in rows for label in row["labels"]} <= {"a cat", "two dog"}
    assert {i for row in rows for i in row["category_ids"]} <= {1, 2}
    assert all(row["scores"] for row in rows)


def test_ray_is_asked_for_where_it_is_missing(weights, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert predict(weights, images, tmp_path / "out", "--workers", 2) == 2
    assert "pip install ray[data]" in capsys.readouterr().err


@pytest.mark.slow
def test_two_workers_do_what_is_missing(weights, images, tmp_path, monkeypatch):
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    assert predict(weights, images, tmp_path / "here") == 0
    before = rows_of(tmp_path / "here")
    for part in (0, 2):
        (tmp_path / f"here/part-0000{part}.parquet").unlink()
    assert predict(weights, images, tmp_path / "here", "--workers", 2) == 0
    assert rows_of(tmp_path / "here") == before
