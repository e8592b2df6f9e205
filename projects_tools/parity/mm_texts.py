"""Recorded texts and figures of MM-Grounding-DINO (mmdet): prompts, class scores, three metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cqdino_d2.annotations.grounded_texts import GroundedTexts
from cqdino_d2.annotations.odinw import Wording
from cqdino_d2.data.text_prompts import prompt_of_names, prompt_of_text
from cqdino_d2.evaluation import ExpressionProtocol, GeneralizedProtocol, PhraseProtocol
from cqdino_d2.evaluation.columns import Detections
from cqdino_d2.structures import ClassSlots, Phrases, TextPrompt
from cqdino_d2.text import PromptTokenizer


def check_mm_texts(about: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any) -> None:
    """Prompts of evaluation and training, class scores, and the figures of three kinds of sets.

    Where mmdet cleans names, the cleaned ones are given; what it reads as one name with a
    separator inside ("cat.dog") is two here and not compared.

    Args:
        about: the JSON.
        tokenizer: with its vocabulary.
        compare: has ``equal``, ``same`` and ``close``, each with (stage, ours, recorded).
    """
    for i, case in enumerate(about["inference_lists"]):
        if not any("." in name for name in case["entities"]):
            prompt = prompt_of_names(case["entities"], {})
            _check_prompt(f"inference_lists.{i}", prompt, case, tokenizer, compare)
    case = about["enhanced"]
    wordings = {name: Wording(**wording) for name, wording in case["prompts"].items()}
    prompt = prompt_of_names(case["given"], wordings)
    compare.equal("enhanced.caption", prompt.caption, case["caption"].strip())
    _check_prompt("enhanced", prompt, case, tokenizer, compare)
    for i, case in enumerate(about["given_spans"]):
        prompt = prompt_of_text(case["caption_in"], _spans(case["spans"]))
        _check_prompt(f"given_spans.{i}", prompt, case, tokenizer, compare)
    for i, case in enumerate(about["rec_mode"]):
        ours = prompt_of_text(case["given"], ())
        compare.equal(f"rec_mode.{i}", ours.caption, case["result"][1].strip())
    _check_chunks(about["chunked"], tokenizer, compare)
    for i, case in enumerate(about["char_to_token_fallbacks"]):
        prompt = TextPrompt(case["caption"], _spans([case["span"]]))
        row = [[token for token, _ in case["row"]]]
        compare.equal(f"char_to_token_fallbacks.{i}", _rows(prompt, tokenizer), row)
    _check_masks(about["masks"], tokenizer, compare)
    for i, case in enumerate(about["od_sampling"]):
        _check_sampled(f"od_sampling.{i}", case, tokenizer, compare)
    _check_scores(about["class_scores"], compare)
    _check_expressions(about["refexp_metric"], compare)
    _check_generalised(about["grefcoco_metric"], compare)
    _check_phrases(about["flickr30k_metric"], compare)


def _spans(spans: Sequence[Sequence[Sequence[int]]]) -> tuple[tuple[tuple[int, int], ...], ...]:
    return tuple(tuple((begin, end) for begin, end in own) for own in spans)


def _rows(prompt: TextPrompt, tokenizer: PromptTokenizer) -> list[list[int]]:
    """The tokens of each phrase."""
    return [row.nonzero().flatten().tolist() for row in tokenizer([prompt]).phrases[0]]


def _check_prompt(
    name: str,
    prompt: TextPrompt,
    case: Mapping[str, Any],
    tokenizer: PromptTokenizer,
    compare: Any,
) -> None:
    """The tokens of the caption, and those of each label."""
    if "tokens" in case:
        ours = list(tokenizer.encode(prompt.caption).texts)
        compare.equal(f"{name}.tokens", ours, case["tokens"])
    recorded = list(case["label_to_tokens"].values())
    compare.equal(f"{name}.label_to_tokens", _rows(prompt, tokenizer), recorded)


def _check_chunks(case: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any) -> None:
    rows = zip(case["entities"], case["label_to_tokens"], strict=True)
    for i, (names, label_to_tokens) in enumerate(rows):
        ours = _rows(prompt_of_names(names, {}), tokenizer)
        compare.equal(f"chunked.{i}", ours, list(label_to_tokens.values()))


def _check_masks(case: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any) -> None:
    tokens = tokenizer([TextPrompt(caption) for caption in case["captions"]])
    for ours, theirs in (
        ("input_ids", "input_ids"),
        ("visible", "self_attention_masks"),
        ("position_ids", "position_ids"),
    ):
        recorded = torch.tensor(case[theirs])
        compare.same(f"masks.{ours}", getattr(tokens, ours).long(), recorded)


def _check_sampled(
    name: str, case: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any
) -> None:
    """The tokens of every box, by the spans of the drawn caption."""
    if not case["tokens_positive"]:
        return
    labels, spans = zip(*case["tokens_positive"], strict=True)
    tokens = tokenizer([TextPrompt(case["caption"], _spans(spans), labels)])
    slots = ClassSlots(
        features=torch.zeros(1, tokens.valid.shape[1], 1),
        vocab_ids=torch.full_like(tokens.input_ids, -1),
        valid=tokens.valid,
        phrases=Phrases(tokens.phrases, tokens.vocab_ids),
    )
    targets = slots.multi_hot(0, torch.tensor(case["labels"]))
    ours = [row.nonzero().flatten().tolist() for row in targets]
    compare.equal(name, ours, case["positive_tokens_per_box"])


def _check_scores(case: Mapping[str, Any], compare: Any) -> None:
    """A class's score is the mean over its tokens."""
    values = torch.tensor(case["token_probabilities"])
    members = torch.zeros(1, len(case["map"]), values.shape[1], dtype=torch.bool)
    for row, tokens in zip(members[0], case["map"].values(), strict=True):
        row[tokens] = True
    ids = torch.arange(members.shape[1])[None]
    slots = ClassSlots(
        features=torch.zeros(1, values.shape[1], 1),
        vocab_ids=torch.full((1, values.shape[1]), -1),
        valid=torch.ones(1, values.shape[1], dtype=torch.bool),
        phrases=Phrases(members, ids),
    )
    compare.close("class_scores", slots.pool(values, 0)[1], torch.tensor(case["scores"]))


