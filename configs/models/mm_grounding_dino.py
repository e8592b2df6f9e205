"""Grounding DINO as MM-Grounding-DINO (arXiv 2401.02361) and LLMDet have it, with Swin-T.

Class heads are scaled and have a bias, every decoder layer has its own box head.
"""

from detectron2.config import LazyCall as L

from cqdino_d2.layers import factory
from cqdino_d2.transformer import ContrastiveHead

from .grounding_dino import model

model.encoder.exchange.update(dropout=0.1, drop_path=0.0)
model.query_selection.class_head = L(factory)(module=ContrastiveHead)
model.decoder.class_head = L(factory)(module=ContrastiveHead)
model.decoder.update(shared_box_head=False, prediction_eps=1e-5)
