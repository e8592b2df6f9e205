"""Every command of the documentation works: run at toy size, or at least accepted by its tool."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from PIL import Image, ImageDraw

from cqdino_d2.engine import load_config
from cqdino_d2.files.weights_file import read_weights
from cqdino_d2.structures import random_vocabulary
from tests import doc_commands as docs
from tests.annotation_sets import write_json
from tests.odvg_sets import write_lines
from tests.text_sets import expressions, sentences

ROOT = docs.ROOT
OWN_DATA = ROOT / "docs/own_data.md"
# What makes a command of a page small enough for a test: documented overrides and options.
SMALLER = {
    "train_net.py": [
        *("train.max_iter=2", "train.log_period=1", "train.device=cpu"),
        *("dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0"),
        *("dataloader.test.num_workers=0", "lr_multiplier.warmup_iter=1"),
    ],
    "projects_tools/check_dataset.py": ["dataloader.train.total_batch_size=2"],
}
SMALL_WORDS = [  # the smallest Swin and BERT
    "model.backbone.model_args={embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1]}",
    *("model.neck.in_channels=[16, 32, 64]", "model.neck.dim=32"),
    *("model.encoder.num_layers=1", "model.decoder.num_layers=1"),
    *("model.query_selection.num_queries=20", "model.post_processor.num_detections=20"),
    "model.categories.language_model={hidden_size: 24, num_hidden_layers: 1, "
    "num_attention_heads: 2, intermediate_size: 32}",
    "dataloader.train.mapper.augmentations.short_sides=[96]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=96",
]
ALL_BLOCKS = [block for page in docs.PAGES for block in docs.blocks(page, "bash")]


def written_files(page):
    return {block.file() for block in docs.blocks(page, "python") if block.file()}


@pytest.mark.parametrize("block", ALL_BLOCKS, ids=str)
def test_commands_are_accepted_by_their_tools(block):
    commands = docs.commands(block.text)
    assert commands, f"no command in\n{block.text}"
    for command in commands:
        docs.check(command, written_files(block.page))


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.name)
def test_python_is_python(page):
    for block in docs.blocks(page, "python"):
        compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", docs.PAGES[1:], ids=lambda page: page.name)
def test_a_page_says_first_whom_it_is_for(page):
    title, empty, first, *_ = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and not empty
    assert re.match(r"For (those|everyone) ", first), f"{page.name}: {first}"


def test_the_readme_is_short_and_shows_a_picture_at_once():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:12])


def test_release_and_lint_have_one_version():
    import cqdino_d2

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cqdino_d2.__version__}\n" in citation
    pins = (ROOT / "projects_tools/install/constraints.txt").read_text(encoding="utf-8")
    (ruff,) = re.findall(r"^ruff==(\S+)$", pins, re.MULTILINE)
    assert f"rev: v{ruff} " in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page):
    left = re.findall(r"^[A-Z]{4,}$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert not left


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.name)
def test_links_and_named_files_are_there(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / file) if file else page
        assert target.is_file(), f"{page.name}: {link}"
        if not anchor:
            continue
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
        assert anchor in anchors, f"{page.name}: {link}"
    written = written_files(page)
    pattern = r"`((?:cqdino_d2|configs|projects_tools|tests|docs)/[\w/]+\.(?:py|sh|md))`"
    for name in re.findall(pattern, text):
        assert (ROOT / name).is_file() or name in written, f"{page.name}: {name}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("python train_net.py --config-file configs/emojidet/quickstart.py --no-such", "no-such"),
        ("python train_net.py", "config-file"),
        ("python train_net.py --config-file configs/none.py", "there is no config file"),
        ("python train_net.py --config-file C train.no_such=1", "no_such"),
        ("python projects_tools/none.py", "there is no"),
        ("python projects_tools/evaluate_results.py --protocol voc --annotations a", "invalid"),
        ("bash projects_tools/none.sh", "there is no"),
        ("bash projects_tools/quickstart.sh --larger", "does not know"),
        ("python setup.py --fast build_ext", "fast"),
        ("pip install no_such_package", "pinned nowhere"),
        ("python -m pytest tests/none.py", "there is no"),
        ("frobnicate --now", "what is"),
    ],
)
def test_wrong_commands_are_found(line, problem):
    (command,) = docs.commands(line)
    with pytest.raises((ValueError, OSError), match=problem):
        docs.check(command)


def test_commands_are_taken_apart():
    text = "# a comment\nA=1 B=2 python x.py \\\n    --flag 'a b'  # said\ncd y && bash z.sh\n"
    assert docs.commands(text) == [
        ["python", "x.py", "--flag", "a b"],
        ["cd", "y"],
        ["bash", "z.sh"],
    ]


# ---- docs/own_data.md from start to end


def make_shapes(folder, seed):
    """A set in COCO's form with oddities of other tools: ids from 0, unsorted, no area or crowd."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = {5: "square", 0: "disc", 3: "bar"}
    images, annotations = [], []
    for image in range(6):
        picture = Image.new("RGB", (140, 110), tuple(rng.integers(0, 99, 3).tolist()))
        pen = ImageDraw.Draw(picture)
        for category in rng.choice(list(names), 2, replace=False).tolist():
            x, y = rng.integers(5, 60, 2).tolist()
            width, height = (70, 20) if category == 3 else (40, 40)
            corners = (x, y, x + width, y + height)
            (pen.ellipse if category == 0 else pen.rectangle)(corners, fill="orange")
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, width, height],
                }
            )
        picture.save(folder / f"{image}.jpg")
        images.append({"id": image, "file_name": f"{image}.jpg", "width": 140, "height": 110})
    categories = [{"id": key, "name": name} for key, name in names.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    folder.with_suffix(".json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout of this code whose data, configs and outputs are its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("cqdino_d2", "projects_tools", "train_net.py"):
        (folder / name).symlink_to(ROOT / name)
    ignored = shutil.ignore_patterns("own", "__pycache__")
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=ignored)
    return folder


def run(checkout, command, smaller=()):
    """Runs a command of the documentation in the checkout, made small."""
    program, script, *rest = command
    assert program == "python", command
    path = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, script, *rest, *SMALLER.get(script, []), *smaller],
        cwd=checkout,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def write_files(checkout, page):
    """What the page tells the reader to write."""
    for block in docs.blocks(page, "python"):
        assert block.file(), block
        (checkout / block.file()).parent.mkdir(parents=True, exist_ok=True)
        (checkout / block.file()).write_text(block.text)
    return docs.blocks(page, "python")


