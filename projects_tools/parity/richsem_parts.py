"""Recorded numbers of single parts of the official RichSem, and ours on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor
from torch.nn import functional as F

from cqdino_d2.criterion import FederatedFocalLoss, Matched, SemanticLoss
from cqdino_d2.structures import (
    ClassSlots,
    ImageTargets,
    LayerPredictions,
    Vocabulary,
    flat_vocabulary,
)
from cqdino_d2.text.prompts import encode_categories, prompts_of, read_templates

from .fixture import ROOT, Recorded
from .richsem_whole import CONFIG, recorded_tower, teacher_config

_FREQUENCY_DRAWS, _FREQUENCY_GAP = 4000, 0.045  # five standard deviations of two frequencies


def vocabulary_of(count: int) -> Vocabulary:
    """Categories without names that matter."""
    return flat_vocabulary([f"category {i}" for i in range(count)])


def check_teacher(fixture: Recorded, path: Path, compare: Any) -> None:
    """Every stage of the teacher on its own images and boxes."""
    weights = path.with_name(path.name.replace("a_teacher", "a_teacher_weights"))
    sizes = fixture.tensor("sizes_hw").tolist()
    targets = [
        ImageTargets(boxes, torch.zeros(len(boxes)).long(), tuple(size))
        for boxes, size in zip(fixture.tensor("boxes_cxcywh"), sizes, strict=True)
    ]
    images = fixture.tensor("images_normalised_padded")
    node = LazyConfig.load(str(ROOT / CONFIG)).model.teacher
    del node.pixel_mean, node.pixel_std  # the detector's, which are the teacher's defaults
    teacher = instantiate(node)
    teacher.make_tower = lambda: recorded_tower(**teacher_config(weights))
    tower = teacher.tower(images.device)
    with torch.no_grad():
        clip_input = teacher.renormalised(images, tower)
        compare.close("clip_input", clip_input, fixture.tensor("clip_input"))
        compare.close("conv_map", tower(clip_input), fixture.tensor("conv_map"))
        regions = teacher.regions(tower, images, targets)
        compare.close("roi_features", regions, fixture.tensor("roi_features"))
        small = F.interpolate(clip_input, size=(224, 224))
        whole, recorded = tower.visual(small), fixture.tensor("whole_image_224_embedding")
        compare.close("whole_image_224_embedding", whole, recorded)
    pooled = torch.cat([t.region_embeddings for t in teacher(images, targets)])
    compare.close("pooled", pooled, fixture.tensor("pooled"))
    table = fixture.tensor("text_embedding_raw")
    branch = semantic_loss(table, dim=1)
    compare.close("region_embedding", F.normalize(pooled), fixture.tensor("region_embedding"))
    compare.close(
        "text_embedding", branch.unit_table(table.device), fixture.tensor("text_embedding")
    )
    compare.close("logit_scale", torch.tensor(branch.scale), fixture.tensor("logit_scale_exp"))
    probabilities = branch.log_probabilities(pooled).exp()
    compare.close("probabilities", probabilities, fixture.tensor("probabilities"))


def semantic_loss(table: Tensor, dim: int) -> SemanticLoss:
    """The branch with a table."""
    vocabulary = vocabulary_of(len(table))
    return SemanticLoss(
        dim=dim, text_dim=table.shape[1], table=lambda: table, vocabulary=vocabulary
    )


def matched_of(
    fixture: Recorded, prefix: str, seen: Sequence[Tensor], normaliser: float
) -> Matched:
    """Recorded pairs of the two images."""
    queries = [fixture.tensor(f"{prefix}{i}_query") for i in range(2)]
    targets = [fixture.tensor(f"{prefix}{i}_target") for i in range(2)]
    nothing = torch.zeros(0)
    return Matched(
        images=torch.cat([torch.full_like(q, i) for i, q in enumerate(queries)]),
        query_ids=torch.cat(queries),
        target_ids=torch.cat(targets),
        class_targets=nothing,
        boxes_cxcywh_norm=nothing,
        normaliser=normaliser,
        vocab_ids=nothing,
        slot_vocab_ids=nothing,
        region_embeddings=torch.cat([own[t] for own, t in zip(seen, targets, strict=True)]),
    )


def check_student(fixture: Recorded, compare: Any) -> None:
    """KL of matched and denoising queries, with gradients."""
    table, weight = (fixture.tensor(n) for n in ("text_embedding_raw", "student_projection_weight"))
    seen = [fixture.tensor(f"target{i}_clip_prompt") for i in range(2)]
    compare.close("weight", torch.tensor(0.5), torch.tensor(fixture.about["loss_weight"]))
    for kind, layer in (("matching", ""), ("denoising", "_dn")):
        branch = semantic_loss(table, dim=weight.shape[1])
        branch.projection.weight.data.copy_(weight)
        hidden = fixture.tensor(f"hidden_{kind}").requires_grad_()
        normaliser = fixture.about[f"num_boxes_{kind}"]
        matched = matched_of(fixture, kind, seen, normaliser)
        student = F.normalize(branch.projection(hidden), dim=-1)
        compare.close(
            f"student_embedding_{kind}", student, fixture.tensor(f"student_embedding_{kind}")
        )
        chosen = hidden[matched.images, matched.query_ids]
        each = branch.divergence(chosen, matched.region_embeddings)
        compare.close(f"kl_per_query_{kind}", each, fixture.tensor(f"kl_per_query_{kind}"))
        predictions = LayerPredictions(layer, hidden, hidden, {"hidden": hidden})
        loss = branch(predictions, matched)["semantic"]
        recorded = torch.tensor(fixture.about["values"][kind]["times_weight"])
        compare.close(f"loss_distill {kind}", loss, recorded)
        (loss / branch.weight).backward()
        compare.close(f"grad_hidden_{kind}", hidden.grad, fixture.tensor(f"grad_hidden_{kind}"))
        recorded = fixture.tensor(f"grad_projection_weight_{kind}")
        compare.close(f"grad_projection_{kind}", branch.projection.weight.grad, recorded)


class _RecordedTexts:
    """An encoder that knows the recorded features of the prompts."""

    def __init__(self, rows: Mapping[str, Tensor]) -> None:
        self.rows = rows

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, E)."""
        return torch.stack([self.rows[text] for text in texts])


