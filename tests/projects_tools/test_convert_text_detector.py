"""The command on released detectors that are asked in words."""

import argparse
import json
import os

import convert_checkpoint
import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from cqdino_d2.checkpoint import ConversionReport, convert_official_grounding_weights
from cqdino_d2.engine import AtomicCheckpointer, load_config
from cqdino_d2.structures import ClassRequest, TextPrompt
from tests.grounding_oracle import WORDS, make_theirs, our_model_config
from tests.projects_tools.test_check_parity import GROUNDING
from tests.tiny import ROOT

STRUCTURES = {
    "structure_GroundingDINO_SwinT_OGC": "swint_ogc",
    "structure_GroundingDINO_SwinB_cfg": "swinb_cogcoor",
}
PROMPTS = (TextPrompt("a red cat. two dog. bus?"), TextPrompt("tree. a bus."))


@pytest.fixture(params=["grounding_dino", "mm_grounding_dino"])
def theirs(request):
    return make_theirs(request.param)


@pytest.fixture
def mm():
    return make_theirs("mm_grounding_dino")


def prepare(folder, theirs):
    """A config in the sizes of Hugging Face's small model, and its vocabulary."""
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    cfg = LazyConfig.load(str(ROOT / "configs/grounding_dino/mm_swint.py"))
    cfg.model = our_model_config(theirs, folder / "words.txt")
    LazyConfig.save(cfg, str(folder / "config.yaml"))


def convert(folder, source, *more):
    arguments = [source, "--config-file", folder / "config.yaml", "--output", folder / "model.pth"]
    return convert_checkpoint.main([str(one) for one in [*arguments, *more]])


def predictions(folder, pixels):
    """Logits and boxes of our model with the converted weights, loaded as an evaluation does."""
    cfg = load_config(folder / "config.yaml")
    model = instantiate(cfg.model).eval()
    AtomicCheckpointer(model).load_weights(folder / "model.pth", strict=True)
    with torch.no_grad():
        images = model.preprocess([{"image": one} for one in pixels])
        output = model.run(images, None, ClassRequest(prompts=PROMPTS)).output
        tokens = model.categories.tokenizer(PROMPTS)
    return images.tensor, tokens, output.logits[-1], output.boxes_cxcywh_norm[-1]


def assert_predicts_the_same(folder, theirs):
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (3, 64, 96), generator=generator).float() for _ in PROMPTS]
    normalised, tokens, logits, boxes = predictions(folder, pixels)
    with torch.no_grad():
        expected = theirs(
            pixel_values=normalised,
            pixel_mask=torch.ones(2, 64, 96, dtype=torch.int64),
            input_ids=tokens.input_ids,
            attention_mask=tokens.valid.long(),
        )
    torch.testing.assert_close(boxes, expected.pred_boxes, rtol=1e-4, atol=1e-5)
    for i, valid in enumerate(tokens.valid):
        wanted = expected.logits[i, :, : len(valid)][:, valid]
        torch.testing.assert_close(logits[i][:, valid], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["whole", "in parts", "one file", "bin"])
def test_hugging_faces_folders_and_files(theirs, tmp_path, capsys, kind):
    prepare(tmp_path, theirs)
    source = tmp_path / "theirs"
    theirs.save_pretrained(source, max_shard_size="50KB" if kind == "in parts" else "5GB")
    (source / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    if kind == "in parts":
        assert not (source / "model.safetensors").exists()
    if kind == "one file":
        source = source / "model.safetensors"
    if kind == "bin":
        (source / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), source / "pytorch_model.bin")
    assert convert(tmp_path, source) == 0
    out = capsys.readouterr().out
    count = sum(p.numel() for n, p in theirs.named_parameters() if ".layernorm." not in n)
    unused = [n for n, _ in theirs.named_parameters() if "pooler" in n]
    count -= sum(theirs.get_parameter(name).numel() for name in unused)
    assert f"parameters: {count:,}" in out and "UNEXPLAINED" not in out
    assert "family: Grounding DINO, MM-Grounding-DINO or LLMDet of Hugging Face" in out
    assert_predicts_the_same(tmp_path, theirs)