def _check_expressions(case: Mapping[str, Any], compare: Any) -> None:
    content = case["annotations"]
    texts = _texts(content)
    found = _detections(
        [
            (row, box, -place, 0)
            for row, own in enumerate(case["boxes"])
            for place, box in enumerate(own)
        ]
    )
    figures = ExpressionProtocol().evaluate(texts, found, np.ones(len(texts), bool))
    for name in sorted(set(texts.dataset_names)):
        for limit in (1, 5, 10):
            recorded = case["result"][f"{name}_precision@{limit}"]
            compare.close(
                f"refexp {name}@{limit}",
                torch.tensor(figures[name][f"recall@{limit}"]),
                torch.tensor(100 * recorded),
            )


def _check_generalised(case: Mapping[str, Any], compare: Any) -> None:
    """The recorded F1 is that with the boxes of the file's first image, whatever the text."""
    texts = _texts(case["annotations"])
    rows = {image: row for row, image in enumerate(texts.image_ids)}
    found = _detections(
        [
            (rows[one["img_id"]], box, score, 0)
            for one in case["preds"]
            for box, score in zip(one["boxes"], one["scores"], strict=True)
        ]
    )
    predicted = np.ones(len(texts), bool)
    figures = GeneralizedProtocol().evaluate(texts, found, predicted)["grefcoco"]
    others = _texts(_with_the_first_images_boxes(case["annotations"]))
    figures["Pr@F1"] = GeneralizedProtocol().evaluate(others, found, predicted)["grefcoco"]["Pr@F1"]
    for ours, theirs in (("Pr@F1", "F1_score"), ("N-acc", "N_acc"), ("T-acc", "T_acc")):
        recorded = torch.tensor(100 * case["result"][theirs])
        compare.close(f"grefcoco {theirs}", torch.tensor(figures[ours]), recorded)


def _with_the_first_images_boxes(content: Mapping[str, Any]) -> Mapping[str, Any]:
    rows = content["annotations"]
    boxes = [row["bbox"] for row in rows if row["image_id"] == rows[0]["image_id"]]
    targets = dict.fromkeys(row["image_id"] for row in rows if row["category_id"] != -1)
    changed = [
        {"image_id": image, "bbox": box, "category_id": 1} for image in targets for box in boxes
    ]
    return {**content, "annotations": changed}


def _check_phrases(case: Mapping[str, Any], compare: Any) -> None:
    samples = case["samples"]
    boxes = [np.asarray(sample["gt_boxes"], dtype=np.float64).reshape(-1, 4) for sample in samples]
    wanted = np.concatenate(boxes)
    texts = _empty_texts(
        len(samples),
        phrases=tuple(((),) * sample["n_phrases"] for sample in samples),
        box_offsets=np.cumsum([0, *map(len, boxes)]),
        boxes_xywh=np.concatenate([wanted[:, :2], wanted[:, 2:] - wanted[:, :2]], axis=1),
        box_phrases=np.concatenate([sample["gt_phrase"] for sample in samples]).astype(np.int32),
    )
    found = _detections(
        [
            (row, box, -place, label)
            for row, sample in enumerate(samples)
            for place, (box, label) in enumerate(
                zip(sample["pred_boxes"], sample["pred_labels"], strict=True)
            )
        ]
    )
    figures = PhraseProtocol().evaluate(texts, found, np.ones(len(texts), bool))["flickr30k"]
    for limit, recorded in case["result"].items():
        name = "all" if limit == "-1" else limit
        ours = torch.tensor(figures[f"recall@{name}"])
        compare.close(f"flickr30k@{name}", ours, torch.tensor(100 * recorded["all"]))


def _texts(content: Mapping[str, Any]) -> GroundedTexts:
    """Expressions with their boxes; a category of -1 is no target."""
    own: dict[Any, list[list[float]]] = {image["id"]: [] for image in content["images"]}
    for row in content["annotations"]:
        if row["category_id"] != -1:
            own[row["image_id"]].append(row["bbox"])
    counts = [len(boxes) for boxes in own.values()]
    return _empty_texts(
        len(own),
        image_ids=tuple(own),
        dataset_names=tuple(image.get("dataset_name", "") for image in content["images"]),
        box_offsets=np.cumsum([0, *counts]),
        boxes_xywh=np.asarray(sum(own.values(), []), dtype=np.float64).reshape(-1, 4),
        box_phrases=np.zeros(sum(counts), np.int32),
    )


def _empty_texts(count: int, **given: Any) -> GroundedTexts:
    nothing = dict(
        kind="",
        image_ids=tuple(range(count)),
        file_names=("",) * count,
        sizes=np.zeros((count, 2), np.int32),
        captions=("",) * count,
        dataset_names=("",) * count,
        phrases=((),) * count,
    )
    return GroundedTexts(**(nothing | given))


def _detections(rows: Sequence[tuple[int, Sequence[float], float, int]]) -> Detections:
    """From rows of (text, box xyxy, score, thing)."""
    images, boxes, scores, things = zip(*rows, strict=True)
    xyxy = np.asarray(boxes, dtype=np.float32)
    return Detections(
        images=np.asarray(images, np.int32),
        categories=np.asarray(things, np.int32),
        boxes_xywh_abs=np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
        scores=np.asarray(scores, np.float32),
    )
