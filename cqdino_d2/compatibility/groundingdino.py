"""The calls of ``groundingdino.util.inference`` (IDEA-Research's package), for code that has them.

    from cqdino_d2.compatibility.groundingdino import load_model, load_image, predict, annotate

Signatures, shapes and thresholds are theirs; docs/text_prompts.md lists what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import ImageList
from torch import Tensor

from ..data import ResizeShortestEdgeTruncated
from ..files import read_image
from ..layers import cxcywh_to_xyxy
from ..prediction import TextPredictor, get_predictor_cfg
from ..structures import ClassRequest, TextPrompt, flat_vocabulary
from ..text import check_phrases, wanted_prompts
from ..text.token_phrases import between_separators, token_phrase
from ..visualization.category_tree import CategoryTree
from ..visualization.drawing import LabelledBox, draw_boxes, short


@dataclass(frozen=True)
class Detections:
    """N found boxes, with the fields of supervision's class of that name.

    Attributes:
        xyxy: (N, 4) float32 in pixels of the image.
        confidence: (N,) float32.
        class_id: (N,) int64, -1 where no class was likely enough; None where there are no classes.
    """

    xyxy: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xyxy)


def load_model(
    model_config_path: str | Path, model_checkpoint_path: str | Path, device: str | None = None
) -> TextPredictor:
    """A predictor of a config of ``configs/grounding_dino`` and of converted weights.

    Raises:
        FileNotFoundError, ValueError: see `get_predictor_cfg`.
    """
    cfg = get_predictor_cfg(model_config_path, weights=model_checkpoint_path, device=device)
    return TextPredictor(cfg)


def load_image(image_path: str | Path) -> tuple[np.ndarray, Tensor]:
    """(H, W, 3) uint8 RGB, and the same resized to 800/1333 and normalised, (3, h, w) float32."""
    image = read_image(image_path, "RGB")
    return image, _normalised(image)


def _normalised(image_rgb: np.ndarray) -> Tensor:
    resize = ResizeShortestEdgeTruncated(800, 1333, short_side_first=True)
    resized = resize.get_transform(image_rgb)
    pixels = torch.from_numpy(resized.apply_image(image_rgb).transpose(2, 0, 1).copy()) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def preprocess_caption(caption: str) -> str:
    """In lower case, without blanks around it, with a dot at the end."""
    result = caption.lower().strip()
    return result if result.endswith(".") else f"{result}."


def predict(
    model: TextPredictor,
    image: Tensor,
    caption: str,
    box_threshold: float,
    text_threshold: float,
    device: str | None = None,
    remove_combined: bool = False,
) -> tuple[Tensor, Tensor, list[str]]:
    """What a caption finds in an image, token by token.

    Args:
        model: of `load_model`.
        image: (3, h, w) of `load_image`.
        caption: phrases between dots.
        box_threshold: of a box's most probable token.
        text_threshold: of the tokens that make up a box's phrase, wherever they stand.
        device: the model's, whatever is said here.
        remove_combined: whether a phrase ends at the separators around its most probable token.

    Returns:
        (N, 4) boxes cxcywh relative to the image, (N,) probabilities of their most probable
        tokens, and N phrases, in the order of the queries.

    Raises:
        ValueError: a caption without words.
    """
    prompt = TextPrompt(preprocess_caption(caption))
    check_phrases(prompt, model.tokenizer, may_be_alike=())
    probabilities, boxes = _tokens_of(model, image, prompt)
    kept = probabilities.max(dim=1).values > box_threshold
    encoding = model.tokenizer.encode(prompt.caption)
    phrases = []
    for row in probabilities[kept]:
        window = between_separators(encoding, int(row.argmax())) if remove_combined else None
        likely = (row > text_threshold).nonzero().flatten().tolist()
        phrases.append(token_phrase(model.tokenizer, encoding, likely, window))
    return boxes[kept], probabilities[kept].max(dim=1).values, phrases


def _tokens_of(model: TextPredictor, image: Tensor, prompt: TextPrompt) -> tuple[Tensor, Tensor]:
    """(Q, T) probabilities of the tokens, and (Q, 4) boxes, on the CPU."""
    with torch.no_grad():
        images = ImageList.from_tensors([image.to(model.cfg.MODEL.DEVICE)])
        found = model.model.run(images, None, ClassRequest(prompts=(prompt,)))
    return found.output.logits[-1, 0].sigmoid().cpu(), found.output.boxes_cxcywh_norm[-1, 0].cpu()


def annotate(
    image_source: np.ndarray, boxes: Tensor, logits: Tensor, phrases: Sequence[str]
) -> np.ndarray:
    """The image with its boxes, phrases and probabilities.

    Args:
        image_source: (H, W, 3) uint8 RGB.
        boxes, logits, phrases: of `predict`.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = image_source.shape[:2]
    boxes_xyxy_abs = cxcywh_to_xyxy(boxes) * boxes.new_tensor([width, height, width, height])
    names = sorted(set(phrases))
    tree = CategoryTree(flat_vocabulary(names))
    objects = [
        LabelledBox(tuple(box), f"{short(phrase)} {score:.2f}", tree.colour(names.index(phrase)))
        for box, score, phrase in zip(
            boxes_xyxy_abs.tolist(), logits.tolist(), phrases, strict=True
        )
    ]
    return np.ascontiguousarray(draw_boxes(image_source, objects, min_side=1)[:, :, ::-1])


