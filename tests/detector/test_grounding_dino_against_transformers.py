"""Hugging Face's Grounding DINO and MM-Grounding-DINO with random weights as oracles.

Images of a batch have one size here: theirs may take a token of the padding as a proposal.
"""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import ImageList

from cqdino_d2.checkpoint import convert_transformers_grounding_weights
from cqdino_d2.structures import ClassRequest, TextPrompt
from tests.grounding_oracle import WORDS, make_theirs, our_model_config


@pytest.fixture(scope="module", params=["grounding_dino", "mm_grounding_dino"])
def theirs(request):
    return make_theirs(request.param)


@pytest.mark.parametrize("size", [(64, 96), (104, 72)])
def test_it_predicts_what_transformers_predicts(theirs, tmp_path, size):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    ours = instantiate(our_model_config(theirs, path)).eval()
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
