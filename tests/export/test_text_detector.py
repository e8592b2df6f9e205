"""A detector that reads words as a function of an image and the text side of a prompt."""

import hashlib
import json

import export
import numpy as np
import pytest
import torch
from detectron2.config import instantiate

from cqdino_d2.export import ExportedDetector, TextInputs, TextSide, exportable
from cqdino_d2.export import check as export_check
from cqdino_d2.export.detector_file import load_model
from cqdino_d2.export.exportable import name_scores
from cqdino_d2.export.exported import description_of
from cqdino_d2.export.text_side import TEXT_INPUTS
from cqdino_d2.prediction import TextPredictor, get_predictor_cfg
from cqdino_d2.structures import ClassRequest, ClassSlots, Phrases
from tests.prompted import prompted_config, randomised, save_prompted

NAMES = [["cat", "red cat"], "dog", ["two bus", "bus", "a red bus"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    cfg = prompted_config(tmp_path_factory.mktemp("model"))
    return randomised(instantiate(cfg.model))


@pytest.mark.parametrize("one_per_query", [False, True])
@pytest.mark.parametrize("names", [NAMES, ["dog"], ["a red dog", "cat"]], ids=str)
def test_it_detects_what_the_model_detects(model, names, one_per_query, monkeypatch):
    monkeypatch.setattr(model.post_processor, "one_per_query", one_per_query)
    (words,) = TextSide(model)(names)
    image = export_check.make_image((70, 91), seed=1)
    detector = exportable(model)
    assert not any("categories" in name for name in detector.state_dict())
    prompt = export_check.wanted_prompts(names, model.categories.tokenizer).prompts[0]
    with torch.no_grad():
        (expected,) = model([{"image": image, "prompt": prompt}])
        arrays = [torch.from_numpy(words.arrays[name]) for name in TEXT_INPUTS]
        boxes, scores, ids = detector(image, *arrays)
    found = expected["instances"]
    count = len(found)
    assert len(scores) == detector.num_detections >= count > 0
    torch.testing.assert_close(scores[:count], found.scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(boxes[:count], found.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert (ids[:count] == found.pred_classes).all()
    assert (ids[count:] == -1).all() and (scores[count:] == 0).all()


@pytest.mark.parametrize("several_names", [False, True])
def test_it_detects_what_a_text_predictor_detects(tmp_path, several_names):
    config, weights = save_prompted(tmp_path)
    options = {"several_names": True} if several_names else {}
    model, _ = load_model(config, weights, **options)
    sample = export_check.make_sample(model, (70, 91), 0, NAMES)
    with torch.no_grad():
        boxes, scores, _ = exportable(model)(**sample.tensors())
    cfg = get_predictor_cfg(config, weights=weights, device="cpu")
    options = {"one_per_query": False} if several_names else {}
    expected = export_check.reference_detections(TextPredictor(cfg, **options).model, sample.item)
    np.testing.assert_allclose(scores, expected[1], atol=1e-6)
    assert (len(boxes.unique(dim=0)) < len(boxes)) == several_names


def test_name_scores_are_those_of_the_slots():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(5, 7, generator=generator)
    by_name = torch.rand(3, 2, 7, generator=generator) > 0.5
    by_name[1, 1] = False  # a name with one phrase
    members = by_name.flatten(0, 1)[None]
    vocab_ids = torch.tensor([[0, 0, 1, -1, 2, 2]])
    slots = ClassSlots(
        torch.zeros(1, 7, 4),
        torch.full((1, 7), -1),
        torch.ones(1, 7, dtype=torch.bool),
        phrases=Phrases(members, vocab_ids),
    )
    ids, expected = slots.pool(values, 0)
    assert ids.tolist() == [0, 1, 2]
    torch.testing.assert_close(name_scores(values, by_name), expected)


def test_padding_tokens_and_rows_change_nothing(model):
    """As for a runtime that wants fixed numbers of tokens and names."""
    (words,) = TextSide(model)(NAMES)
    tokens, names = len(words.arrays["text_valid"]), len(words.arrays["name_ids"])
    more = {"text_features": (5, 0), "text_position": (5, 0), "text_valid": (5,)}
    more |= {"text_visible": (5, 5), "phrases": (2, 1, 5), "name_ids": (2,)}
    padded = {
        name: np.pad(words.arrays[name], [(0, amount) for amount in more[name]])
        for name in TEXT_INPUTS
    }
    padded["name_ids"][names:] = -1
    padded["text_features"][tokens:] = 7.0
    image, detector = export_check.make_image((64, 80), seed=2), exportable(model)
    with torch.no_grad():
        results = [
            detector(image, *(torch.from_numpy(arrays[name]) for name in TEXT_INPUTS))
            for arrays in (words.arrays, padded)
        ]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_words_are_kept_in_a_file(model, tmp_path):
    (words,) = TextSide(model)(NAMES)
    words.save(tmp_path / "words.npz")
    loaded = TextInputs.load(tmp_path / "words.npz")
    assert loaded.names == words.names == ("cat", "dog", "two bus")
    assert loaded.checkpoint == words.checkpoint
    for name in TEXT_INPUTS:
        np.testing.assert_array_equal(loaded.arrays[name], words.arrays[name])
    (tmp_path / "other.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"other\.npz holds no text inputs"):
        TextInputs.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        TextInputs.load(tmp_path / "none.npz")


def exported(folder, *more, output="detector.onnx"):
    config, weights = save_prompted(folder)
    start = ["--config-file", str(config), "--weights", str(weights)]
    sizes = ["--format", "onnx", "--height", "96", "--width", "128"]
    assert export.main([*start, *sizes, "--output", str(folder / output), *more]) == 0
    return start


@pytest.mark.slow
def test_from_a_checkpoint_to_detections(tmp_path, capsys):
    """The text detector has a Swin backbone: sizes are dynamic there, too."""
    for package in ("onnx", "onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    start = exported(tmp_path, "--openvino")
    assert capsys.readouterr().out.count("100.0% of the detections agree") == 6
    facts = json.loads((tmp_path / "detector.onnx.json").read_text())
    assert facts["text_inputs"] == list(TEXT_INPUTS) and "names" not in facts
    output = tmp_path / "new" / "words.npz"
    command = [*start, "--format", "words", "--output", str(output), "--text", "a cat. red dog."]
    assert export.main(command) == 0
    words = TextInputs.load(output)
    image = export_check.make_image((75, 133), seed=3).numpy()
    results = [
        ExportedDetector(tmp_path / "detector.onnx", runtime=runtime, threads=1)(image, [words])
        for runtime in ("onnxruntime", "openvino")
    ]
    for found in results:
        assert set(found.names) <= {"a cat", "red dog"} and len(found.names) == len(found.scores)
        assert (np.diff(found.scores) <= 0).all()
        np.testing.assert_allclose(found.scores, results[0].scores, atol=1e-4)
    check_bad_input(tmp_path / "detector.onnx", words, image)


def check_bad_input(path, words, image):
    detector = ExportedDetector(path)
    wrong = TextInputs(words.names, words.arrays, "0" * 16)
    for bad, passes, message in [
        (image[:, :9], [words], r"takes images of sides of \d+ to \d+ pixels, got 9 x 133"),
        (image.astype(np.uint8), [words], "of float32, got .* of uint8"),
        (image, [], "needs a prompt"),
        (image, [wrong], "read by another model"),
    ]:
        with pytest.raises(ValueError, match=message):
            detector(bad, passes)
    with pytest.raises(ValueError, match="runtime must be onnxruntime or openvino"):
        ExportedDetector(path, runtime="tensorrt")
    (path.parent / "other.onnx").write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"no .*other\.onnx\.json"):
        ExportedDetector(path.parent / "other.onnx")
    (path.parent / "other.onnx.json").write_text('{"format": "onnx"}')
    with pytest.raises(ValueError, match="describes no ONNX file of this package"):
        ExportedDetector(path.parent / "other.onnx")
    (path.parent / "other.onnx").write_bytes(b"no graph")
    facts = json.loads(description_of(path).read_text())
    (path.parent / "other.onnx.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"other\.onnx is another file than .*other\.onnx\.json"):
        ExportedDetector(path.parent / "other.onnx")
    facts["sha256"] = hashlib.sha256(b"no graph").hexdigest()
    (path.parent / "other.onnx.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="onnxruntime cannot read the file"):
        ExportedDetector(path.parent / "other.onnx")


def test_bad_words_are_one_line(tmp_path, capsys):
    config, weights = save_prompted(tmp_path, max_tokens=8)
    start = ["--config-file", str(config), "--weights", str(weights), "--format", "words"]
    start += ["--output", str(tmp_path / "words.npz")]
    (tmp_path / "names.txt").write_text("cat\ndog\nbus\nred cat\n")
    for more, message in [
        ([], "--format words needs --text or --names"),
        (["--names", str(tmp_path / "names.txt")], "4 names need 2 passes of 8 tokens"),
        (["--text", " . "], "a prompt needs words"),
        (["--text", "a red cat a red cat a red cat"], "a prompt holds 6"),
        (["--names", str(tmp_path / "none.txt")], "none.txt"),
    ]:
        assert export.main([*start, *more]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and message in said[0]
    assert not (tmp_path / "words.npz").exists()


def test_many_names_are_looked_for_in_passes(tmp_path):
    torch.manual_seed(0)
    model = randomised(instantiate(prompted_config(tmp_path, max_tokens=8).model))
    names = ["cat", "dog", "bus", "red cat"]
    passes = TextSide(model)(names)
    assert len(passes) > 1 and all(one.names == tuple(names) for one in passes)
    image, detector = export_check.make_image((64, 80), seed=2), exportable(model)
    found = []
    with torch.no_grad():
        for one in passes:
            _, scores, ids = detector(
                image, *(torch.from_numpy(one.arrays[name]) for name in TEXT_INPUTS)
            )
            found += list(zip(scores.tolist(), ids.tolist(), strict=True))
        prompt = export_check.wanted_prompts(names, model.categories.tokenizer).prompts
        request = ClassRequest(passes=model.read_prompts(prompt))
        expected = model([{"image": image}], request)[0]["instances"]
    best = sorted((pair for pair in found if pair[1] >= 0), reverse=True)[: len(expected)]
    np.testing.assert_allclose([score for score, _ in best], expected.scores, atol=1e-6)
