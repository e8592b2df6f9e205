"""Contrastive denoising (DINO, arXiv 2203.03605, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import cxcywh_to_xyxy, inverse_sigmoid, xyxy_to_cxcywh
from ..structures import ClassSlots, DenoisingGroup, ImageTargets


@dataclass(frozen=True)
class DenoisingNoise:
    """The random numbers of one denoising group, for R = 2 G x (boxes of the batch) copies.

    Attributes:
        replace: (R,) in [0, 1), compared with the share of labels to replace.
        labels: (R,) in [0, 1), scaled to the label space where a label is replaced.
        sign: (R, 4) of -1 or 1, which way a side moves.
        part: (R, 4) in [0, 1), how far.
    """

    replace: Tensor
    labels: Tensor
    sign: Tensor
    part: Tensor


def draw_noise(num_copies: int, device: torch.device) -> DenoisingNoise:
    """Draws from PyTorch's generator of the device."""
    return DenoisingNoise(
        replace=torch.rand(num_copies, device=device),
        labels=torch.rand(num_copies, device=device),
        sign=torch.randint(0, 2, (num_copies, 4), device=device) * 2.0 - 1,
        part=torch.rand(num_copies, 4, device=device),
    )


class CategoryContent(nn.Module):
    """A denoising query starts as the feature of its (noised) category or phrase.

    So the group carries the category, which the released label embedding does not. A category
    that the image has no slot of is stood for by one learnt vector.
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.not_selected = nn.Parameter(torch.randn(dim))

    def labels(self, targets: Sequence[ImageTargets], slots: ClassSlots) -> tuple[Tensor, int]:
        """Labels of all boxes of the batch, (boxes,): entries E of the slots, or E for none; E."""
        entry_ids = torch.cat([slots.entry_ids(i, t.vocab_ids) for i, t in enumerate(targets)])
        return torch.where(entry_ids < 0, slots.num_entries, entry_ids), slots.num_entries

    def forward(self, labels: Tensor, images: Tensor, slots: ClassSlots) -> Tensor:
        """(R,) labels of (R,) images -> (R, C)."""
        features = slots.entry_features()
        batch, _, dim = features.shape
        extra = self.not_selected.expand(batch, 1, dim)
        return torch.cat([features, extra], dim=1)[images, labels]


class ReleasedLabelContent(nn.Module):
    """The released form: an embedding of the label's place in a shuffled list of the image.

    The place says nothing about the category; kept to reproduce the released losses.
    """

    def __init__(self, *, dim: int, num_labels: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_labels, dim)

    def labels(self, targets: Sequence[ImageTargets], slots: ClassSlots) -> tuple[Tensor, int]:
        """Labels of all boxes of the batch, (boxes,), and the size of the label space."""
        places = []
        for target in targets:
            present, place = target.vocab_ids.unique(return_inverse=True)
            shuffled = torch.randperm(len(present), device=present.device)
            places.append(shuffled[place] % self.embedding.num_embeddings)
        return torch.cat(places), self.embedding.num_embeddings

    def forward(self, labels: Tensor, images: Tensor, slots: ClassSlots) -> Tensor:
        """(R,) labels -> (R, C)."""
        return self.embedding(labels)


class TextContent(nn.Module):
    """A denoising query starts as a projection of its (noised) category's text row (RichSem).

    A category that the image has no slot of has no row: its query starts at 0.

    Args:
        dim: width C of the queries.
        text_dim: width E of the slots' features, which are rows of a text table.
    """

    def __init__(self, *, dim: int, text_dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(text_dim, dim, bias=False)
        nn.init.normal_(self.projection.weight, std=text_dim**-0.5)

    def labels(self, targets: Sequence[ImageTargets], slots: ClassSlots) -> tuple[Tensor, int]:
        """Labels of all boxes of the batch, (boxes,): entries E of the slots, or -1; E."""
        entry_ids = [slots.entry_ids(i, t.vocab_ids) for i, t in enumerate(targets)]
        return torch.cat(entry_ids), slots.num_entries

    def forward(self, labels: Tensor, images: Tensor, slots: ClassSlots) -> Tensor:
        """(R,) labels of (R,) images -> (R, C)."""
        rows = slots.entry_features()[images, labels.clamp(min=0)]
        return self.projection(rows.masked_fill((labels < 0)[:, None], 0))


class Denoising(nn.Module):
    """Makes the denoising group of a batch.

    Args:
        content: gives the queries their content, `CategoryContent` or `ReleasedLabelContent`.
        num_object_queries: Q, for the attention mask.
        num_queries: about how many positive queries the groups hold together;
            G = max(1, num_queries // most boxes of an image).
        label_noise: half of this share of the labels is replaced.
        box_noise: 1 moves a positive's sides by up to half of the box, a negative's by up to one.
        pad_empty: whether a batch without any box has a group of padding, as the released code
            of CQ-DINO; RichSem's is without queries then.
    """

    def __init__(
        self,
        *,
        content: nn.Module,
        num_object_queries: int,
        num_queries: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        pad_empty: bool = True,
    ) -> None:
        super().__init__()
        self.content = content
        self.num_object_queries, self.num_queries = num_object_queries, num_queries
        self.label_noise, self.box_noise = label_noise, box_noise
        self.pad_empty = pad_empty

    def forward(self, targets: Sequence[ImageTargets], slots: ClassSlots) -> DenoisingGroup:
        """Builds N = 2 G P queries per image, P the most boxes of an image.

        P is at least 1, or N is 0 without any box: see ``pad_empty``.
        """
        device, batch = slots.features.device, len(targets)
        counts = [len(target) for target in targets]
        most = max(int(self.pad_empty), *counts)
        groups = max(1, self.num_queries // max(1, most))
        total = sum(counts)
        noise = draw_noise(2 * groups * total, device)

        images = torch.repeat_interleave(
            torch.arange(batch, device=device), torch.tensor(counts, device=device)
        )
        target_ids = torch.cat([torch.arange(count, device=device) for count in counts])
        place = target_ids.repeat(2 * groups) + most * torch.arange(
            2 * groups, device=device
        ).repeat_interleave(total)
        images = images.repeat(2 * groups)

        labels, num_labels = self.content.labels(targets, slots)
        labels = self._noise_labels(labels.repeat(2 * groups), num_labels, noise)
        is_negative = torch.arange(2 * groups, device=device).repeat_interleave(total) % 2 == 1
        boxes = torch.cat([target.boxes_cxcywh_norm for target in targets]).repeat(2 * groups, 1)
        boxes = self._noise_boxes(boxes, is_negative, noise)

        size = (batch, 2 * groups * most)
        features = self.content(labels, images, slots)
        content = features.new_zeros(*size, features.shape[-1]).index_put((images, place), features)
        all_boxes = boxes.new_full((*size, 4), 0.5).index_put((images, place), boxes)
        all_ids = torch.full(size, -1, device=device)
        positive = ~is_negative
        all_ids[images[positive], place[positive]] = target_ids.repeat(2 * groups)[positive]
        return DenoisingGroup(
            content=content,
            boxes_cxcywh_norm=all_boxes,
            attention_mask=self._attention_mask(groups, 2 * most, device),
            target_ids=all_ids,
            num_groups=groups,
        )

    def _noise_labels(self, labels: Tensor, num_labels: int, noise: DenoisingNoise) -> Tensor:
        """Replaces a quarter of the labels (at label_noise 0.5) by any label."""
        drawn = (noise.labels * num_labels).long().clamp(max=num_labels - 1)
        return torch.where(noise.replace < self.label_noise * 0.5, drawn, labels)

    def _noise_boxes(self, boxes: Tensor, is_negative: Tensor, noise: DenoisingNoise) -> Tensor:
        """Moves the sides of (R, 4) cxcywh boxes; negatives move further."""
        corners = cxcywh_to_xyxy(boxes)
        part = noise.part + is_negative[:, None].float()
        half_size = boxes[:, 2:].repeat(1, 2) / 2
        corners = corners + noise.sign * part * half_size * self.box_noise
        moved = xyxy_to_cxcywh(corners.clamp(0, 1))
        return inverse_sigmoid(moved, eps=1e-3).sigmoid()

    def _attention_mask(self, groups: int, group_size: int, device: torch.device) -> Tensor:
        """A group sees itself and the object queries; these see no group."""
        group = torch.arange(groups, device=device).repeat_interleave(group_size)
        object_queries = torch.full((self.num_object_queries,), -1, device=device)
        owner = torch.cat([group, object_queries])
        return (owner[None, :] >= 0) & (owner[None, :] != owner[:, None])
