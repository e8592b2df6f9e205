"""The other relations among the categories: for datasets without a tree, and the paper's tree."""

from detectron2.config import LazyCall as L

from cqdino_d2.categories import CategorySelfAttention, LengthOneSelfAttention, TreeAggregation

self_attention = L(CategorySelfAttention)(dim="${model.categories.dim}", num_heads=8)
length_one_self_attention = L(LengthOneSelfAttention)(dim="${model.categories.dim}", num_heads=8)
# the tree with the mixing weight that the paper states; the released weights were trained with 0.4
paper_tree_aggregation = L(TreeAggregation)(
    vocabulary="${vocabulary}", dim="${model.categories.dim}", mixing_weight=0.3
)
