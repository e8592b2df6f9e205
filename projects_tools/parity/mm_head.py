"""Recorded numbers of MM-Grounding-DINO's head alone (mmdet), and our parts on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor, nn

from cqdino_d2.checkpoint import ReleasedConversion, convert_mmdet_grounding_weights
from cqdino_d2.layers import inverse_sigmoid
from cqdino_d2.structures import ClassSlots, DecoderOutput, ImageTargets, Phrases, Proposals

from .fixture import ROOT, Recorded, released_loss_name
from .mm_training import (
    CONFIG,
    check_assignments,
    check_losses,
    recorded_draws,
    recorded_logits,
    targets_of,
)

NO_LOGIT = -1e4  # of a slot without a token: its probability is 0


class HeadFixture(Recorded):
    """States of a decoder, texts and objects in; predictions, losses and gradients out."""

    @cached_property
    def conversion(self) -> ReleasedConversion:
        """The weights of the heads and of the denoising labels."""
        names = {n: n if n.startswith("dn_query") else f"bbox_head.{n}" for n in self.names("sd/")}
        return convert_mmdet_grounding_weights(
            {theirs: self.tensor(f"sd/{name}") for name, theirs in names.items()}
        )

    def parts(self) -> nn.ModuleDict:
        """Decoder (of which only the heads have weights), denoising, criterion, post-processor."""
        dims, model = self.about["dims"], LazyConfig.load(str(ROOT / CONFIG)).model
        model.neck.dim = dims["embed_dims"]
        model.decoder.update(num_layers=dims["decoder_layers"], num_heads=2, hidden_dim=8)
        model.query_selection.num_queries = dims["num_queries"]
        model.denoising.num_queries = self.about["dn_cfg"]["num_dn_queries"]
        model.denoising.content = {
            "_target_": "cqdino_d2.transformer.ReleasedLabelContent",
            "dim": dims["embed_dims"],
            "num_labels": len(self.tensor("sd/dn_query_generator.label_embedding.weight")),
        }
        model.post_processor.num_detections = dims["max_per_img"]
        names = ("decoder", "denoising", "criterion", "post_processor")
        parts = nn.ModuleDict({name: instantiate(model[name]) for name in names})
        parts.load_state_dict(self.conversion.weights, strict=False)
        return parts

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every image."""
        return [tuple(size) for size in self.about["img_shapes_hw"]]

    def targets(self) -> list[ImageTargets]:
        """Ground truth of each image."""
        return [
            targets_of(self.tensor(f"in/gt_boxes.{i}"), self.tensor(f"in/gt_labels.{i}"), size)
            for i, size in enumerate(self.sizes)
        ]

    def named(self, features: Tensor) -> ClassSlots:
        """The tokens of each image, and what its objects are called."""
        images = range(len(self.sizes))
        maps = [self.tensor(f"in/positive_map.{i}") > 0 for i in images]
        return self._slots(features, maps, [self.tensor(f"in/gt_labels.{i}") for i in images])

    def asked(self, features: Tensor) -> ClassSlots:
        """The same tokens with what is predicted; None stands for the text as one thing."""
        length, maps, labels = features.shape[1], [], []
        for tokens in self.about["token_positive_maps"]:
            rows = list(tokens.values()) if tokens else [[place] for place in range(length)]
            maps.append(torch.zeros(len(rows), length, dtype=torch.bool))
            for row, places in zip(maps[-1], rows, strict=True):
                row[places] = True
            ids = [int(label) - 1 for label in tokens] if tokens else [0] * length
            labels.append(torch.tensor(ids))
        return self._slots(features, maps, labels)

    def alone(self, image: int) -> tuple[ClassSlots, DecoderOutput, Proposals]:
        """The recorded predictions of one image without its denoising queries."""
        one = slice(image, image + 1)
        slots = self.named(self.tensor("in/memory_text"))
        phrases = Phrases(slots.phrases.members[one], slots.phrases.vocab_ids[one])
        slots = ClassSlots(
            slots.features[one], slots.vocab_ids[one], slots.valid[one], phrases=phrases
        )
        noised = self.about["dn_meta"]["num_denoising_queries"]
        logits = self.tensor("out/all_cls_scores")[:, one, noised:, : slots.num_slots]
        logits = logits.masked_fill(~slots.valid[:, None], NO_LOGIT)
        output = DecoderOutput(logits, self.tensor("out/all_bbox_preds")[:, one, noised:])
        encoder = (self.tensor(f"in/{name}")[one] for name in ("enc_class", "enc_coord"))
        return slots, output, proposals_of(*encoder, slots)

    def _slots(
        self, features: Tensor, maps: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> ClassSlots:
        batch, length, _ = features.shape
        members = torch.zeros(batch, max(map(len, maps)), length, dtype=torch.bool)
        ids = torch.full(members.shape[:2], -1)
        for image, (own, names) in enumerate(zip(maps, labels, strict=True)):
            members[image, : len(own)] = own[:, :length]
            ids[image, : len(own)] = names
        nothing, valid = torch.full((batch, length), -1), self.tensor("in/text_token_mask")
        return ClassSlots(features, nothing, valid, phrases=Phrases(members, ids))


def check_mm_head(fixture: HeadFixture, compare: Any) -> None:
    """Forward, denoising queries, assignments, losses, gradients and predictions."""
    parts, targets = fixture.parts(), fixture.targets()
    inputs = {
        name: fixture.tensor(f"in/{name}").nan_to_num(neginf=0.0).requires_grad_()
        for name in ("hidden_states", "memory_text", "enc_coord", "enc_class")
    }
    slots = fixture.named(inputs["memory_text"])
    output = _predict(parts["decoder"], inputs["hidden_states"], slots, fixture)
    logits = recorded_logits(output.logits, slots, inputs["enc_class"].shape[-1])
    compare.close("all_cls_scores", logits, fixture.tensor("out/all_cls_scores"))
    compare.close("all_bbox_preds", output.boxes_cxcywh_norm, fixture.tensor("out/all_bbox_preds"))
    with recorded_draws(parts["denoising"], fixture, targets):
        group = parts["denoising"](targets, slots)
    compare.close("label_query", group.content, fixture.tensor("dn/label_query"))
    boxes = fixture.tensor("dn/bbox_query_unact").sigmoid()
    compare.close("bbox_query", group.boxes_cxcywh_norm, boxes)
    compare.same("attn_mask", group.attention_mask, fixture.tensor("dn/attn_mask"))
    proposals = proposals_of(inputs["enc_class"], inputs["enc_coord"], slots)
    layers = [*output.split(group.content.shape[1])[1].layers(), proposals.predictions()]
    criterion = parts["criterion"]
    check_assignments(criterion.matcher, layers, slots, targets, fixture, compare)
    losses = criterion(output, proposals, slots, targets, group)
    check_losses(losses, fixture.about["losses"], compare)
    sum(losses.values()).backward()
    _check_gradients(parts, inputs, fixture, compare)
    _check_images_alone(criterion, fixture, compare)
    _check_predictions(parts["post_processor"], output, fixture, compare)


def _predict(
    decoder: nn.Module, states: Tensor, slots: ClassSlots, fixture: Recorded
) -> DecoderOutput:
    """What the heads make of the states (layers, B, Q, C) and the recorded references."""
    logits, boxes = [], []
    for layer, own in enumerate(states):
        logits.append(decoder.class_heads[layer](own, slots))
        start = inverse_sigmoid(fixture.tensor(f"in/reference.{layer}"), decoder.prediction_eps)
        boxes.append((decoder.box_heads[layer](own) + start).sigmoid())
    return DecoderOutput(torch.stack(logits), torch.stack(boxes))


def proposals_of(logits: Tensor, boxes: Tensor, slots: ClassSlots) -> Proposals:
    """The encoder's recorded predictions as our proposals."""
    logits = logits[..., : slots.num_slots].masked_fill(~slots.valid[:, None], NO_LOGIT)
    return Proposals(boxes, boxes, logits, torch.arange(boxes.shape[1]).expand(len(boxes), -1))


def _check_gradients(
    parts: nn.Module, inputs: dict[str, Tensor], fixture: HeadFixture, compare: Any
) -> None:
    for name, tensor in inputs.items():
        compare.close(f"grad {name}", tensor.grad, fixture.tensor(f"grad/{name}"))
    parameters = dict(parts.named_parameters())
    for ours, theirs in fixture.conversion.released_name.items():
        name = f"grad/{theirs.removeprefix('bbox_head.')}"
        if name in fixture:
            compare.close(f"grad {ours}", parameters[ours].grad, fixture.tensor(name))


def _check_images_alone(criterion: nn.Module, fixture: HeadFixture, compare: Any) -> None:
    """The losses of each image by itself; the last has no object."""
    for image, target in enumerate(fixture.targets()):
        slots, output, proposals = fixture.alone(image)
        losses = criterion(output, proposals, slots, [target], None)
        layers = [(layer.name, f"d{i}") for i, layer in enumerate(output.layers())]
        rows = fixture.about.get(f"matching_losses_image_{image}_alone (cls,bbox,iou)")
        if rows is not None:
            for ours, theirs in [*layers, ("_enc", "enc")]:
                values = torch.stack([losses[f"loss_{n}{ours}"] for n in ("class", "l1", "giou")])
                compare.close(f"{image} alone, {theirs}", values, torch.tensor(rows[theirs]))
        elif not len(target):
            recorded = fixture.about["losses_only_the_empty_image_zero_dn_queries"]
            for name, value in losses.items():
                wanted = torch.tensor(recorded[released_loss_name(name)])
                compare.close(f"{image} alone, {name}", value, wanted)


def _check_predictions(
    post_processor: nn.Module, output: DecoderOutput, fixture: HeadFixture, compare: Any
) -> None:
    """The detections; the recorded boxes are those of an image smaller by 1.25."""
    slots, last = fixture.asked(fixture.tensor("in/memory_text")), output.logits.shape[2]
    queries = output.split(last - fixture.about["dims"]["num_queries"])[1]
    found = post_processor(queries, slots, fixture.sizes, fixture.sizes)
    for i, item in enumerate(found):
        instances = item["instances"]
        compare.close(f"pred.{i}.scores", instances.scores, fixture.tensor(f"pred/{i}.scores"))
        compare.same(f"pred.{i}.labels", instances.pred_classes, fixture.tensor(f"pred/{i}.labels"))
        boxes = instances.pred_boxes.tensor / 1.25
        compare.close(f"pred.{i}.boxes", boxes, fixture.tensor(f"pred/{i}.boxes"))
