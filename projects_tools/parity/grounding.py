"""Recorded numbers of the official Grounding DINO, and our model built after them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList
from torch import Tensor, nn

from cqdino_d2.checkpoint import convert_official_grounding_weights
from cqdino_d2.compatibility import groundingdino
from cqdino_d2.structures import ClassRequest, Detected, TextPrompt

from .fixture import ROOT, Recorded

CONFIG = "configs/models/grounding_dino.py"


class GroundingFixture(Recorded):
    """The official Grounding DINO: images, captions, and every stage."""

    def model(self) -> nn.Module:
        """Our detector in the fixture's sizes, with its weights.

        Raises:
            ValueError: weights that do not fit, each named.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "vocab.txt")
            path.write_text("\n".join(self.about["vocab"]) + "\n", encoding="utf-8")
            model = instantiate(self.config(path).model).eval()
            assert len(model.categories.tokenizer.vocabulary)  # read while the file is there
        state = {name: self.tensor(f"sd/{name}") for name in self.names("sd/")}
        converted = convert_official_grounding_weights(state).weights
        own = model.state_dict()
        for name in own:  # training alone needs them, and the official code has no training
            if name.startswith("denoising."):
                converted[name] = own[name]
        try:
            model.load_state_dict(converted)
        except RuntimeError as error:
            raise ValueError(f"the fixture's weights do not fit: {error}") from error
        return model

    def config(self, vocabulary_file: Path) -> Any:
        """The model's config in the fixture's sizes."""
        dims, swin = self.about["dims"], self.about["dims"]["swin"]
        cfg = LazyConfig.load(str(ROOT / CONFIG))
        model, dim = cfg.model, dims["hidden_dim"]
        model.backbone.name = "swin_tiny_patch4_window7_224"
        model.backbone.out_indices = dims["swin_out_indices"]
        model.backbone.model_args = dict(
            embed_dim=swin["embed_dim"],
            depths=swin["depths"],
            num_heads=swin["num_heads"],
            window_size=swin["window_size"],
            drop_path_rate=0.0,
        )
        widths = [swin["embed_dim"] * 2**stage for stage in dims["swin_out_indices"]]
        model.neck.update(
            in_channels=widths,
            dim=dim,
            num_levels=dims["num_feature_levels"],
            num_groups=dims["group_norm_groups"],
        )
        model.categories.language_model.update(dims["bert"])
        model.categories.tokenizer.update(
            vocabulary_file=str(vocabulary_file), max_tokens=dims["max_text_len"], cut_long=True
        )
        shared = dict(num_heads=dims["nheads"], hidden_dim=dims["dim_feedforward"])
        model.encoder.num_layers = dims["enc_layers"]
        model.encoder.image_layer.update(shared | dict(num_points=dims["enc_n_points"]))
        model.encoder.exchange.update(
            attention_dim=dims["fusion_embed_dim"], num_heads=dims["fusion_heads"]
        )
        model.encoder.slot_layer.update(
            num_heads=dims["text_layer_heads"], hidden_dim=dims["text_layer_ffn"]
        )
        model.decoder.update(
            shared | dict(num_points=dims["dec_n_points"], num_layers=dims["dec_layers"])
        )
        model.query_selection.num_queries = dims["num_queries"]
        return cfg


def normalised_caption(caption: str) -> str:
    """A caption as the official code reads it."""
    caption = caption.lower().strip()
    return caption if caption.endswith(".") else caption + "."


def run_prompts(
    model: nn.Module, images: Tensor, sizes: list[tuple[int, int]], prompts: list[TextPrompt]
) -> Detected:
    """Runs the detector on normalised, padded images."""
    request = ClassRequest(prompts=tuple(prompts))
    with torch.no_grad():
        return model.run(ImageList(images, sizes), None, request)


def check_grounding(fixture: GroundingFixture, compare: Any, record: Any) -> None:
    """Batch, single images, the long caption, COCO's post-processing, spans, and `predict`.

    Args:
        fixture: what was recorded.
        compare: has ``close``, ``same`` and ``as_recorded``, each with (stage, ours, recorded).
        record: hooks a model; gives what its modules returned, and what ends it.
    """
    model = fixture.model()
    captions = [TextPrompt(normalised_caption(c)) for c in fixture.about["captions_raw"]]
    images = [fixture.tensor(f"in/image.{i}") for i in range(len(captions))]
    sizes = [tuple(x.shape[-2:]) for x in images]
    batch = fixture.tensor("in/tensors")
    seen, stop = record(model)
    found = run_prompts(model, batch, sizes, captions)
    stop()
    for name, ours in stages(model, seen, found).items():
        place = f"evalfix/{name}" if f"evalfix/{name}" in fixture else f"eval/{name}"
        if place in fixture:
            compare.as_recorded(name, ours, fixture.tensor(place))
    _check_output(found, fixture, "evalfix/pred", compare)
    for i, (image, size) in enumerate(zip(images, sizes, strict=True)):
        alone = run_prompts(model, image[None], [size], captions[i : i + 1])
        _check_output(alone, fixture, f"single/{i}.pred", compare)
    long = fixture.about["long"]
    place = long["image"]
    prompt = TextPrompt(normalised_caption(long["caption"]))
    alone = run_prompts(model, images[place][None], [sizes[place]], [prompt])
    _check_output(alone, fixture, "long/pred", compare)
    _check_coco(model, fixture, batch, sizes, compare)
    _check_spans(model, fixture, images, sizes, compare)
    _check_predict(model, fixture, images, compare)