def check_text(fixture: Recorded, compare: Any) -> None:
    """The class head, the content of denoising queries, and how the table is averaged."""
    table, hidden = fixture.tensor("text_embedding_raw"), fixture.tensor("hidden").requires_grad_()
    weight = fixture.tensor("classifier_projection_weight")
    model = LazyConfig.load(str(ROOT / CONFIG)).model
    sizes = dict(dim=weight.shape[1], text_dim=weight.shape[0])
    model.decoder.class_head.update(sizes)
    model.denoising.content.update(sizes)
    head = instantiate(model.decoder.class_head)()
    head.weight.data.copy_(weight)
    slots = slots_of(table, len(hidden))
    logits = head(hidden, slots)
    compare.close("logits", logits, fixture.tensor("logits"))
    (logits * fixture.tensor("upstream_gradient")).sum().backward()
    compare.close("grad_hidden", hidden.grad, fixture.tensor("grad_hidden"))
    recorded = fixture.tensor("grad_projection_weight")
    compare.close("grad_projection_weight", head.weight.grad, recorded)
    content = instantiate(model.denoising.content)
    content.projection.weight.data.copy_(fixture.tensor("label_projection_weight"))
    labels = torch.arange(len(table))
    ours = content(labels, torch.zeros_like(labels), slots)
    recorded = fixture.tensor("denoising_label_embeddings")
    compare.close("denoising_label_embeddings", ours, recorded)
    _check_table(fixture, compare)


def slots_of(table: Tensor, batch: int) -> ClassSlots:
    """All rows of a table as slots of every image."""
    ids = torch.arange(len(table)).expand(batch, -1)
    return ClassSlots(table.expand(batch, -1, -1), ids, torch.ones_like(ids, dtype=torch.bool))


