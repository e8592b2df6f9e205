"""Grounding DINO in its official form, with a Swin-T backbone: words in place of categories."""

from detectron2.config import LazyCall as L

from cqdino_d2.categories import AllQueries, TextQueries
from cqdino_d2.detector import GroundingDINO
from cqdino_d2.layers import factory
from cqdino_d2.text import PromptTokenizer
from cqdino_d2.text.language_model import BertLanguageModel
from cqdino_d2.transformer import ContrastiveHead, SlotSelfAttentionLayer

from .cqdino_swin_b import model

model._target_ = GroundingDINO
model.backbone.name = "swin_tiny_patch4_window7_224.ms_in22k_ft_in1k"
model.backbone.model_args = dict(drop_path_rate=0.2)
model.neck.in_channels = [192, 384, 768]
model.categories = L(TextQueries)(
    tokenizer=L(PromptTokenizer)(vocabulary_file=None, max_tokens=256, cut_long=False),
    language_model=L(BertLanguageModel)(),
    dim="${model.neck.dim}",
    prompt_vectors=None,  # or learnt ones of some names: docs/text_training.md
)
model.selection = L(AllQueries)()
model.encoder.exchange.update(dropout=0.0, drop_path=0.1)
model.encoder.slot_layer = L(factory)(
    module=SlotSelfAttentionLayer, dim="${model.neck.dim}", num_heads=4, hidden_dim=1024
)
model.query_selection.skip_padding = True
model.query_selection.class_head = L(factory)(module=ContrastiveHead, prior=None, scaled=False)
model.decoder.class_head = L(factory)(module=ContrastiveHead, prior=None, scaled=False)
model.decoder.update(shared_box_head=True, prediction_eps=1e-3)
model.criterion.category_loss = None
