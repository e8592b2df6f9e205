"""Compares our model with recorded numbers of the released implementation, stage by stage.

Example:
    python projects_tools/check_parity.py FIXTURE.json [MORE.json ...]

A fixture is of CQ-DINO, of the official Grounding DINO, of MM-Grounding-DINO's training, of
Hugging Face's losses, or of the official RichSem; what it is is seen from the file.

Prints the largest absolute difference of every stage and the relative difference of its norm;
exits 0 only if all agree: 1e-4 relative in norm, the same top-K sets, the same predictions in the
same order apart from ties, losses and gradients to 1e-4 relative.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from detectron2.structures import ImageList
from parity.fixture import (
    ParityFixture,
    read_about,
    recorded_noise,
    released_loss_name,
)
from parity.richsem import richsem_check
from parity.text_fixtures import text_check
from torch import Tensor, nn

from cqdino_d2.checkpoint import convert_released_weights
from cqdino_d2.structures import Detected
from cqdino_d2.transformer import denoising

TOLERANCE = 1e-4
# a logit and target of 0 where an ancestor is masked: what the released loss adds for each
_MASKED_CONSTANT = -((1 - 0.55) ** 7) * torch.tensor(0.55).log().item()


class Comparison:
    """Collects and prints one line per stage."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def close(self, stage: str, ours: Tensor, recorded: Tensor) -> None:
        """Compares floats; infinite entries must be infinite on both sides."""
        ours, recorded = ours.detach().double(), recorded.double()
        if ours.shape != recorded.shape:
            self._line(stage, f"shape {tuple(ours.shape)}, expected {tuple(recorded.shape)}", False)
            return
        finite = recorded.isfinite()
        same_infinities = torch.equal(finite, ours.isfinite())
        difference = (ours - recorded)[finite & ours.isfinite()]
        scale = max(float(recorded[finite].norm()), 1e-12)
        largest = float(difference.abs().max()) if difference.numel() else 0.0
        relative = float(difference.norm()) / scale
        text = f"absolute {largest:9.2e}   relative {relative:9.2e}"
        self._line(stage, text, same_infinities and relative <= TOLERANCE)

    def same(self, stage: str, ours: Tensor, recorded: Tensor) -> None:
        """Compares integers or truth values."""
        agree = ours.shape == recorded.shape and bool((ours == recorded).all())
        self._line(stage, "the same" if agree else "DIFFERENT", agree)

    def equal(self, stage: str, ours: Any, recorded: Any) -> None:
        """Compares texts, numbers and lists of them."""
        agree = ours == recorded
        self._line(stage, "the same" if agree else f"{ours!r}, expected {recorded!r}", agree)

    def as_recorded(self, stage: str, ours: Tensor, recorded: Tensor) -> None:
        """Floats by their difference, the rest exactly."""
        (self.close if recorded.is_floating_point() else self.same)(stage, ours, recorded)

    def _line(self, stage: str, text: str, passed: bool) -> None:
        print(f"  {stage:34s} {text}{'' if passed else '   <-- FAILED'}")
        if not passed:
            self.failed.append(stage)


def record(model: nn.Module) -> tuple[dict[str, Any], Callable[[], None]]:
    """Keeps what named modules return when first called, until the second result is called."""
    seen: dict[str, Any] = {}
    handles = [
        module.register_forward_hook(
            lambda _, inputs, out, n=name: seen.setdefault(n, (inputs, out)) and None
        )
        for name, module in model.named_modules()
    ]

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return seen, stop


def run_stages(model: nn.Module, fixture: ParityFixture, training: bool) -> Detected:
    """Runs the detector on the fixture's normalised, padded images."""
    targets = fixture.targets() if training else None
    return model.run(ImageList(fixture.images(), fixture.image_sizes), targets)


def check_inference(model: nn.Module, fixture: ParityFixture, compare: Comparison) -> None:
    """All stages of a forward pass, then the predictions."""
    model.eval()
    model.selection.chunk_size = None  # so that a layer's first call sees all categories
    seen, stop = record(model)
    with torch.no_grad():
        result = run_stages(model, fixture, training=False)
    stop()
    ours = inference_stages(model, seen, result)
    for name, tensor in ours.items():
        if f"eval/{name}" in fixture:
            recorded = fixture.tensor(f"eval/{name}")
            if name == "enc_coord_unact":
                recorded = _take(recorded, result.proposals.token_ids)
            if tensor.dim() + 1 == recorded.dim():  # recorded per image, though it is the same
                tensor = tensor.expand_as(recorded)
            compare.as_recorded(name, tensor, recorded)
    check_predictions(model, fixture, result, compare)


