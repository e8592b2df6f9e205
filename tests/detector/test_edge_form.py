"""The light form of both detectors: trained, in a batch, exported."""

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate

from cqdino_d2.export import ExportableDetector
from cqdino_d2.export.check import Sizes, make_sample
from cqdino_d2.export.tracing import trace
from cqdino_d2.structures import TextPrompt, random_vocabulary
from tests.prompted import WORDS
from tests.tiny import NUM_CATEGORIES, ROOT, make_input, tiny_config

PROMPT = TextPrompt("a red cat. two dog.", (((2, 9),), ((11, 18),)))
SIZES = [(96, 160), (128, 75)]


def edge_config(folder):
    """The tiny text-prompted form with a vocabulary file of twelve tokens."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    cfg = LazyConfig.load(str(ROOT / "configs/models/grounding_dino_edge_tiny.py"))
    cfg.model.categories.tokenizer.vocabulary_file = str(path)
    cfg.model.categories.language_model.vocab_size = len(WORDS)
    return cfg


def cqdino_config():
    """The tiny CQ-DINO with the light form's backbone and encoder."""
    cfg, light = tiny_config(), LazyConfig.load(str(ROOT / "configs/models/cqdino_edge.py")).model
    tiny = LazyConfig.load(str(ROOT / "configs/models/grounding_dino_edge_tiny.py")).model
    assert light.encoder.first_level == tiny.encoder.first_level == 2
    assert light.selection.map_channels == light.neck.in_channels[-1]
    cfg.model.backbone, cfg.model.neck = tiny.backbone, tiny.neck
    cfg.model.encoder.update({k: tiny.encoder[k] for k in ("first_level", "image_layer", "merge")})
    cfg.model.selection.map_channels = tiny.neck.in_channels[-1]
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=NUM_CATEGORIES)
    return cfg


@pytest.fixture(params=["words", "categories"])
def model(request, tmp_path):
    cfg = edge_config(tmp_path) if request.param == "words" else cqdino_config()
    torch.manual_seed(0)
    detector = instantiate(cfg.model)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return detector


def batch(classes=None):
    seeds = enumerate(SIZES)
    items = [make_input(size, classes=classes, seed=seed) for seed, size in seeds]
    return [item | {"prompt": PROMPT} for item in items]


def test_every_parameter_is_trained(model):
    losses = model.train()(batch(classes=(0, 1)))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    untrained = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    assert untrained <= {"denoising.content.not_selected"}  # where a box has no slot


@torch.no_grad()
def test_what_another_image_shows_has_no_influence(model):
    model.eval()
    first, second = batch()
    other = second | {"image": make_input(SIZES[1], seed=7)["image"]}
    [one, _], [same, _] = model([first, second]), model([first, other])
    [_, moved] = model([other, first])
    for again in (same, moved):
        a, b = one["instances"], again["instances"]
        assert len(a) > 10
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(96, 160), (70, 75)])
@torch.no_grad()
def test_the_export_detects_what_the_detector_detects(size):
    torch.manual_seed(0)
    detector = instantiate(cqdino_config().model).eval()
    image = make_input(size)["image"].float()
    (expected,) = detector([{"image": image}])
    boxes, scores, vocab_ids = ExportableDetector(detector)(image)
    found = expected["instances"]
    torch.testing.assert_close(scores, found.scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(boxes, found.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert (vocab_ids == found.pred_classes).all()


@pytest.mark.slow
@torch.no_grad()
def test_a_trace_computes_sizes_it_was_not_made_with():
    torch.manual_seed(0)
    detector = ExportableDetector(instantiate(cqdino_config().model).eval())
    sizes = Sizes(((96, 128), (130, 100)), 33, 500)
    sample = make_sample(detector.model, sizes.traced, 0)
    program = trace(detector, sample, sizes, static=False, reference_ops=True)
    for size in ((96, 128), (75, 160)):
        image = make_input(size)["image"].float()
        for found, expected in zip(program.module()(image), detector(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