def stages(model: nn.Module, seen: dict[str, Any], found: Detected) -> dict[str, Tensor]:
    """Our tensors under the fixture's names, in the order of computation."""
    tokens, selected = seen["tokenizer"][1], found.selected
    result = {f"backbone.{i}": x for i, x in enumerate(seen["backbone"][1].values())}
    result |= {f"proj.{i}": x for i, x in enumerate(seen["neck"][1])}
    result |= {
        "text/token_mask": selected.valid,
        "text/self_attention_masks": selected.visible,
        "text/bert_last_hidden": seen["categories.language_model"][1],
        "text/encoded_text": selected.features,
        "text/pos_text": selected.position,
        "enc_in.src_flatten": tokens.features,
        "enc_in.mask_flatten": tokens.padding_mask,
        "enc_in.pos_with_level": tokens.position,
        "enc_in.valid_ratios": tokens.valid_ratios,
    }
    for i in range(model.encoder.num_layers):
        visual, text = seen[f"encoder.fusion_layers.{i}"][1]
        result[f"enc{i}_fusion.visual"] = visual.features
        result[f"enc{i}_fusion.text"] = text.features
        result[f"enc{i}_text"] = seen[f"encoder.slot_layers.{i}"][1].features
        result[f"enc{i}_deform"] = seen[f"encoder.image_layers.{i}"][1]
    result |= {
        "memory": found.tokens.features,
        "memory_text": found.slots.features,
        "two_stage/output_memory": seen["query_selection.norm"][1],
        "two_stage/topk_proposals": found.proposals.token_ids,
        "two_stage/ref_enc": found.proposals.boxes_cxcywh_norm,
        "dec_in.tgt": found.proposals.content,
    }
    for i in range(len(model.decoder.layers)):
        result[f"dec{i}"] = seen[f"decoder.layers.{i}"][1]
        result[f"layer_boxes.{i}"] = found.output.boxes_cxcywh_norm[i]
    return result


def _check_output(found: Detected, fixture: GroundingFixture, name: str, compare: Any) -> None:
    """Logits of the real tokens, and boxes."""
    recorded = fixture.tensor(f"{name}_logits")
    ours = torch.full_like(recorded, -torch.inf)
    logits = found.output.logits[-1]
    valid = found.slots.valid[:, None].expand_as(logits)
    ours[..., : logits.shape[-1]] = logits.masked_fill(~valid, -torch.inf)
    compare.close(f"{name}_logits", ours, recorded)
    boxes = found.output.boxes_cxcywh_norm[-1]
    compare.close(f"{name}_boxes", boxes, fixture.tensor(f"{name}_boxes"))


def _check_coco(
    model: nn.Module, fixture: GroundingFixture, batch: Tensor, sizes: Any, compare: Any
) -> None:
    """One caption of category names: the best pairs of a query and a category."""
    coco = fixture.about["coco"]
    spans = tuple(tuple(map(tuple, coco["spans"][name])) for name in coco["categories"])
    prompt = TextPrompt(coco["caption"], spans, tuple(coco["category_ids"]))
    found = run_prompts(model, batch, sizes, [prompt] * len(sizes))
    wanted = [tuple(row) for row in fixture.tensor("in/target_sizes").tolist()]
    model.post_processor.num_detections = coco["num_select"]
    for i, item in enumerate(model.post_processor(found.output, found.slots, sizes, wanted)):
        instances, recorded = item["instances"], f"coco/result.{i}"
        compare.close(f"{recorded}.scores", instances.scores, fixture.tensor(f"{recorded}.scores"))
        compare.same(
            f"{recorded}.labels", instances.pred_classes, fixture.tensor(f"{recorded}.labels")
        )
        boxes = fixture.tensor(f"{recorded}.boxes")
        height, width = wanted[i]
        limits = boxes.new_tensor([width, height] * 2)
        clipped = torch.minimum(boxes.clamp(min=0), limits)  # ours end at the image's border
        compare.close(f"{recorded}.boxes", instances.pred_boxes.tensor, clipped)


def _check_spans(
    model: nn.Module, fixture: GroundingFixture, images: Any, sizes: Any, compare: Any
) -> None:
    """Mean token probability of given phrases, for every query."""
    about = fixture.about["spans"][0]  # the others differ in the threshold alone
    spans = tuple(tuple(map(tuple, own)) for own in about["token_spans"])
    place = about["image"]
    prompt = TextPrompt(about["caption"], spans)
    found = run_prompts(model, images[place][None], [sizes[place]], [prompt])
    vocab_ids, scores = found.slots.pool(found.output.logits[-1, 0].sigmoid(), 0)
    compare.same("spans", vocab_ids, torch.arange(len(spans)))
    compare.close("spans/phrase_scores", scores.T, fixture.tensor("spans/phrase_scores"))


def _check_predict(model: nn.Module, fixture: GroundingFixture, images: Any, compare: Any) -> None:
    """What the official package's `predict` returned, and what our answer to that call does."""
    device = SimpleNamespace(MODEL=SimpleNamespace(DEVICE="cpu"))
    predictor = SimpleNamespace(model=model, tokenizer=model.categories.tokenizer, cfg=device)
    for number, row in enumerate(fixture.about["predict_single"]):
        options = {key: row[key] for key in ("box_threshold", "text_threshold", "remove_combined")}
        boxes, scores, phrases = groundingdino.predict(
            predictor, images[row["image"]], row["caption"], **options
        )
        compare.close(f"predict/{number}.boxes", boxes, torch.tensor(row["boxes"]).reshape(-1, 4))
        compare.close(f"predict/{number}.scores", scores, torch.tensor(row["scores"]))
        if phrases != row["phrases"]:
            raise ValueError(f"predict/{number}: phrases {phrases}, recorded {row['phrases']}")