def _check_table(fixture: Recorded, compare: Any) -> None:
    templates = read_templates("richsem")
    compare.equal("templates", len(templates), fixture.about["templates"])
    compare.equal(
        "last template", templates[80:], fixture.about["equal_to_80_openai_templates_plus"]
    )
    features = fixture.tensor("text_path_per_prompt_first_3_classes")
    names = fixture.about["names"][: features.shape[1]]
    prompts = [prompts_of(name, "", templates, spoken=False) for name in names]
    rows = {text: features[i, j] for j, texts in enumerate(prompts) for i, text in enumerate(texts)}
    ours = encode_categories(_RecordedTexts(rows), prompts, progress=False, unit=False)
    recorded = fixture.tensor("text_path_mean_embedding")[: len(names)]
    compare.close("text_path_mean_embedding", ours, recorded)


def check_federated(fixture: Recorded, compare: Any) -> None:
    """Drawn sets and how often, and the focal loss on the recorded set, with its gradient."""
    counts = fixture.tensor("category_weight_sqrt_image_count").double().square().round()
    size = fixture.about["set_size"]
    loss = federated_loss(counts, size)
    compare.close(
        "chances",
        loss.chances(torch.device("cpu")),
        fixture.tensor("category_weight_sqrt_image_count"),
    )
    for case in ("few", "none", "as_many", "more"):
        present = fixture.tensor(f"{case}_ground_truth").unique()
        drawn = loss.draw(present)
        recorded = fixture.tensor(f"{case}_set_weighted")
        compare.equal(f"size {case}", len(drawn.unique()), len(recorded))
        compare.equal(f"present {case}", bool(torch.isin(present, drawn).all()), True)
        compare.equal(f"absent without images {case}", bool((counts[drawn] > 0).all()), True)
        if len(present) >= size:
            compare.same(f"set {case}", drawn, recorded.sort().values)
    torch.manual_seed(0)
    drawn = torch.cat([loss.draw(torch.tensor([3])) for _ in range(_FREQUENCY_DRAWS)])
    shares = drawn.bincount(minlength=len(counts)) / _FREQUENCY_DRAWS
    gap = float((shares - fixture.tensor("inclusion_frequency_4000_draws_gt3")).abs().max())
    compare.equal(f"inclusion frequency within {_FREQUENCY_GAP}", gap < _FREQUENCY_GAP, True)
    _check_focal(fixture, loss, compare)


def federated_loss(counts: Tensor, size: int) -> FederatedFocalLoss:
    """The loss with given counts."""
    return FederatedFocalLoss(
        image_counts=lambda: counts, vocabulary=vocabulary_of(len(counts)), num_sampled=size
    )


def _check_focal(fixture: Recorded, loss: FederatedFocalLoss, compare: Any) -> None:
    logits = fixture.tensor("logits").requires_grad_()
    labels = [fixture.tensor(f"labels{i}") for i in range(len(logits))]
    normaliser = fixture.about["num_boxes"]
    seen = [F.one_hot(own, logits.shape[2]).float() for own in labels]  # taken by the same pairs
    matched = matched_of(fixture, "matching", seen, normaliser)
    targets = torch.zeros_like(logits)
    targets[matched.images, matched.query_ids] = matched.region_embeddings
    ids = torch.arange(logits.shape[2]).expand(len(logits), -1)
    matched = replace(
        matched,
        class_targets=targets,
        vocab_ids=matched.region_embeddings.argmax(dim=1),
        slot_vocab_ids=ids,
    )
    predictions = LayerPredictions("", logits, logits)
    everything = federated_loss(torch.ones(logits.shape[2]), logits.shape[2])
    value = everything(predictions, matched)["class"]
    recorded = torch.tensor(fixture.about["loss_ce_all_classes"])
    compare.close("loss_ce_all_classes", value, recorded)
    present = matched.vocab_ids.unique()
    chosen = fixture.tensor("set_in_loss")
    compare.equal("present in the set", bool(torch.isin(present, chosen).all()), True)
    loss.draw = lambda present: chosen
    value = loss(predictions, matched)["class"]
    recorded = torch.tensor(fixture.about["loss_ce_federated"])
    compare.close("loss_ce_federated", value, recorded)
    value.backward()
    compare.close("grad_logits", logits.grad, fixture.tensor("grad_logits"))
