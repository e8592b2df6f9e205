"""A tiny detector that reads words."""

from pathlib import Path

import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate

from cqdino_d2.structures import flat_vocabulary
from tests.tiny import ROOT, tiny_config

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "a", "red", "cat", "dog", "two", "bus"]


def prompted_config(folder: Path, max_tokens: int = 256):
    """Grounding DINO's config in tiny sizes, with a vocabulary file of twelve tokens."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    cfg = LazyConfig.load(str(ROOT / "configs/models/grounding_dino.py"))
    model = cfg.model
    model.neck.update(in_channels=[16, 32], dim=16, num_levels=2, num_groups=4)
    model.backbone.model_args = dict(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    model.backbone.out_indices = [1, 2]
    model.categories.tokenizer.update(vocabulary_file=str(path), max_tokens=max_tokens)
    model.categories.language_model.update(
        vocab_size=len(WORDS),
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=32,
    )
    small = dict(num_heads=2, hidden_dim=24)
    model.encoder.num_layers = model.decoder.num_layers = 2
    model.encoder.image_layer.update(small)
    model.encoder.slot_layer.update(small)
    model.encoder.exchange.update(attention_dim=8, num_heads=2, drop_path=0.0)
    model.decoder.update(small)
    model.query_selection.num_queries = 9
    model.post_processor.num_detections = 11
    return cfg


def randomised(model):
    """The model with no parameter at zero, so that every part has an effect."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_prompted(folder: Path, **options) -> tuple[Path, Path]:
    """Config and weights of such a detector, as files."""
    cfg = tiny_config()
    cfg.model = prompted_config(folder, **options).model
    cfg.vocabulary = L(flat_vocabulary)(names=["text"])
    torch.manual_seed(0)
    model = randomised(instantiate(cfg.model))
    weights = folder / "model.pth"
    torch.save({"model": model.state_dict()}, weights)
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    return folder / "config.yaml", weights