@pytest.mark.slow
def test_own_data_from_start_to_end(checkout):
    make_shapes(checkout / "datasets/shapes/train", seed=0)
    make_shapes(checkout / "datasets/shapes/val", seed=1)
    configs = write_files(checkout, OWN_DATA)
    assert all(len(config.text.splitlines()) <= 20 for config in configs)
    said = {}
    for block in docs.blocks(OWN_DATA, "bash"):
        for command in docs.commands(block.text):
            said.setdefault(command[1], run(checkout, command))
    output = checkout / "output"
    assert "0 problems" in said["projects_tools/check_dataset.py"]
    assert (output / "shapes_check/contact_sheet.png").is_file()
    vocabulary = json.loads((output / "shapes/vocabulary.json").read_text())
    assert vocabulary["names"] == ["disc", "bar", "square"]  # by id, as the columns are
    assert "id 0 can never be found" in said["train_net.py"]
    assert (output / "shapes/model_inference.pth").is_file()
    page = (output / "shapes/report/index.html").read_text()
    assert "6 images" in page and "square" in page
    assert len(list((output / "shapes/demo").glob("*.jpg"))) == 6
    assert len(list((output / "shapes_asked/demo").glob("*.jpg"))) == 6
    results = json.loads((output / "shapes_asked/results.json").read_text())
    assert results["bbox"]["AP"] >= 0


