"""The quickstart's detector with given features of the categories' names, which stay as they are.

So categories can be added by their names alone; `train.category_embeddings=` has the features.
"""

from detectron2.config import LazyCall as L
from torch.nn import LayerNorm

from .quickstart import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/text_features"
train.frozen = ["categories.embeddings"]
model.categories.embedding_dim = 384  # MiniLM's
model.categories.relation = L(LayerNorm)(normalized_shape="${model.categories.dim}")
