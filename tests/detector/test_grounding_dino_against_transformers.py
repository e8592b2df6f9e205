"""Hugging Face's Grounding DINO and MM-Grounding-DINO with random weights as oracles.

Images of a batch have one size here: theirs may take a token of the padding as a proposal.
"""

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList

from cqdino_d2.checkpoint import convert_transformers_grounding_weights
from cqdino_d2.structures import ClassRequest, TextPrompt
from tests.tiny import ROOT

WORDS = ["[PAD]", "[UNK]", *(f"[unused{i}]" for i in range(98)), "a", "[CLS]", "[SEP]", "red"]
WORDS += ["cat", "dog", "two", *(f"[unused{i}]" for i in range(98, 1003)), ".", "bus"]
WORDS += [f"[unused{i}]" for i in range(1003, 1017)] + ["tree", "?"]  # specials have BERT's numbers


@pytest.fixture(scope="module", params=["grounding_dino", "mm_grounding_dino"])
def theirs(request):
    return make_theirs(request.param)


def make_theirs(form):
    transformers = pytest.importorskip("transformers")
    swin = transformers.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        out_indices=[2, 3, 4],
    )
    bert = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=32,
    )
    sizes = dict(
        backbone_config=swin,
        text_config=bert,
        d_model=32,
        num_queries=11,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=40,
        max_text_len=24,
    )
    torch.manual_seed(0)
    if form == "mm_grounding_dino":
        own_heads = dict(decoder_bbox_embed_share=False, decoder_cls_embed_share=False)
        config = transformers.MMGroundingDinoConfig(**sizes, **own_heads)
        model = transformers.MMGroundingDinoForObjectDetection(config).eval()
    else:
        config = transformers.GroundingDinoConfig(**sizes)
        model = transformers.GroundingDinoForObjectDetection(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def our_config(theirs, vocabulary_file):
    config = theirs.config
    form = config.model_type.replace("-", "_")
    model = LazyConfig.load(str(ROOT / f"configs/models/{form}.py")).model
    model.backbone.model_args = dict(
        embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=4
    )
    model.neck.update(in_channels=[16, 32, 64], dim=config.d_model)
    model.categories.tokenizer.update(vocabulary_file=str(vocabulary_file), max_tokens=24)
    text = config.text_config
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    names += ("intermediate_size", "max_position_embeddings")
    model.categories.language_model.update({name: getattr(text, name) for name in names})
    model.encoder.num_layers, model.decoder.num_layers = 2, 3
    model.encoder.image_layer.update(num_heads=4, hidden_dim=48)
    model.encoder.slot_layer.update(num_heads=2, hidden_dim=24)
    model.encoder.exchange.update(attention_dim=24, num_heads=2)
    model.decoder.update(num_heads=2, hidden_dim=40)
    model.query_selection.num_queries = 11
    return model


@pytest.mark.parametrize("size", [(64, 96), (104, 72)])
def test_it_predicts_what_transformers_predicts(theirs, tmp_path, size):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    ours = instantiate(our_config(theirs, path)).eval()
    converted = convert_transformers_grounding_weights(theirs.state_dict()).weights
    left = ours.load_state_dict(converted, strict=False)
    assert left.unexpected_keys == []
    assert [name for name in left.missing_keys if not name.startswith("denoising.")] == []
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, *size)
    prompts = (TextPrompt("a red cat. two dog. bus?"), TextPrompt("tree. a bus."))
    tokens = ours.categories.tokenizer(prompts)
    with torch.no_grad():
        expected = theirs(
            pixel_values=pixels,
            pixel_mask=torch.ones(2, *size, dtype=torch.int64),
            input_ids=tokens.input_ids,
            attention_mask=tokens.valid.long(),
        )
        found = ours.run(ImageList(pixels, [size, size]), None, ClassRequest(prompts=prompts))
    boxes = found.output.boxes_cxcywh_norm[-1]
    torch.testing.assert_close(boxes, expected.pred_boxes, rtol=1e-4, atol=1e-5)
    logits = expected.logits[..., : tokens.input_ids.shape[1]]
    for i, valid in enumerate(tokens.valid):
        torch.testing.assert_close(
            found.output.logits[-1, i][:, valid], logits[i][:, valid], rtol=1e-4, atol=1e-4
        )


def test_heads_of_all_layers_are_their_own_where_they_may_be(theirs):
    state = theirs.state_dict()
    converted = convert_transformers_grounding_weights(state).weights
    heads = {name for name in converted if name.endswith(".4.weight") and "box_head" in name}
    per_layer = {f"decoder.box_heads.{i}.4.weight" for i in range(3)}
    shared = theirs.config.model_type == "grounding-dino"
    expected = {"decoder.box_heads.0.4.weight"} if shared else per_layer
    assert heads == expected | {"query_selection.box_head.4.weight"}
    for name in ("", "model.decoder."):  # a file lists them under one of two names
        one = {n: t for n, t in state.items() if not n.startswith(("model.decoder.bbox", "bbox"))}
        one |= {f"{name}{n}": t for n, t in state.items() if n.startswith("bbox_embed.")}
        again = convert_transformers_grounding_weights(one).weights
        assert all(torch.equal(again[n], converted[n]) for n in expected)


def test_a_projection_without_the_others_is_named(theirs):
    state = theirs.state_dict()
    name = "model.decoder.layers.1.encoder_attn_text.value.bias"
    state.pop(name)
    with pytest.raises(ValueError, match=r"layers\.1\.encoder_attn_text\.query\.bias has no"):
        convert_transformers_grounding_weights(state)
