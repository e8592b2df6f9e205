"""The other relations among the categories, for data sets without a tree."""

from detectron2.config import LazyCall as L

from cqdino_d2.categories import CategorySelfAttention, LengthOneSelfAttention

self_attention = L(CategorySelfAttention)(dim="${model.categories.dim}", num_heads=8)
length_one_self_attention = L(LengthOneSelfAttention)(dim="${model.categories.dim}", num_heads=8)
