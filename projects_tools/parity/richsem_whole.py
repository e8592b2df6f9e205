"""One recorded training step and one inference of the official RichSem, and our model on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList
from torch import Tensor, nn

from cqdino_d2.checkpoint import ReleasedConversion, convert_richsem_weights
from cqdino_d2.layers import inverse_sigmoid
from cqdino_d2.structures import Detected, ImageTargets, flat_vocabulary

from .fixture import ROOT, Recorded, read_about, read_arrays

CONFIG = "configs/models/richsem_r50.py"
_LOSSES = {"class": "ce", "l1": "bbox", "giou": "giou", "semantic": "distill"}
_IGNORED = ("loss_xy", "loss_hw", "cardinality_error", "class_error")  # logged, not minimised


class RecordedStub(nn.Module):
    """The fixture's backbone: three convolutions with tanh."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, stride in (("c0", 8), ("c1", 2), ("c2", 2)):
            width, depth = state[f"backbone.{name}.weight"].shape[:2]
            self.add_module(name, nn.Conv2d(depth, width, stride, stride=stride))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> maps of strides 8, 16 and 32 by name."""
        maps = {}
        for name, convolution in self.named_children():
            images = maps[name] = convolution(images).tanh()
        return maps


def teacher_config(path: Path) -> dict[str, Any]:
    """The call that makes the recorded tower; ``path`` is of its weights' JSON."""
    about, arrays = read_about(path), read_arrays(path)
    sizes = {name: about[name] for name in ("layers", "width", "heads", "image_size")}
    state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return sizes | {"dim": about["output_dim"], "state": state}


def recorded_tower(state: Mapping[str, Tensor], **sizes: Any) -> nn.Module:
    """The tower with the recorded weights."""
    from cqdino_d2.backbone import random_clip_resnet

    tower = random_clip_resnet(**sizes)
    tower.visual.load_state_dict(state)
    return tower


@dataclass(frozen=True)
class WholeFixture(Recorded):
    """A whole small RichSem.

    Attributes:
        path: of its JSON; the weights are in the same folder.
    """

    path: Path

    @classmethod
    def load(cls, path: Path) -> WholeFixture:
        """Reads JSON and arrays."""
        return cls(read_about(path), read_arrays(path), path)

    def beside(self, name: str) -> Path:
        """The JSON of another part of the same seed."""
        return self.path.with_name(self.path.name.replace("f_whole", name))

    @cached_property
    def conversion(self) -> ReleasedConversion:
        """The weights."""
        arrays = read_arrays(self.beside("f_whole_weights"))
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return convert_richsem_weights(state)

    def model(self) -> nn.Module:
        """Our detector in the fixture's sizes, with its weights.

        Raises:
            ValueError: weights that do not fit, each named.
        """
        table = self.tensor("text_embedding_raw")
        model = instantiate(self.config(table).model)
        model.backbone = RecordedStub(self.conversion.weights)
        tower = teacher_config(self.beside("a_teacher_weights"))
        model.teacher.make_tower = lambda: recorded_tower(**tower)
        model.criterion.losses.semantic.table = lambda: table
        try:
            model.load_state_dict(self.conversion.weights | {"categories.embeddings": table})
        except RuntimeError as error:
            raise ValueError(f"the fixture's weights do not fit: {error}") from error
        return model

    def config(self, table: Tensor) -> Any:
        """The model's config in the fixture's sizes."""
        given = self.about["config"]
        cfg = LazyConfig.load(str(ROOT / CONFIG))
        model, (rows, width) = cfg.model, table.shape
        names = [f"category {i}" for i in range(rows)]
        cfg.vocabulary = {"_target_": flat_vocabulary, "names": names}
        cfg.train = {"category_embeddings": ""}
        cfg.dataloader = {"train": {"dataset": {"names": ""}}}
        model.backbone.pretrained = False
        widths = [len(self.conversion.weights[f"backbone.c{i}.weight"]) for i in range(3)]
        model.neck.update(
            in_channels=widths, dim=given["hidden_dim"], num_levels=given["num_feature_levels"]
        )
        model.categories.dim = width
        model.criterion.losses.semantic.text_dim = width
        model.criterion.losses.focal.update(
            num_sampled=given["fed_num_sample_cats"], image_counts=None
        )
        shared = dict(num_heads=given["nheads"], hidden_dim=given["dim_feedforward"])
        model.encoder.num_layers = given["enc_layers"]
        model.encoder.image_layer.update(shared | dict(num_points=given["enc_n_points"]))
        model.decoder.update(
            shared | dict(num_points=given["dec_n_points"], num_layers=given["dec_layers"])
        )
        model.query_selection.num_queries = given["num_queries"]
        model.denoising.update(
            num_queries=given["dn_number"],
            label_noise=given["dn_label_noise_ratio"],
            box_noise=given["dn_box_noise_scale"],
        )
        model.post_processor.num_detections = self.about["num_select"]
        return cfg

    def targets(self) -> list[ImageTargets]:
        """Ground truth of each image."""
        return [
            ImageTargets(
                self.tensor(f"target{i}_boxes"),
                self.tensor(f"target{i}_labels"),
                tuple(self.tensor(f"target{i}_size").tolist()),
            )
            for i in range(len(self.tensor("images_normalised_padded")))
        ]

    def images(self) -> ImageList:
        """Normalised and padded."""
        sizes = [target.image_size for target in self.targets()]
        return ImageList(self.tensor("images_normalised_padded"), sizes)