def test_a_part_that_is_missing_or_incomplete_is_named(mm, tmp_path, capsys):
    prepare(tmp_path, mm)
    mm.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    parts = sorted((tmp_path / "theirs").glob("*.safetensors"))
    index = tmp_path / "theirs" / "model.safetensors.index.json"
    text = index.read_text()
    content = json.loads(text)
    content["weight_map"]["model.nothing"] = parts[0].name
    index.write_text(json.dumps(content))
    assert convert(tmp_path, tmp_path / "theirs") == 2
    assert "none of its parts, model.nothing first" in capsys.readouterr().err
    index.write_text(text)
    parts[0].unlink()
    assert convert(tmp_path, tmp_path / "theirs") == 2
    assert f"there is no {parts[0]}" in capsys.readouterr().err
    index.write_text(text.replace(parts[0].name, "../" + parts[0].name))
    assert convert(tmp_path, tmp_path / "theirs") == 2
    assert "leads out of" in capsys.readouterr().err
    index.write_text("[]")
    assert convert(tmp_path, tmp_path / "theirs") == 2
    assert "expected a 'weight_map'" in capsys.readouterr().err
    index.unlink()
    assert convert(tmp_path, tmp_path / "theirs") == 2
    assert "holds no weights: expected model.safetensors" in capsys.readouterr().err


def test_another_size_and_form_are_told(mm, tmp_path, capsys):
    prepare(tmp_path, make_theirs("grounding_dino"))
    mm.save_pretrained(tmp_path / "theirs")
    assert convert(tmp_path, tmp_path / "theirs", "model.query_selection.num_queries=12") == 1
    out, err = capsys.readouterr()
    assert "box heads: the checkpoint has 3, one per layer, the config expects one for all" in out
    assert "bias of the class heads: the checkpoint has yes, the config expects no" in out
    assert "object queries: the checkpoint has 11, the config expects 12" in out
    assert "class_embed.0.bias  (UNEXPLAINED)" in out
    assert "theirs does not fit" in err and not (tmp_path / "model.pth").exists()


def test_another_family_is_told(mm, tmp_path, capsys):
    prepare(tmp_path, mm)
    torch.save({"state_dict": {"language_model.label_embed": torch.zeros(2, 2)}}, tmp_path / "x")
    assert convert(tmp_path, tmp_path / "x") == 2
    err = capsys.readouterr().err
    assert "of another family (CQ-DINO, released)" in err and "is asked in words" in err
    mm.save_pretrained(tmp_path / "theirs")
    arguments = [tmp_path / "theirs", "--config-file", "configs/coco/cqdino_sa_swinl_released.py"]
    assert convert_checkpoint.main([*map(str, arguments), "--output", str(tmp_path / "y")]) == 2
    err = capsys.readouterr().err
    assert "of Hugging Face)" in err and "has fixed categories" in err
    torch.save({"model": {"conv1.weight": torch.zeros(1)}}, tmp_path / "x")
    assert convert(tmp_path, tmp_path / "x") == 2
    assert "of no known family: found 1 names like conv1.weight" in capsys.readouterr().err
    assert convert(tmp_path, tmp_path / "theirs") == 0
    assert convert(tmp_path, tmp_path / "model.pth") == 2
    assert "has this project's names" in capsys.readouterr().err


def test_what_has_no_meaning_for_this_family_is_refused(mm, tmp_path, capsys):
    prepare(tmp_path, mm)
    mm.save_pretrained(tmp_path / "theirs")
    assert convert(tmp_path, tmp_path / "theirs", "--patch-merging", "mmdet") == 2
    assert "--patch-merging is for files of mmdetection" in capsys.readouterr().err
    assert convert(tmp_path, tmp_path / "theirs", "--annotations", "gt.json") == 2
    assert "takes no categories, tree or embeddings" in capsys.readouterr().err


def test_the_vocabulary_of_another_model_is_refused(mm, tmp_path, capsys):
    prepare(tmp_path, mm)
    mm.save_pretrained(tmp_path / "theirs")
    (tmp_path / "more.txt").write_text("\n".join([*WORDS, "one"]) + "\n", encoding="utf-8")
    other = f"model.categories.tokenizer.vocabulary_file={tmp_path / 'more.txt'}"
    assert convert(tmp_path, tmp_path / "theirs", other) == 2
    found = f"more.txt has {len(WORDS) + 1} words, the language model in {tmp_path / 'theirs'}"
    err = capsys.readouterr().err
    assert found in err and f"has {len(WORDS)}: it belongs to another model" in err
    swapped = [*WORDS[:-2], WORDS[-1], WORDS[-2]]
    (tmp_path / "theirs/vocab.txt").write_text("\n".join(swapped) + "\n", encoding="utf-8")
    assert convert(tmp_path, tmp_path / "theirs") == 2
    err = capsys.readouterr().err
    assert f"from line {len(WORDS) - 1} on ('tree', there '?')" in err


