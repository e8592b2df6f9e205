"""Small models of Hugging Face with random weights, and ours in their sizes."""

import pytest
import torch
from detectron2.config import LazyConfig

from tests.tiny import ROOT

WORDS = ["[PAD]", "[UNK]", *(f"[unused{i}]" for i in range(98)), "a", "[CLS]", "[SEP]", "red"]
WORDS += ["cat", "dog", "two", *(f"[unused{i}]" for i in range(98, 1003)), ".", "bus"]
WORDS += [f"[unused{i}]" for i in range(1003, 1017)] + ["tree", "?"]  # specials have BERT's numbers


def make_theirs(form):
    """Of 'grounding_dino' or 'mm_grounding_dino'."""
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


def our_model_config(theirs, vocabulary_file):
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