def _take(x: Tensor, token_ids: Tensor) -> Tensor:
    return x.gather(1, token_ids[..., None].expand(-1, -1, x.shape[-1]))


def inference_stages(model: nn.Module, seen: dict[str, Any], result: Detected) -> dict[str, Tensor]:
    """Our tensors under the fixture's names, in the order of computation."""
    image, selected, proposals = seen["tokenizer"][1], result.selected, result.proposals
    stages = {f"backbone.{i}": x for i, x in enumerate(seen["backbone"][1].values())}
    stages |= {f"neck.{i}": x for i, x in enumerate(seen["neck"][1])}
    if "backbone.body.patch_embed" in seen:
        first_stage = {
            "patch_embed": "backbone.body.patch_embed",
            "swin_stage0_prenorm": "backbone.body.layers_0",
            "swin_stage0_down": "backbone.body.layers_1.downsample",
        }
        stages |= {name: seen[module][1].flatten(1, 2) for name, module in first_stage.items()}
    stages["label_relu"] = seen["categories.projection"][1].relu()
    if hasattr(model.categories.relation, "num_steps"):
        stages["after_tree"] = seen["categories.relation.norm"][0][0]
    stages["after_label_norm"] = stages["after_label_attn"] = seen["categories.relation"][1]
    stages["image_tokens"] = seen["selection.image_projection"][1]
    stages |= {
        f"tag_layer{i}": seen[f"selection.layers.{i}"][1]
        for i in range(len(model.selection.layers))
    }
    stages |= dict(
        category_logits=selected.scores.logits,
        topk_categories=selected.vocab_ids,
        text_feat=selected.features,
    )
    stages["enc_in.pos"], stages["enc_in.mask"] = image.position, image.padding_mask
    stages["enc_in.spatial_shapes"] = image.spatial_shapes
    stages["enc_in.valid_ratios"] = image.valid_ratios
    for i in range(len(model.encoder.fusion_layers)):
        visual, text = seen[f"encoder.fusion_layers.{i}"][1]
        stages[f"enc_fusion{i}.visual"] = visual.features
        stages[f"enc_fusion{i}.text"] = text.features
        stages[f"enc_layer{i}"] = seen[f"encoder.image_layers.{i}"][1]
    stages |= dict(memory=result.tokens.features, memory_text=result.slots.features)
    stages["output_memory"] = seen["query_selection.norm"][1]
    stages["enc_class"] = seen["query_selection.class_head"][1]
    stages["enc_coord_unact"] = proposals.boxes_cxcywh_norm.logit()
    stages["topk_proposals"] = proposals.token_ids
    stages["dec_in.query"] = proposals.content
    stages["dec_in.reference_points"] = proposals.boxes_cxcywh_norm
    for i in range(len(model.decoder.layers)):
        stages[f"dec_layer{i}"] = seen[f"decoder.layers.{i}"][1]
    stages["dec_class"] = result.output.logits
    stages["dec_boxes"] = result.output.boxes_cxcywh_norm
    return stages


def check_predictions(
    model: nn.Module, fixture: ParityFixture, result: Detected, compare: Comparison
) -> None:
    """The final detections; the order may differ only among equal scores."""
    factors = fixture.tensor("in/scale_factors")  # (w, h) of the resize before
    sizes = fixture.image_sizes
    found = model.post_processor(result.output, result.slots, sizes, sizes)
    for image, item in enumerate(found):
        instances, prefix = item["instances"], f"pred.{image}"
        boxes = instances.pred_boxes.tensor / factors[image].repeat(2)
        scores = fixture.tensor(f"eval/{prefix}.scores")
        labels = fixture.tensor(f"eval/{prefix}.class_labels")
        compare.close(f"{prefix}.scores", instances.scores, scores)
        recorded_boxes = fixture.tensor(f"eval/{prefix}.bboxes")
        swapped = (instances.pred_classes != labels) | (
            (boxes - recorded_boxes).abs().amax(dim=1) > 1e-2 * recorded_boxes.abs().max()
        )
        gaps = torch.cat(
            [torch.tensor([1.0]), (scores[:-1] - scores[1:]).abs(), torch.tensor([1.0])]
        )
        tied = torch.minimum(gaps[:-1], gaps[1:]) < 1e-5
        compare.same(f"{prefix}.class_labels", swapped & ~tied, torch.zeros_like(swapped))
        compare.close(f"{prefix}.bboxes", boxes[~swapped], recorded_boxes[~swapped])