class Model:
    """A detector that takes BGR images.

    Args:
        model_config_path, model_checkpoint_path, device: of `load_model`.
    """

    def __init__(
        self,
        model_config_path: str | Path,
        model_checkpoint_path: str | Path,
        device: str | None = None,
    ) -> None:
        self.model = load_model(model_config_path, model_checkpoint_path, device)

    def predict_with_caption(
        self,
        image: np.ndarray,
        caption: str,
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
    ) -> tuple[Detections, list[str]]:
        """`predict` on a (H, W, 3) uint8 BGR image, with boxes in its pixels."""
        pixels = _normalised(image[:, :, ::-1])
        found = predict(self.model, pixels, caption, box_threshold, text_threshold)
        return Detections(_pixels(found[0], image), found[1].numpy()), found[2]

    def predict_with_classes(
        self,
        image: np.ndarray,
        classes: Sequence[str],
        box_threshold: float,
        text_threshold: float,
    ) -> Detections:
        """Which of some classes are in a (H, W, 3) uint8 BGR image; any number of them.

        Args:
            image: the image.
            classes: names; a ``class_id`` is a place among them.
            box_threshold: of a box's most probable token.
            text_threshold: of the mean over the tokens of a box's most probable class.

        Raises:
            ValueError: see `names_prompts`.
        """
        pixels = _normalised(image[:, :, ::-1])
        parts = [
            self._find_classes(pixels, prompt, box_threshold, text_threshold)
            for prompt in wanted_prompts(list(classes), self.model.tokenizer).prompts
        ]
        boxes, scores, class_ids = (torch.cat(part) for part in zip(*parts, strict=True))
        return Detections(_pixels(boxes, image), scores.numpy(), class_ids.numpy())

    def _find_classes(
        self, pixels: Tensor, prompt: TextPrompt, box_threshold: float, text_threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 4) boxes cxcywh, (N,) probabilities and (N,) classes."""
        probabilities, boxes = _tokens_of(self.model, pixels, prompt)
        tokens = self.model.tokenizer([prompt])
        members = tokens.phrases[0].float()
        means = probabilities @ members.T / members.sum(dim=1)
        best, phrase = means.max(dim=1)
        class_ids = torch.where(best > text_threshold, tokens.vocab_ids[0][phrase], -1)
        scores = probabilities.max(dim=1).values
        kept = scores > box_threshold
        return boxes[kept], scores[kept], class_ids[kept]


def _pixels(boxes_cxcywh_norm: Tensor, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = boxes_cxcywh_norm.new_tensor([width, height, width, height])
    return (cxcywh_to_xyxy(boxes_cxcywh_norm) * scale).numpy()
