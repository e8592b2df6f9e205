"""Recorded numbers of the released implementation, and our model built after them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from cqdino_d2.checkpoint import convert_released_weights
from cqdino_d2.layers import xyxy_to_cxcywh
from cqdino_d2.structures import CategoryHierarchy, ImageTargets, Vocabulary
from cqdino_d2.transformer.denoising import DenoisingNoise

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    "tree": "configs/v3det/cqdino_tree_swinb22k.py",
    "coco": "configs/coco/cqdino_sa_swinl_released.py",
}
RELEASED_WEIGHT_VOCABULARY = 13204  # fixed in the released tree weights


class RecordedBackbone(nn.Module):
    """Returns recorded maps, whatever the image: for fixtures without backbone weights."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> the maps by name."""
        assert len(images) == len(self.maps[0])
        return {str(level): x for level, x in enumerate(self.maps)}


@dataclass(frozen=True)
class Recorded:
    """A fixture: `NAME.json` with `NAME.npz`.

    Attributes:
        about: the JSON.
        arrays: the npz; `tensor` reads from it.
    """

    about: dict[str, Any]
    arrays: Any

    def __contains__(self, name: str) -> bool:
        return name in self.arrays.files

    def tensor(self, name: str) -> Tensor:
        """A recorded array.

        Raises:
            ValueError: the fixture does not have it.
        """
        if name not in self:
            raise ValueError(f"the fixture has no array {name!r}")
        return torch.from_numpy(self.arrays[name])

    def names(self, prefix: str) -> list[str]:
        """Names of all arrays under a prefix, without it."""
        return [n[len(prefix) :] for n in self.arrays.files if n.startswith(prefix)]


def recorded_noise(
    replace: Tensor, new_labels: Tensor, sign01: Tensor, part: Tensor, num_labels: int
) -> DenoisingNoise:
    """The random numbers that the released code drew for its denoising group.

    Args:
        replace: (R,) uniform; a label is replaced below 0.25.
        new_labels: the labels that replace these, in their order.
        sign01: (R, 4) of 0 and 1.
        part: (R, 4) uniform.
        num_labels: size of the label space.
    """
    labels = torch.zeros_like(replace)
    labels[replace < 0.25] = (new_labels.float() + 0.5) / num_labels
    return DenoisingNoise(replace, labels, sign01.float() * 2 - 1, part)


def released_loss_name(ours: str) -> str:
    """`loss_class_dn_0` -> `d0.dn_loss_cls`, and so on."""
    _, kind, *rest = ours.split("_")
    name = {"category": "language_loss", "class": "loss_cls", "l1": "loss_bbox", "giou": "loss_iou"}
    prefix = "".join(f"{part}_" for part in rest if part in ("dn", "enc"))
    layer = "".join(f"d{part}." for part in rest if part.isdigit())
    return f"{layer}{prefix}{name[kind]}"