def test_a_vocabulary_file_beside_the_weights_is_read_as_the_tokenizers(mm, tmp_path, capsys):
    odd = ["a\u2028b" if word == "tree" else word for word in WORDS]  # some call it a line's end
    text = "\ufeff" + "\n".join(odd) + "\n"
    prepare(tmp_path, mm)
    mm.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs/vocab.txt").write_text(text, encoding="utf-8")
    (tmp_path / "own.txt").write_text(text, encoding="utf-8")
    own = f"model.categories.tokenizer.vocabulary_file={tmp_path / 'own.txt'}"
    assert convert(tmp_path, tmp_path / "theirs", own) == 0, capsys.readouterr().err


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_that_is_cut_short_is_named(mm, tmp_path, capsys, name):
    prepare(tmp_path, mm)
    mm.save_pretrained(tmp_path / "theirs")
    path = tmp_path / name
    torch.save(mm.state_dict(), path)
    if name.endswith("safetensors"):
        path = (tmp_path / "theirs/model.safetensors").rename(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert convert(tmp_path, path) == 2
    assert f"{name} cannot be read: it is cut short" in capsys.readouterr().err


def test_no_code_in_a_file_is_run(mm, tmp_path, capsys):
    prepare(tmp_path, mm)
    torch.save({"model": mm.state_dict(), "x": Command(tmp_path / "trace")}, tmp_path / "x.pth")
    assert convert(tmp_path, tmp_path / "x.pth") == 2
    assert "holds an object of type posix.system" in capsys.readouterr().err
    assert not (tmp_path / "trace").exists()
    torch.save({"model": mm.state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pth")
    assert convert(tmp_path, tmp_path / "x.pth") == 0  # what a training writes beside the weights


def fixture_state(name, prefix="sd/"):
    arrays = np.load(GROUNDING / f"{name}.npz")
    names = [one for one in arrays.files if one.startswith(prefix)]
    return {one.removeprefix(prefix): torch.from_numpy(arrays[one]) for one in names}


@pytest.mark.skipif(not (GROUNDING / "train_full_seed0.npz").is_file(), reason="no fixtures")
def test_mmdets_and_llmdets_files(tmp_path, capsys):
    from parity.mm_training import MMFixture

    about = json.loads((GROUNDING / "train_full_seed0.json").read_text())
    words = json.loads((GROUNDING / "gdino_text_cases.json").read_text())["vocab"]
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    arrays = np.load(GROUNDING / "train_full_seed0.npz")
    cfg = LazyConfig.load(str(ROOT / "configs/grounding_dino/mm_swint.py"))
    cfg.model = MMFixture(about, arrays, words).config(tmp_path / "words.txt")
    cfg.model.denoising.content = {"_target_": "cqdino_d2.transformer.CategoryContent", "dim": 32}
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    state = {name: tensor.float() for name, tensor in fixture_state("train_full_seed0").items()}
    llm = {f"lmm.model.layers.{i}.mlp.weight": torch.zeros(2) for i in range(30)}
    torch.save({"state_dict": state | llm, "meta": {}}, tmp_path / "llmdet.pth")
    assert convert(tmp_path, tmp_path / "llmdet.pth") == 0
    out = capsys.readouterr().out
    assert "MM-Grounding-DINO or LLMDet of mmdetection" in out and "UNEXPLAINED" not in out
    assert "lmm.model.layers.*: 30 names  (LLMDet's captioning language model" in out
    assert "patch merging's channels: mmdet" in out
    model = instantiate(load_config(tmp_path / "config.yaml").model)
    AtomicCheckpointer(model).load_weights(tmp_path / "model.pth", strict=True)
    torch.testing.assert_close(model.tokenizer.level_embedding.detach(), state["level_embed"])


@pytest.mark.skipif(not GROUNDING.is_dir(), reason=f"no structure files in {GROUNDING}")
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_name_of_the_official_checkpoints_is_explained(name):
    about = json.loads((GROUNDING / f"{name}.json").read_text())
    with torch.device("meta"):
        cfg = load_config(ROOT / f"configs/grounding_dino/{STRUCTURES[name]}.py")
        model = instantiate(cfg.model)
        state = {key: torch.empty(shape) for key, shape in about["state_dict"].items()}
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    report = ConversionReport.compare(convert_official_grounding_weights(state), expected)
    assert report.complete and not report.differences
    assert len(report.converted) + len(report.unused) == len(state)
    pooler = sum(state[key].numel() for key in state if key.startswith("bert.pooler"))
    assert report.num_parameters + pooler == about["parameters"]
