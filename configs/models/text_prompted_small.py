"""A small model that reads words: the quickstart's, asked by names that a frozen MiniLM reads.

It learns from scratch on two CPU cores. Features of a name are computed once, so that reading costs
nothing; names that no image was labelled with are found by their words alone.
"""

from detectron2.config import LazyCall as L

from cqdino_d2.categories import AllQueries, TextQueries
from cqdino_d2.detector import GroundingDINO
from cqdino_d2.text import PromptTokenizer
from cqdino_d2.text.language_model import MINILM, BertLanguageModel

from .cqdino_small import model

model._target_ = GroundingDINO
model.categories = L(TextQueries)(
    tokenizer=L(PromptTokenizer)(vocabulary_file=None, max_tokens=512, cut_long=False),
    language_model=L(BertLanguageModel)(pretrained=True, frozen=True, sentences=True, **MINILM),
    dim="${model.neck.dim}",
    prompt_vectors=None,  # or learnt ones of some names: docs/text_training.md
)
model.selection = L(AllQueries)()
model.query_selection.skip_padding = True
model.criterion.category_loss = None