def read_about(path: Path) -> dict[str, Any]:
    """The JSON of a fixture.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: a fixture is NAME.json and NAME.npz")
    about = json.loads(path.read_text())
    if not isinstance(about, dict):
        raise ValueError(f"{path} is no parity fixture: expected a JSON object")
    return about


def read_arrays(path: Path) -> Any:
    """The arrays that belong to the JSON of a fixture.

    Raises:
        FileNotFoundError: they are missing.
        ValueError: no such file.
    """
    arrays_path = path.with_suffix(".npz")
    if not arrays_path.is_file():
        raise FileNotFoundError(f"no {arrays_path}: a fixture is NAME.json and NAME.npz")
    try:
        return np.load(arrays_path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{arrays_path} is no npz file (cut short?): {error}") from error


@dataclass(frozen=True)
class ParityFixture(Recorded):
    """The released CQ-DINO, tree or self-attention."""

    @classmethod
    def load(cls, path: Path) -> ParityFixture:
        """Reads both files.

        Raises:
            FileNotFoundError: one of them is missing.
            ValueError: no fixture, or of a variant that is not known.
        """
        about = read_about(path)
        if about.get("variant") not in CONFIGS:
            raise ValueError(
                f"{path} is no parity fixture: 'variant' must be in {sorted(CONFIGS)}, or it holds "
                "numbers of a text-prompted detector"
            )
        return cls(about, read_arrays(path))

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """Unpadded (height, width) of each image."""
        return [(int(h), int(w)) for h, w in self.arrays["in/img_shapes"]]

    def vocabulary(self) -> Vocabulary:
        """The fixture's categories with its tree, if it has one."""
        names = tuple(self.about["categories"])
        parents: list[list[int]] = [[] for _ in names]
        tree = self.about.get("tree") or {}
        for parent, children in enumerate(tree.get("children", [])):
            for child in children:
                parents[child].append(parent)
        hierarchy = CategoryHierarchy(len(names), parents, tree.get("level"))
        return Vocabulary(names, tuple(range(len(names))), hierarchy)

    def images(self) -> Tensor:
        """(B, 3, H, W) normalised and padded; zeros where a fixture comes without images."""
        if "in/batch_inputs" in self:
            return self.tensor("in/batch_inputs")
        sizes = self.image_sizes
        return torch.zeros(len(sizes), 3, max(h for h, _ in sizes), max(w for _, w in sizes))

    def recorded_maps(self) -> list[Tensor]:
        """What the released backbone returned, per level."""
        return [
            self.tensor(f"eval/backbone.{i}") for i in range(len(self.about["dims"]["out_indices"]))
        ]

    def targets(self) -> list[ImageTargets]:
        """Ground truth of each image."""
        result = []
        for image, (height, width) in enumerate(self.image_sizes):
            boxes = self.tensor(f"gt/bboxes.{image}") / torch.tensor([width, height] * 2)
            labels = self.tensor(f"gt/labels.{image}")
            result.append(ImageTargets(xyxy_to_cxcywh(boxes), labels, (height, width)))
        return result

    def model(self) -> nn.Module:
        """Our detector in the fixture's sizes, with its weights.

        Raises:
            ValueError: weights that do not fit, each named.
        """
        vocabulary = self.vocabulary()
        model = instantiate(self.config({"_target_": lambda: vocabulary}).model)
        state = {name: self.tensor(f"sd/{name}") for name in self.names("sd/")}
        if not any(name.startswith("backbone.") for name in state):
            model.backbone = RecordedBackbone(self.recorded_maps())
        converted = convert_released_weights(state)
        try:
            model.load_state_dict(converted.weights)
        except RuntimeError as error:
            raise ValueError(f"the fixture's weights do not fit: {error}") from error
        return model

    def config(self, vocabulary: dict[str, Any]) -> DictConfig:
        """The recipe of the fixture's variant in its sizes; ``vocabulary`` is a call node."""
        dims, swin = self.about["dims"], self.about["model_cfg"]["backbone"]
        cfg = LazyConfig.load(str(ROOT / CONFIGS[self.about["variant"]]))
        cfg.vocabulary = vocabulary
        model, layers = cfg.model, self.about["model_cfg"]
        widths = [dims["swin_embed_dims"] * 2**stage for stage in dims["out_indices"]]
        model.backbone.out_indices = dims["out_indices"]
        model.backbone.model_args = dict(
            img_size=swin["pretrain_img_size"],
            embed_dim=dims["swin_embed_dims"],
            depths=dims["depths"],
            num_heads=dims["swin_heads"],
            window_size=dims["window"],
            drop_path_rate=0.0,
        )
        neck = dict(in_channels=widths, dim=dims["embed_dims"], num_levels=dims["num_levels"])
        model.neck.update(neck | dict(num_groups=dims["gn_groups"]))
        model.categories.dim = dims["hidden"]
        if self.about["variant"] == "tree":
            model.categories.relation.weight_vocabulary = RELEASED_WEIGHT_VOCABULARY
        model.selection.update(
            map_channels=widths[-1],
            image_dim=dims["enc_width"],
            num_selected=dims["K"],
            num_layers=dims["bert_layers"],
            num_heads=dims["bert_heads"],
            hidden_dim=dims["intermediate"],
            dropout=0.0,
        )
        shared = dict(num_heads=dims["num_heads"], hidden_dim=dims["ffn"])
        fusion_heads = layers["encoder"]["fusion_layer_cfg"]["num_heads"]
        model.encoder.num_layers = layers["encoder"]["num_layers"]
        model.encoder.image_layer.update(shared)
        model.encoder.exchange.update(
            attention_dim=dims["fusion_dim"], num_heads=fusion_heads, dropout=0.0
        )
        model.decoder.update(shared | dict(num_layers=layers["decoder"]["num_layers"]))
        model.query_selection.num_queries = dims["num_queries"]
        model.denoising.num_queries = dims["dn_queries"]
        model.denoising.content = {
            "_target_": "cqdino_d2.transformer.ReleasedLabelContent",
            "dim": dims["embed_dims"],
        }
        model.criterion.category_loss.images_per_process = None  # the released sum
        model.post_processor.num_detections = dims["max_per_img"]
        return cfg