def check_training(model: nn.Module, fixture: ParityFixture, compare: Comparison) -> None:
    """The denoising group, the losses and the gradients."""
    model.train()
    local = [fixture.tensor(f"gt/local_labels.{i}") for i in range(len(fixture.image_sizes))]
    num_labels = model.denoising.content.embedding.num_embeddings
    drawn = ("rand_label_p", "rand_new_labels", "rand_sign01", "rand_part")
    noise = recorded_noise(*(fixture.tensor(f"dn/{name}") for name in drawn), num_labels)
    labels = (torch.cat(local), num_labels)
    with (
        mock.patch.object(denoising, "draw_noise", lambda *_: noise),
        mock.patch.object(model.denoising.content, "labels", lambda *_: labels),
    ):
        result = run_stages(model, fixture, training=True)
    group, output = result.denoising, result.output
    compare.close("dn.label_query", group.content, fixture.tensor("dn/label_query"))
    compare.same("dn.attn_mask", group.attention_mask, fixture.tensor("dn/attn_mask"))
    compare.close("train.dec_class", output.logits, fixture.tensor("train/dec_class"))
    compare.close("train.dec_boxes", output.boxes_cxcywh_norm, fixture.tensor("train/dec_boxes"))
    targets = fixture.targets()
    losses = model.criterion(output, result.proposals, result.slots, targets, group)
    check_losses(model, fixture, losses, compare)
    sum(losses.values()).backward()
    check_gradients(model, fixture, compare)


def check_losses(
    model: nn.Module, fixture: ParityFixture, losses: dict[str, Tensor], compare: Comparison
) -> None:
    """Every loss; masked ancestors add a constant to the released category loss only."""
    for name, value in losses.items():
        if name == "loss_category":
            value = value + _MASKED_CONSTANT * count_masked(model, fixture)
        recorded = torch.tensor(fixture.about["losses"][released_loss_name(name)])
        compare.close(name, value, recorded)


def count_masked(model: nn.Module, fixture: ParityFixture) -> int:
    """How many (image, category) pairs the ancestor mask leaves out."""
    num_categories = len(model.categories.embeddings)
    _, counted = model.criterion.category_loss.image_labels(fixture.targets(), num_categories)
    return int((~counted).sum())


def check_gradients(model: nn.Module, fixture: ParityFixture, compare: Comparison) -> None:
    """Gradients of the total loss for the parameters that were recorded."""
    recorded = {name: fixture.tensor(f"grad/{name}") for name in fixture.names("grad/")}
    # all names go through the conversion, for it counts heads and maps; values are the gradients
    state = {name: recorded.get(name, torch.empty(0)) for name in fixture.names("sd/")}
    parameters = dict(model.named_parameters())
    for name, gradient in convert_released_weights(state).weights.items():
        if gradient.numel():
            compare.close(f"grad {name}", parameters[name].grad, gradient)


def check_fixture(path: Path, compare: Comparison) -> None:
    """All that a fixture recorded.

    Raises:
        FileNotFoundError, ValueError: it cannot be used.
    """
    about = read_about(path)
    if check := text_check(about) or richsem_check(about):
        check(path, about, compare, record)
        return
    fixture = ParityFixture.load(path)
    model = fixture.model()
    check_inference(model, fixture, compare)
    if "dn/label_query" in fixture:
        check_training(model, fixture, compare)


def main(arguments: list[str] | None = None) -> int:
    """Checks every fixture; the exit code is 0 only if all stages of all of them agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fixtures", nargs="+", type=Path, metavar="FIXTURE.json")
    failed = 0
    for path in parser.parse_args(arguments).fixtures:
        print(path.stem)
        compare = Comparison()
        try:
            check_fixture(path, compare)
        except (ValueError, FileNotFoundError) as error:
            print(f"  ERROR: {error}")
            failed += 1
            continue
        failed += bool(compare.failed)
        print(f"  {'DISAGREES in ' + ', '.join(compare.failed) if compare.failed else 'agrees'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
