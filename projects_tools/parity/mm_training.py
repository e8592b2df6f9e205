"""Recorded numbers of MM-Grounding-DINO's training (mmdet), and our model and criterion on them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from cqdino_d2.checkpoint import ReleasedConversion, convert_mmdet_grounding_weights
from cqdino_d2.layers import xyxy_to_cxcywh
from cqdino_d2.structures import (
    ClassRequest,
    ClassSlots,
    Detected,
    ImageTargets,
    LayerPredictions,
    TextPrompt,
)
from cqdino_d2.transformer import denoising

from .fixture import ROOT, Recorded, recorded_noise, released_loss_name

CONFIG = "configs/models/mm_grounding_dino.py"
_BERT = "sd/language_model.language_backbone.body.model.embeddings"


@dataclass(frozen=True)
class MMFixture(Recorded):
    """A whole small detector from images and texts to losses and gradients.

    Attributes:
        words: the vocabulary of its language model, in order.
    """

    words: Sequence[str]

    def tensor(self, name: str) -> Tensor:
        """A recorded array; half precision, as the weights are stored, becomes float32."""
        found = super().tensor(name)
        return found.float() if found.dtype == torch.float16 else found

    @cached_property
    def conversion(self) -> ReleasedConversion:
        """The weights."""
        return convert_mmdet_grounding_weights(
            {name: self.tensor(f"sd/{name}") for name in self.names("sd/")}
        )

    def model(self) -> nn.Module:
        """Our detector in the fixture's sizes, with its weights.

        Raises:
            ValueError: weights that do not fit, each named.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "vocab.txt")
            path.write_text("\n".join(self.words) + "\n", encoding="utf-8")
            model = instantiate(self.config(path))
            assert len(model.categories.tokenizer.vocabulary)  # read while the file is there
        try:
            model.load_state_dict(self.conversion.weights)
        except RuntimeError as error:
            raise ValueError(f"the fixture's weights do not fit: {error}") from error
        return model

    def config(self, vocabulary_file: Path) -> Any:
        """The model's config in the fixture's sizes, without any dropout."""
        dims = self.about["dims"]
        numbers = {name: [int(n) for n in re.findall(r"\d+", str(dims[name]))] for name in dims}
        width, *swin = numbers["swin"]
        bert_width, bert_layers, bert_heads, bert_hidden = numbers["bert"]
        layers, heads, hidden, text_heads, text_hidden, fusion_dim, fusion_heads = numbers[
            "encoder"
        ]
        model, dim = LazyConfig.load(str(ROOT / CONFIG)).model, dims["hidden"]
        model.backbone.name = "swin_tiny_patch4_window7_224"
        model.backbone.model_args = dict(
            embed_dim=width,
            depths=swin[:4],
            num_heads=swin[4:8],
            window_size=swin[8],
            mlp_ratio=float(swin[9]),
            drop_path_rate=0.0,
        )
        widths = [width * 2**stage for stage in (1, 2, 3)]
        model.neck.update(in_channels=widths, dim=dim, num_groups=dims["gn_groups"])
        model.categories.tokenizer.update(
            vocabulary_file=str(vocabulary_file), max_tokens=dims["max_text_len"]
        )
        model.categories.language_model.update(
            vocab_size=len(self.words),
            hidden_size=bert_width,
            num_hidden_layers=bert_layers,
            num_attention_heads=bert_heads,
            intermediate_size=bert_hidden,
            max_position_embeddings=len(self.tensor(f"{_BERT}.position_embeddings.weight")),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model.encoder.num_layers = layers
        model.encoder.image_layer.update(num_heads=heads, hidden_dim=hidden)
        model.encoder.slot_layer.update(num_heads=text_heads, hidden_dim=text_hidden)
        model.encoder.exchange.update(attention_dim=fusion_dim, num_heads=fusion_heads, dropout=0.0)
        layers, heads, hidden = numbers["decoder"]
        model.decoder.update(num_layers=layers, num_heads=heads, hidden_dim=hidden)
        model.query_selection.num_queries = dims["queries"]
        model.denoising.num_queries = dims["num_dn_queries"]
        model.denoising.content = {
            "_target_": "cqdino_d2.transformer.ReleasedLabelContent",
            "dim": dim,
            "num_labels": dims["num_classes_of_label_embedding"],
        }
        return model

    def prompts(self) -> tuple[TextPrompt, ...]:
        """What each image is asked."""
        return tuple(
            TextPrompt(
                text,
                tuple(tuple(map(tuple, own)) for own in spans.values()),
                tuple(map(int, spans)),
            )
            for text, spans in zip(self.about["texts"], self.about["tokens_positive"], strict=True)
        )

    def targets(self) -> list[ImageTargets]:
        """Ground truth of each image."""
        rows = zip(
            self.about["gt_boxes_xyxy"],
            self.about["gt_labels"],
            self.about["sizes_hw"],
            strict=True,
        )
        return [targets_of(torch.tensor(b), torch.tensor(x), tuple(size)) for b, x, size in rows]


def targets_of(boxes_xyxy: Tensor, labels: Tensor, size: tuple[int, int]) -> ImageTargets:
    """Targets from boxes in pixels; (height, width)."""
    boxes = boxes_xyxy.float().reshape(-1, 4) / torch.tensor([size[1], size[0]] * 2)
    return ImageTargets(xyxy_to_cxcywh(boxes), labels, size)


def check_mm_training(fixture: MMFixture, compare: Any, record: Any) -> None:
    """One training step: every stage, the assignments, the losses, and all gradients."""
    model, targets = fixture.model().train(), fixture.targets()
    images = ImageList(fixture.tensor("in/tensors"), [target.image_size for target in targets])
    seen, stop = record(model)
    with recorded_draws(model.denoising, fixture, targets):
        found = model.run(images, targets, ClassRequest(prompts=fixture.prompts()))
    stop()
    for name, ours in stages(seen, found).items():
        compare.as_recorded(name, ours, fixture.tensor(f"train/{name}"))
    for name, logits in (("enc_class", found.proposals.logits), ("all_cls", found.output.logits)):
        recorded = fixture.tensor(f"train/{name}")
        compare.close(name, recorded_logits(logits, found.slots, recorded.shape[-1]), recorded)
    for i, target in enumerate(targets):
        ours = found.slots.multi_hot(i, target.vocab_ids)
        recorded = fixture.tensor(f"train/positive_map.{i}")
        compare.same(f"positive_map.{i}", padded(ours, recorded.shape[-1], 0.0), recorded)
    output = found.output.split(found.denoising.content.shape[1])[1]
    layers = [*output.layers(), found.proposals.predictions()]
    check_assignments(model.criterion.matcher, layers, found.slots, targets, fixture, compare)
    losses = model.criterion(found.output, found.proposals, found.slots, targets, found.denoising)
    check_losses(losses, fixture.about["losses"], compare)
    sum(losses.values()).backward()
    check_gradients(model, fixture, compare)


def stages(seen: dict[str, Any], found: Detected) -> dict[str, Tensor]:
    """Our tensors under the fixture's names, in the order of computation."""
    group, proposals = found.denoising, found.proposals
    boxes = [group.boxes_cxcywh_norm, proposals.boxes_cxcywh_norm]
    return {f"neck.{i}": x for i, x in enumerate(seen["neck"][1])} | {
        "text_token_mask": found.selected.valid,
        "text_embedded_raw": seen["categories.language_model"][1],
        "memory": found.tokens.features,
        "memory_text": found.slots.features,
        "topk_indices": proposals.token_ids,
        "enc_coord": proposals.boxes_cxcywh_norm,
        "dn_mask": group.attention_mask,
        "query": torch.cat([group.content, proposals.content], dim=1),
        "reference_points": torch.cat(boxes, dim=1),
        "all_bbox": found.output.boxes_cxcywh_norm,
    }


@contextmanager
def recorded_draws(
    module: denoising.Denoising, fixture: Recorded, targets: Sequence[ImageTargets]
) -> Iterator[None]:
    """Inside, the denoising group is made of the recorded random numbers.

    Its labels are the places of the names in the caption, as mmdet's.
    """
    num_labels = module.content.embedding.num_embeddings
    draws = ("label_choice_rand", "label_new", "box_rand_sign01", "box_rand_part")
    noise = recorded_noise(*(fixture.tensor(f"dn/draw_{n}") for n in draws), num_labels)
    labels = torch.cat([target.vocab_ids for target in targets])
    with (
        mock.patch.object(denoising, "draw_noise", lambda *_: noise),
        mock.patch.object(module.content, "labels", lambda *_: (labels, num_labels)),
    ):
        yield


def padded(values: Tensor, length: int, value: float) -> Tensor:
    """(..., S) -> (..., length)."""
    return nn.functional.pad(values, (0, length - values.shape[-1]), value=value)


def recorded_logits(logits: Tensor, slots: ClassSlots, length: int) -> Tensor:
    """Logits (..., B, Q, S) as mmdet has them: -inf where there is no token."""
    return padded(logits.masked_fill(~slots.valid[:, None], -torch.inf), length, -torch.inf)


def check_assignments(
    matcher: Callable[..., list[tuple[Tensor, Tensor]]],
    layers: Sequence[LayerPredictions],
    slots: ClassSlots,
    targets: Sequence[ImageTargets],
    fixture: Recorded,
    compare: Any,
) -> None:
    """Which query stands for which object, in every layer; the last of ``layers`` is "enc"."""
    classes = [slots.multi_hot(i, target.vocab_ids) for i, target in enumerate(targets)]
    boxes = [target.boxes_cxcywh_norm for target in targets]
    for depth, layer in enumerate(layers):
        name = "enc" if layer.name == "_enc" else f"d{depth}"
        pairs = matcher(layer.logits, layer.boxes_cxcywh_norm, classes, boxes)
        for i, (query_ids, target_ids) in enumerate(pairs):
            ours = torch.zeros(layer.logits.shape[1], dtype=torch.int64)
            ours[query_ids] = target_ids + 1
            stage = f"match/{name}.gt_inds.{i}"
            compare.same(stage, ours, fixture.tensor(stage))


def check_losses(losses: Mapping[str, Tensor], recorded: Mapping[str, float], compare: Any) -> None:
    """Every loss, and that there are no others."""
    names = {name: released_loss_name(name) for name in losses}
    compare.same("all losses", *(torch.tensor(len(x)) for x in (losses, recorded)))
    for name, value in losses.items():
        compare.close(name, value, torch.tensor(recorded[names[name]]))


def check_gradients(model: nn.Module, fixture: MMFixture, compare: Any) -> None:
    """The recorded gradients of the total loss, and the norms of all."""
    parameters = dict(model.named_parameters())
    norms = fixture.about["grad_norms"]
    for ours, theirs in fixture.conversion.released_name.items():
        if f"grad/{theirs}" in fixture:
            compare.close(f"grad {ours}", parameters[ours].grad, fixture.tensor(f"grad/{theirs}"))
    rows = [(parameters[n].grad.norm(), norms[old]) for n, old in _with_norms(fixture, norms)]
    ours, recorded = zip(*rows, strict=True)
    compare.same("all gradients", *(torch.tensor(len(x)) for x in (rows, norms)))
    compare.close("gradient norms", torch.stack(ours), torch.tensor(recorded))


def _with_norms(fixture: MMFixture, norms: Mapping[str, float]) -> list[tuple[str, str]]:
    names = fixture.conversion.released_name.items()
    return [(ours, theirs) for ours, theirs in names if theirs in norms]
