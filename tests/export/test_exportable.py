"""The detector as a function of one picture."""

import pytest
import torch
from detectron2.config import LazyCall, instantiate

from cqdino_d2.detector import CategoryTagger
from cqdino_d2.export import ExportableDetector
from tests.tiny import tiny_config, tiny_model


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator) * 255


@pytest.mark.parametrize("relation", ["tree", "sa"])
@pytest.mark.parametrize("size", [(64, 64), (97, 130), (70, 201)])
def test_it_detects_what_the_detector_detects(relation, size):
    model = tiny_model(relation).eval()
    image = picture(*size)
    with torch.no_grad():
        (expected,) = model([{"image": image}])
        boxes, scores, vocab_ids = ExportableDetector(model)(image)
    instances = expected["instances"]
    torch.testing.assert_close(scores, instances.scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(boxes, instances.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert (vocab_ids == instances.pred_classes).all()


def test_the_category_part_is_a_constant():
    model = tiny_model().eval()
    detector = ExportableDetector(model)
    assert not any("relation" in name or "embeddings" in name for name in detector.state_dict())
    assert not any(True for p in detector.parameters() if p.requires_grad)
    image = picture(64, 80)
    with torch.no_grad():
        before = detector(image)
        model.categories.embeddings.zero_()  # a copy was exported
        after = detector(image)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)
    assert model.denoising is not None and model.categories.embeddings.requires_grad


def test_fewer_categories_than_slots():
    model = tiny_model(num_categories=5).eval()
    image = picture(64, 64)
    with torch.no_grad():
        expected = model([{"image": image}])[0]["instances"]
        boxes, scores, vocab_ids = ExportableDetector(model)(image)
    assert len(scores) == 160 and len(expected) == 100  # 20 queries with 8 or 5 slots
    torch.testing.assert_close(scores[:100], expected.scores, rtol=0, atol=1e-6)
    assert (scores[100:] == 0).all() and vocab_ids.max() < 5


def test_what_cannot_be_exported_is_refused():
    with pytest.raises(ValueError, match="at random is no function of the image"):
        ExportableDetector(tiny_model(overrides=["model.selection.ranking=random"]))
    cfg = tiny_config()
    names = ("backbone", "categories", "selection")
    parts = {name: cfg.model[name] for name in names}
    cfg.tagger = LazyCall(CategoryTagger)(
        category_loss=cfg.model.criterion.category_loss, autocast_dtype=None, **parts
    )
    with pytest.raises(ValueError, match="got CategoryTagger, which predicts no boxes"):
        ExportableDetector(instantiate(cfg.tagger))