@pytest.mark.slow
def test_extending_from_start_to_end(checkout):
    if not (checkout / "datasets/shapes/train").is_dir():
        make_shapes(checkout / "datasets/shapes/train", seed=0)
        make_shapes(checkout / "datasets/shapes/val", seed=1)
        write_files(checkout, OWN_DATA)
    write_files(checkout, ROOT / "docs/extending.md")
    (block,) = docs.blocks(ROOT / "docs/extending.md", "bash")
    for command in docs.commands(block.text):
        run(checkout, command)
    metrics = (checkout / "output/variant/metrics.json").read_text().splitlines()
    assert all(np.isfinite(json.loads(line).get("total_loss", 0)) for line in metrics)
    from cqdino_d2.engine.checkpointer import read_tensor_file

    weights = read_tensor_file(str(checkout / "output/variant/model_inference.pth"))["model"]
    names = {"categories.relation.share", "decoder.class_heads.0.scale"}
    assert names <= weights.keys() and "backbone.coarse.0.weight" in weights
    assert weights["categories.relation.share"].abs().sum() > 0  # it was trained


WRITTEN = ("6 lines, 12", "3 lines, 2", "5 lines, 5", "1 lines, 1")


def make_texts(folder):
    """What docs/text_training.md converts and trains with, beside the shapes."""
    mixed = sentences()
    del mixed["annotations"][2:]  # these name their phrases in another way
    write_json(folder / "texts/mixed.json", mixed)
    write_json(folder / "texts/refcoco.json", expressions())
    grit = {"caption": "an orange disc", "width": 140, "height": 110, "key": "0"}
    write_json(folder / "grit/0.json", grit | {"noun_chunks": [[0, 14, 0.1, 0.1, 0.5, 0.5, 0.9]]})
    said = [
        {
            "filename": f"{image}.jpg",
            "height": 110,
            "width": 140,
            "grounding": {
                "caption": "an orange thing",
                "regions": [{"bbox": [5, 5, 60, 60], "phrase": "an orange thing"}],
            },
        }
        for image in range(3)
    ]
    write_lines(folder / "shapes/said.jsonl", said)


@pytest.mark.slow
def test_text_training_from_start_to_end(checkout):
    if not (checkout / "datasets/shapes/train").is_dir():
        make_shapes(checkout / "datasets/shapes/train", seed=0)
        make_shapes(checkout / "datasets/shapes/val", seed=1)
    make_texts(checkout / "datasets")
    page = ROOT / "docs/text_training.md"
    configs = write_files(checkout, page)
    assert all(len(config.text.splitlines()) <= 20 for config in configs)
    said = []
    for block in docs.blocks(page, "bash"):
        for command in docs.commands(block.text):
            if "projects_tools/study.py" in command:
                continue  # takes long, and is tested as a study
            words = command[1].endswith(("train_net.py", "check_dataset.py"))
            said.append(run(checkout, command, SMALL_WORDS if words else ()))
    *converted, checked, trained, drawn, tuned = said
    for text, lines in zip(converted, WRITTEN, strict=True):
        assert f"{lines} boxes" in text
    assert "0 problems" in checked and "3 texts, 3 phrases, 3 boxes" in checked
    assert "total_loss" in trained and "total_loss" in tuned
    assert "train_2shot_seed3.json: " in drawn
    for name in ("shapes_by_words", "shapes_new_names"):
        results = json.loads((checkout / f"output/{name}/results.json").read_text())
        assert results["bbox"]["AP"] >= 0
    before, after = (
        read_weights(checkout / f"output/{name}/model_inference.pth")
        for name in ("shapes_by_words", "shapes_new_names")
    )
    assert after.pop("categories.prompt_vectors.vectors").abs().min() > 0
    assert after.keys() - before.keys() == {"categories.prompt_vectors.readings"}
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def save_random(path, config, overrides=()):
    """A checkpoint of a config with random weights, and a vocabulary where it has categories."""
    cfg = load_config(ROOT / config, overrides)
    path.parent.mkdir(parents=True)
    if "grounding_dino" not in config:
        cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=7)
        instantiate(cfg.vocabulary).save(path.parent / "vocabulary.json")
    torch.manual_seed(0)
    weights = instantiate(cfg.model).state_dict()
    for name in weights:
        if "class_head" in name and name.endswith(".bias"):  # so that scores are about 0.5
            weights[name].zero_()
    torch.save({"model": weights}, path)


