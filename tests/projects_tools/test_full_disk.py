"""A full disk ends every command with one line, and leaves nothing half-written."""

import importlib
import json
import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from benchmarks import make_synthetic_results
from detectron2.data import DatasetCatalog, MetadataCatalog
from parity.fixture import ParityFixture
from PIL import Image

from cqdino_d2.annotations.cache import load_annotations
from cqdino_d2.data import registration
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.files import FileWriteError
from cqdino_d2.visualization.media import VideoFile, VideoReader
from tests.golden_files import GOLDEN
from tests.prediction.test_category_predictor import save_tiny
from tests.projects_tools.test_convert_checkpoint import write_released

CONFIG = "--config-file configs/emojidet/tiny_tree.py"
MODEL = f"{CONFIG} --weights IN/model_inference.pth"
SCORED = "--annotations IN/small/annotations.json --results IN/small/results.json"
COMMANDS = {
    "images": f"demo {MODEL} --device cpu --input IN/pictures --output OUT",
    "a video": f"demo {MODEL} --device cpu --input IN/clip.mp4 --output OUT",
    "a report": f"visualize_results {SCORED} --images IN/small --output OUT",
    "plots": f"evaluate_results --protocol coco {SCORED} --plots OUT",
    "figures": f"evaluate_results --protocol coco {SCORED} --output OUT/figures.json",
    "a table": f"evaluate_results --protocol coco {SCORED} --per-category OUT/table.csv",
    "embeddings": "build_category_embeddings --random --dim 8 --names IN/small/annotations.json "
    "--output OUT/embeddings.pth",
    "a converted checkpoint": "convert_checkpoint IN/in.pth --config-file IN/config.yaml "
    "--output OUT/model.pth",
    "an exported model": f"export {MODEL} --format torch.export --static --height 65 --width 65 "
    "--output OUT/model.pt2",
    "pictures of a check": f"check_dataset {CONFIG} --output OUT --samples 4 --workers 1 "
    "train.datasets_root=IN",
    "a dataset": "make_emojidet --output OUT/new --categories 4 --train-images 2 --val-images 2 "
    "--workers 1",
}


@contextmanager
def full_disk(most_bytes=100):  # which semaphores need
    """The kernel lets no file grow beyond some bytes and says so, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with what the commands read."""
    folder = tmp_path_factory.mktemp("given")
    made = make_synthetic_results.make_set(folder, "small", seed=1)
    for row in json.loads((made / "annotations.json").read_text())["images"]:
        path = made / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (row["width"], row["height"]), "teal").save(path)
    (folder / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (80, 64), "teal").save(folder / f"pictures/{number}.png")
    with VideoFile(folder / "clip.mp4", 12) as video:
        for seed in range(3):
            video.write(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    save_tiny(folder)
    write_released(folder, ParityFixture.load(GOLDEN / "tree_no_backbone.json"))
    settings = EmojiDetSettings(categories=12, train_images=16, val_images=6)
    build_emojidet(folder / "emojidet", settings, workers=1, progress=False)
    registered = set(registration._sources)
    yield folder
    for name in set(registration._sources) - registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
        del registration._sources[name]


def run(what, given, out):
    command, *arguments = COMMANDS[what].replace("IN", str(given)).replace("OUT", str(out)).split()
    return importlib.import_module(command).main(arguments)


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_full_disk_is_one_line(what, given, tmp_path, capsys):
    before = files_in(given)
    out = tmp_path / "out"
    out.mkdir()
    small_files = 4000 if what == "an exported model" else 100  # what describes it has room
    with full_disk(small_files):
        code = run(what, given, out)
    told = [line for line in capsys.readouterr().err.splitlines() if "it/s]" not in line]
    assert code == 2
    assert "File too large" in told[-1] and str(tmp_path) in told[-1]
    assert not any("File too large" in line for line in told[:-1])
    assert files_in(tmp_path) == {} and files_in(given) == before


@pytest.mark.parametrize("what", ["images", "plots", "embeddings"])
def test_what_was_written_before_stays(what, given, tmp_path, capsys):
    assert run(what, given, tmp_path) == 0
    before = files_in(tmp_path)
    assert before
    with full_disk():
        assert run(what, given, tmp_path) == 2
    assert files_in(tmp_path) == before


def test_a_video_is_whole_or_absent(given, tmp_path):
    """OpenCV does not say that it could not write."""
    frames = np.random.default_rng(0).integers(0, 256, (40, 128, 160, 3), dtype=np.uint8)
    for name in ("a.mp4", "a.avi"):
        with full_disk(200_000), pytest.raises(FileWriteError, match="File too large"):
            with VideoFile(tmp_path / name, 12) as video:
                for frame in frames:
                    video.write(frame)
        assert files_in(tmp_path) == {}
        with VideoFile(tmp_path / name, 12) as video:
            for frame in frames:
                video.write(frame)
        assert len(list(VideoReader(tmp_path / name))) == len(frames)
        (tmp_path / name).unlink()


def test_a_cache_that_cannot_be_written_is_done_without(given, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CQDINO_D2_CACHE", str(tmp_path / "caches"))
    file = shutil.copy(given / "small/annotations.json", tmp_path)
    with full_disk():
        annotations = load_annotations(file)
        assert load_annotations(file) is annotations
    assert [("could not be kept" in r.message) for r in caplog.records] == [True]
    assert [path.name for path in files_in(tmp_path)] == ["annotations.json"]
    kept = load_annotations(shutil.copy(file, tmp_path / "same.json"))
    assert annotations.columns.keys() == kept.columns.keys()
    assert all(np.array_equal(annotations.columns[k], v) for k, v in kept.columns.items())
