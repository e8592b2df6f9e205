"""The detector as a function of one picture, without anything that cannot leave Python."""

from __future__ import annotations

import copy

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..detector.cqdino import CQDINO
from ..layers import cxcywh_to_xyxy


class _Constant(nn.Module):
    """Returns a tensor, whatever it is given."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone(), requires_grad=False)

    def forward(self, *_: Tensor) -> Tensor:
        return self.value


class ExportableDetector(nn.Module):
    """A trained detector with a fixed vocabulary for one picture at a time.

    What depends on the vocabulary alone (category queries, their relation and their projection in
    the first layer of the selection) is computed here and becomes a constant.

    Args:
        model: is copied; it computes in float32, without autocast.

    Raises:
        ValueError: something else than a `CQDINO`, or one that selects categories at random.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, CQDINO):
            raise ValueError(
                f"only the detector CQDINO can be exported, got {type(model).__name__}, which "
                "predicts no boxes"
            )
        if model.selection.ranking != "score":
            raise ValueError(
                f"a selection with ranking={model.selection.ranking!r} is no function of the "
                "picture and cannot be exported"
            )
        model = copy.deepcopy(model).float().eval().requires_grad_(False)
        model.autocast_dtype = None
        model.criterion = model.denoising = None
        with torch.no_grad():
            queries = model.categories()
            first = model.selection.layers[0].attention
            # In inference the first layer's queries are projected before the layer is called.
            first.query = _Constant(first.query(queries))
            model.categories = _Constant(queries)
        self.model = model

    @property
    def num_detections(self) -> int:
        """N, the number of detections of every picture."""
        pairs = self.model.query_selection.num_queries * self.model.selection.num_selected
        return min(self.model.post_processor.num_detections, pairs)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detects.

        Args:
            image: (3, H, W) float32, RGB in 0..255, of the size the model is to see.

        Returns:
            (N, 4) boxes xyxy in the picture's pixels, (N,) scores in 0..1, best first, and (N,)
            int64 vocab_ids. Where the vocabulary is smaller than K, slots without a category have
            the score 0.
        """
        model, (height, width) = self.model, image.shape[-2:]
        normalised = ((image - model.pixel_mean) / model.pixel_std)[None]
        maps, levels = model.extract_maps(ImageList(normalised, [(height, width)]))
        tokens = model.tokenizer(levels, [(height, width)], (height, width))
        categories = model.selection(maps[-1], model.categories())
        tokens, categories = model.encoder(tokens, categories)
        proposals = model.query_selection(tokens, categories)
        output = model.decoder(tokens, categories, proposals)

        scores, pairs = output.logits[-1, 0].sigmoid().flatten().topk(self.num_detections)
        num_slots = model.selection.num_selected
        boxes = cxcywh_to_xyxy(output.boxes_cxcywh_norm[-1, 0][pairs // num_slots]).clamp(0, 1)
        scale = torch.stack([image.new_ones(()) * side for side in (width, height)]).repeat(2)
        return boxes * scale, scores, categories.vocab_ids[0][pairs % num_slots]