def test_export_script_turns_images_as_they_say(tmp_path, monkeypatch):
    seen = []

    class Session:
        def __init__(self, *_, **__):
            pass

        def run(self, _, inputs):
            seen.append(inputs["image"])
            return np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)

    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session))
    facts = {"input": {"trained_for": {"short": 20, "long": 30}}, "names": []}
    write_json(tmp_path / "model.onnx.json", facts)
    turned = Image.Exif()
    turned[0x0112] = 6  # by 90 degrees
    image = Image.new("RGB", (30, 20), "navy")
    image.putpixel((0, 0), (255, 255, 255))
    image.save(tmp_path / "photo.png", exif=turned)
    script, _ = docs.blocks(ROOT / "docs/export.md", "python")
    monkeypatch.setattr(
        sys, "argv", ["", str(tmp_path / "model.onnx"), str(tmp_path / "photo.png")]
    )
    exec(compile(script.text, "detect.py", "exec"), {})
    assert seen[0].shape == (3, 30, 20) and (seen[0][:, 0, -1] == 255).all()


@pytest.mark.slow
def test_export_from_start_to_end(checkout, monkeypatch, capsys):
    for package in ("onnx", "onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    page = ROOT / "docs/export.md"
    words = "configs/grounding_dino/swint_ogc.py"
    smaller = [one for one in SMALL_WORDS if not one.startswith("dataloader.train")]
    save_random(checkout / "models/gdino_swint/model.pth", words, smaller)
    trained = checkout / "output/quickstart/training/model_inference.pth"
    save_random(trained, "configs/emojidet/quickstart.py")
    Image.new("RGB", (140, 110), "navy").save(checkout / "photo.jpg")
    script, in_python = docs.blocks(page, "python")
    (checkout / script.file()).write_text(script.text)
    said = [
        run(checkout, command, smaller if words in command else ())
        for block in docs.blocks(page, "bash")
        for command in docs.commands(block.text)
        if command[0] != "pip"
    ]
    detector, asked, quickstart, with_words, without = said
    assert detector.count("100.0% of the detections agree") == 6
    assert quickstart.count("100.0% of the detections agree") == 3
    assert "2 names" in asked
    lines = with_words.strip().splitlines()  # without a bias many scores are high
    assert lines and all(re.match(r"(a cat|a red ball) [01]\.\d\d at \[", line) for line in lines)
    lines = without.strip().splitlines()
    assert lines and all(re.match(r"category \d [01]\.\d\d at \[", line) for line in lines)
    monkeypatch.chdir(checkout)
    small = f'model.pth", {smaller!r})'
    exec(compile(in_python.text.replace('model.pth")', small), str(in_python), "exec"), {})
    assert "cat" in capsys.readouterr().out


@pytest.mark.slow
def test_many_images_from_start_to_end(checkout, monkeypatch, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    page = ROOT / "docs/many_images.md"
    trained = checkout / "output/quickstart/training/model_inference.pth"
    if not trained.is_file():
        save_random(trained, "configs/emojidet/quickstart.py")
    images = checkout / "output/quickstart/datasets/emojidet/images/val"
    (images / "below").mkdir(parents=True)
    for name, size in (("a.png", (40, 60)), ("b.jpg", (70, 50)), ("below/c.png", (30, 80))):
        Image.new("RGB", size, "navy").save(images / name)
    here, by_two, _ = (docs.commands(block.text)[0] for block in docs.blocks(page, "bash"))
    said = run(checkout, here)
    assert "3 images in 1 parts, 1 to do" in said
    assert re.search(r"images/s with loading the model; a million take .* hours and cost \d", said)
    (block,) = docs.blocks(page, "python")
    monkeypatch.chdir(checkout)
    exec(compile(block.text, str(block), "exec"), {})
    told = capsys.readouterr().out
    assert all(f"'image': '{name}'" in told for name in ("a.png", "b.jpg", "below/c.png"))
    table = re.findall(r"with `image`.*?`error`", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    from pyarrow import parquet

    part = parquet.read_table(checkout / "output/predicted/part-00000.parquet")
    assert re.findall(r"`(\w+)`", table) == part.column_names
    if importlib.util.find_spec("ray") is None:
        return
    run(checkout, by_two)
    other = parquet.read_table(checkout / "output/predicted_by_two/part-00000.parquet")
    assert other.column("image") == part.column("image")
