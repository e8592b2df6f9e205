"""Recorded texts of the official Grounding DINO: tokens, masks, positive maps, phrases, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cqdino_d2.compatibility.groundingdino import preprocess_caption
from cqdino_d2.data import ResizeShortestEdgeTruncated, resized_size
from cqdino_d2.structures import TextPrompt
from cqdino_d2.text import PromptTokenizer, caption_prompt, names_prompts
from cqdino_d2.text.token_phrases import token_phrase

_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def check_official_texts(
    about: Mapping[str, Any], tokenizer: PromptTokenizer, folder: Path, compare: Any
) -> None:
    """All cases but phrases2classes, whose matching of parts of words nothing here does.

    Args:
        about: the JSON.
        tokenizer: with its vocabulary.
        folder: where gdino_transform.npz lies.
        compare: has ``equal``, ``same`` and ``close``, each with (stage, ours, recorded).
    """
    for case in about["masks"]:
        _check_masks(case, tokenizer, compare)
    for i, case in enumerate(about["preprocess_caption"]):
        compare.equal(
            f"preprocess_caption.{i}", preprocess_caption(case["caption"]), case["result"]
        )
    for i, case in enumerate(about["build_captions"]):
        _check_caption(f"build_captions.{i}", case, tokenizer, compare)
    _check_positive_maps(about["positive_map"], tokenizer, compare)
    _check_phrases(about["phrases"], tokenizer, compare)
    for case in about["resize_800_1333"]:
        ours = resized_size(case["h"], case["w"], 800, 1333, short_side_first=True)
        compare.equal(f"resize {case['w']}x{case['h']}", ours, (case["out_h"], case["out_w"]))
    if "transform_npz" in about:
        _check_transform(folder / "gdino_transform.npz", compare)


def _check_masks(case: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any) -> None:
    """Tokens, which of them see each other, and which stand for a phrase."""
    name, captions = f"masks.{case['name']}", case["captions"]
    encodings = [tokenizer.encode(caption) for caption in captions]
    recorded = [[t for t in row if t != "[PAD]"] for row in case["tokens"]]
    compare.equal(f"{name}.tokens", [list(e.texts) for e in encodings], recorded)
    if "raises" in case:  # a caption without any separator; ours are refused or get one
        return
    tokens = tokenizer([TextPrompt(caption) for caption in captions])
    for ours, theirs in (
        ("input_ids", "input_ids"),
        ("valid", "attention_mask"),
        ("visible", "self_attention_masks"),
        ("position_ids", "position_ids"),
    ):
        compare.same(f"{name}.{ours}", getattr(tokens, ours).long(), torch.tensor(case[theirs]))
    if name.endswith("dot_only"):
        return  # ours refuse it
    for i, (caption, masks) in enumerate(zip(captions, case["cate_to_token_mask"], strict=True)):
        if caption.rstrip().endswith((".", "?")):
            ours = tokenizer([caption_prompt(caption)]).phrases[0].long().tolist()
            length = len(encodings[i].ids)
            recorded = [row[:length] for row in masks if any(row)]
            compare.equal(f"{name}.phrases.{i}", ours, recorded)


def _check_caption(
    name: str, case: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any
) -> None:
    """Names in one caption; a positive map of given spans."""
    if any(case["categories"]):
        (prompt,) = names_prompts(case["categories"], tokenizer, allow_alike=True)
        compare.equal(
            f"{name}.tokens", list(tokenizer.encode(prompt.caption).texts), case["tokens"]
        )
    spans = tuple(tuple(map(tuple, case["spans"][key])) for key in case["map_keys"])
    if spans:
        tokens = tokenizer([TextPrompt(case["caption"], spans)])
        recorded = torch.tensor(case["positive_map"])
        compare.close(f"{name}.positive_map", _normalised(tokens.phrases[0], recorded), recorded)


def _normalised(members: Tensor, like: Tensor) -> Tensor:
    """(P, T) members as rows that sum up to 1, of the recorded width."""
    rows = torch.zeros_like(like)
    rows[:, : members.shape[1]] = members[:, : like.shape[1]].float()
    return rows / rows.sum(dim=1, keepdim=True).clamp(min=1)


def _check_positive_maps(
    about: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any
) -> None:
    encoding = tokenizer.encode(about["caption"])
    for i, case in enumerate(about["cases"]):
        if max(end for _, end in case["span"]) > len(about["caption"]):
            continue  # an empty row there, an error here
        recorded = torch.tensor([case["map"]])
        members = torch.zeros(1, len(encoding.ids))
        for span in case["span"]:
            members[0, encoding.tokens_of(*span)] = 1
        compare.close(f"positive_map.{i}", _normalised(members, recorded), recorded)


def _check_phrases(about: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any) -> None:
    encoding = tokenizer.encode(about["caption"])
    ours, recorded = [], []
    for case in about["cases"]:
        window = (case["left_idx"], case["right_idx"])
        ours.append(token_phrase(tokenizer, encoding, case["tokens"], window))
        recorded.append(case["phrase_no_dot"])
    compare.equal("phrases", ours, recorded)


def _check_transform(path: Path, compare: Any) -> None:
    """Resized images to the pixel, and one normalised."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path}")
    arrays = np.load(path)
    image = arrays["image_rgb"]
    for name in arrays.files:
        kind, *sizes = name.split("_")
        if kind not in ("resized", "tensor"):
            continue
        resize = ResizeShortestEdgeTruncated(*map(int, sizes), short_side_first=True)
        resized = torch.from_numpy(resize.get_transform(image).apply_image(image).copy())
        recorded = torch.from_numpy(arrays[name])
        if kind == "resized":
            compare.same(name, resized, recorded)
        else:
            normalised = (resized / 255 - _MEAN) / _STD
            compare.close(name, normalised.permute(2, 0, 1), recorded)