def official_name(ours: str) -> str:
    """`loss_class_dn_0` -> `loss_ce_dn_0`, and so on."""
    _, kind, *rest = ours.split("_")
    layer = ["interm" if part == "enc" else part for part in rest]
    return "_".join(["loss", _LOSSES[kind], *layer])


def check_whole(fixture: WholeFixture, compare: Any) -> None:
    """Training step, then inference."""
    model = fixture.model().train()
    for name, why in fixture.conversion.left_out.items():
        compare.equal(f"left out: {name}", bool(why), True)
    targets = model.teacher(fixture.images().tensor, fixture.targets())
    _check_teacher(model, fixture, targets, compare)
    last: list[Tensor] = []  # the very hidden state that all heads of the last layer share
    head = model.decoder.extra_heads["hidden"][-1]
    hook = head.register_forward_hook(lambda *given: last.append(given[-1]))
    with recorded_denoising(model, fixture, targets):
        found = model.run(fixture.images(), targets)
    hook.remove()
    last[0].retain_grad()
    _check_stages(model, fixture, found, compare)
    with recorded_sets(model, fixture):
        losses = model.criterion(
            found.output, found.proposals, found.slots, targets, found.denoising
        )
    check_losses(losses, fixture.about, compare)
    sum(losses.values()).backward()
    _check_gradients(model, fixture, compare)
    compare.close("grad_hidden_last", last[0].grad, fixture.tensor("grad_hidden_last"))
    _check_inference(model.eval(), fixture, compare)


def _check_teacher(
    model: nn.Module, fixture: WholeFixture, targets: Sequence[ImageTargets], compare: Any
) -> None:
    branch = model.criterion.losses.semantic
    for i, target in enumerate(targets):
        unit = nn.functional.normalize(target.region_embeddings, dim=-1)
        logits = branch.scale * unit @ branch.unit_table(unit.device).T
        compare.close(
            f"target{i}_teacher_embedding", unit, fixture.tensor(f"target{i}_teacher_embedding")
        )
        compare.close(
            f"target{i}_teacher_logits", logits, fixture.tensor(f"target{i}_teacher_logits")
        )


