"""The whole detector with the plain formulation of every part: the yardstick for ours.

Deformable attention by grid_sample, the tree once per image, all V category queries and all
attention weights in memory, windows padded before their projections, torch's own linear layers.
"""

import math
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention

from cqdino_d2.layers.cpu import Linear
from cqdino_d2.ops import compiled
from cqdino_d2.structures import CategoryScores, ClassQueries, ClassSlots
from cqdino_d2.transformer.fusion import BiAttention
from tests.categories import plain_formulation
from tests.transformer.plain_fusion import plain_fusion


def unfused_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
    """Scaled dot-product attention that stores its weights."""
    assert not is_causal
    weights = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        weights = weights.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        weights = weights + attn_mask
    return F.dropout(weights.softmax(-1), dropout_p) @ value


def pad_and_attend(block, x):
    """timm's windowed attention on a map that was padded to whole windows before."""
    height, width = x.shape[1:3]
    pad_h, pad_w = -height % block.window_size[0], -width % block.window_size[1]
    padded = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    return SwinTransformerBlock._attn(block, padded)[:, :height, :width]


@contextmanager
def plain(model, batch=1):
    """Inside, the detector computes everything the plain way, for a batch of `batch` images."""
    categories, selection = model.categories, model.selection

    def relate(request=None):
        return ClassQueries(plain_formulation.relate(categories, categories.relation, batch))

    def select(image_map, queries, targets=None, request=None):
        logits, ids, features = plain_formulation.select_among(
            selection, queries.features, image_map
        )
        valid = torch.ones_like(ids, dtype=torch.bool)
        return ClassSlots(features, ids, valid, scores=CategoryScores(logits))

    with ExitStack() as stack:

        def replace(owner, name, value):
            stack.enter_context(mock.patch.object(owner, name, value))

        replace(compiled, "DEVICES", frozenset())
        replace(Linear, "forward", torch.nn.Linear.forward)
        replace(F, "scaled_dot_product_attention", unfused_attention)
        replace(BiAttention, "fuse", plain_fusion)
        replace(categories, "forward", relate)
        replace(model, "class_queries", lambda request=None: categories(request))
        replace(selection, "forward", select)
        for module in model.backbone.modules():
            if isinstance(module, WindowAttention):
                replace(module, "fused_attn", False)
            elif isinstance(module, SwinTransformerBlock):
                replace(type(module), "_attn", pad_and_attend)
        yield