@contextmanager
def recorded_denoising(
    model: nn.Module, fixture: WholeFixture, targets: Sequence[ImageTargets], prefix: str = ""
) -> Iterator[None]:
    """Inside, noised boxes are the recorded ones, and noised labels where these were recorded."""
    module, counts = model.denoising, [len(target) for target in targets]
    logits = fixture.tensor(f"{prefix}dn_query_boxes_unsigmoid")
    most, total = max(counts), sum(counts)
    groups = logits.shape[1] // (2 * most) if most else 0
    images = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    place = torch.cat([torch.arange(count) for count in counts]).repeat(2 * groups)
    place = place + most * torch.arange(2 * groups).repeat_interleave(total)
    boxes = logits[images.repeat(2 * groups), place].sigmoid()
    content = fixture.tensor(f"{prefix}dn_query_content")[images.repeat(2 * groups), place]
    labels = fixture.tensor("dn_noised_labels_flat") if not prefix else labels_of(content, model)
    with (
        mock.patch.object(module, "_noise_labels", lambda *_: labels),
        mock.patch.object(module, "_noise_boxes", lambda *_: boxes),
    ):
        yield


def labels_of(content: Tensor, model: nn.Module) -> Tensor:
    """(R, C) projected text rows -> (R,) the categories whose rows they are."""
    rows = model.denoising.content.projection(model.categories.embeddings).detach()
    return torch.cdist(content, rows).argmin(dim=1) if len(content) else torch.zeros(0).long()


@contextmanager
def recorded_sets(
    model: nn.Module, fixture: Recorded, sets: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Inside, every layer's federated set is the recorded one."""
    loss = model.criterion.losses.focal
    names = {"_dn": "dn_last", "": "last", "_enc": "interm"}

    def forward(predictions: Any, matched: Any) -> dict[str, Tensor]:
        kind, _, number = predictions.name.rpartition("_")
        name = names.get(predictions.name, f"{'dn_' * (kind == '_dn')}aux{number}")
        if sets is None:
            chosen = fixture.tensor(f"federated_set_{name}")
        else:  # without denoising queries there is no set of theirs
            chosen = sets.get(name, torch.zeros(0, dtype=torch.int64))
        with mock.patch.object(loss, "draw", lambda present: chosen):
            return type(loss).forward(loss, predictions, matched)

    with mock.patch.object(loss, "forward", forward):
        yield


def _check_stages(model: nn.Module, fixture: WholeFixture, found: Detected, compare: Any) -> None:
    group, proposals = found.denoising, found.proposals
    compare.close("dn_query_content", group.content, fixture.tensor("dn_query_content"))
    compare.same("attention_mask", group.attention_mask, fixture.tensor("attention_mask"))
    hidden = found.output.extras["hidden"]
    compare.close("hidden_states", hidden, fixture.tensor("hidden_states"))
    noised, output = found.output.split(group.content.shape[1])
    for i, layer in enumerate(reversed(output.layers())):
        name = "pred" if i == 0 else f"aux{len(output.logits) - 1 - i}"
        compare.close(f"{name}_logits", layer.logits, fixture.tensor(f"{name}_logits"))
        compare.close(f"{name}_boxes", layer.boxes_cxcywh_norm, fixture.tensor(f"{name}_boxes"))
    compare.close("interm_logits", proposals.logits, fixture.tensor("interm_logits"))
    compare.close("interm_boxes", proposals.boxes_cxcywh_norm, fixture.tensor("interm_boxes"))
    compare.close("dn_logits", noised.logits[-1], fixture.tensor("dn_logits"))
    compare.close("dn_boxes", noised.boxes_cxcywh_norm[-1], fixture.tensor("dn_boxes"))
    _check_matches(model, fixture, [*output.layers(), proposals.predictions()], found, compare)


def _check_matches(
    model: nn.Module,
    fixture: WholeFixture,
    layers: Sequence[Any],
    found: Detected,
    compare: Any,
) -> None:
    targets = fixture.targets()
    classes = [found.slots.multi_hot(i, target.vocab_ids) for i, target in enumerate(targets)]
    boxes = [target.boxes_cxcywh_norm for target in targets]
    for layer in layers:
        name = {"": "last", "_enc": "interm"}.get(layer.name, f"aux{layer.name[1:]}")
        pairs = model.criterion.matcher(layer.logits, layer.boxes_cxcywh_norm, classes, boxes)
        for i, (query_ids, target_ids) in enumerate(pairs):
            for kind, ours in (("query", query_ids), ("target", target_ids)):
                stage = f"match_{name}_{i}_{kind}"
                compare.same(stage, ours, fixture.tensor(stage))


def check_losses(
    losses: Mapping[str, Tensor], about: Mapping[str, Any], compare: Any, prefix: str = ""
) -> None:
    """Every loss with its weight, their total, and that there are no others."""
    weights = about["weights"]
    recorded = {
        name: value * weights[name]
        for name, value in about["losses"].items()
        if not name.startswith(_IGNORED)
    }
    compare.equal(f"{prefix}all losses", sorted(map(official_name, losses)), sorted(recorded))
    for name, value in losses.items():
        theirs = official_name(name)
        compare.close(f"{prefix}{theirs}", value, torch.tensor(recorded[theirs]))
    compare.close(f"{prefix}total", sum(losses.values()), torch.tensor(about["total"]))


def _check_gradients(model: nn.Module, fixture: WholeFixture, compare: Any) -> None:
    parameters = dict(model.named_parameters())
    ours_of = {theirs: ours for ours, theirs in fixture.conversion.released_name.items()}
    for theirs in fixture.names("grad__"):
        gradient = parameters[ours_of[theirs]].grad
        compare.close(f"grad {theirs}", gradient, fixture.tensor(f"grad__{theirs}"))
    norms = [p.grad.norm() for p in parameters.values() if p.grad is not None]
    norm = torch.stack(norms).norm()
    compare.close("gradient_norm", norm, torch.tensor(fixture.about["gradient_norm"]))
    without = [name for name, p in parameters.items() if p.requires_grad and p.grad is None]
    compare.equal("without gradient", without, fixture.about["without_gradient"])


def _check_inference(model: nn.Module, fixture: WholeFixture, compare: Any) -> None:
    with torch.no_grad():
        found = model.run(fixture.images())
    boxes = found.output.boxes_cxcywh_norm[-1]
    compare.close("eval_logits", found.output.logits[-1], fixture.tensor("eval_logits"))
    compare.close(
        "eval_boxes", inverse_sigmoid(boxes), inverse_sigmoid(fixture.tensor("eval_boxes"))
    )
    compare.equal("nothing of the branch", found.output.extras["hidden"].numel(), 0)
    sizes = [tuple(size) for size in fixture.about["post_sizes_hw"]]
    image_sizes = fixture.images().image_sizes
    for i, item in enumerate(model.post_processor(found.output, found.slots, image_sizes, sizes)):
        _check_detections(item["instances"], fixture, f"eval{i}", compare)


def _check_detections(instances: Any, fixture: Recorded, name: str, compare: Any) -> None:
    """The order may differ among equal scores, and which of these are the last."""
    scores, boxes = fixture.tensor(f"{name}_scores"), fixture.tensor(f"{name}_boxes")
    compare.close(f"{name}_scores", instances.scores, scores)
    gaps = (scores[:-1] - scores[1:]).abs()
    edge = scores.new_zeros(1)
    tied = torch.minimum(torch.cat([edge + 1, gaps]), torch.cat([gaps, edge])) < 1e-5
    ours = instances.pred_boxes.tensor
    apart = (ours - boxes).abs().amax(dim=1) > 1e-3 * boxes.abs().max()
    swapped = apart | (instances.pred_classes != fixture.tensor(f"{name}_labels"))
    compare.same(f"{name}_labels", swapped & ~tied, torch.zeros_like(swapped))
    compare.close(f"{name}_boxes", ours[~swapped], boxes[~swapped])
