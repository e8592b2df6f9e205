"""The full-size model with the tree relation and a Swin-B backbone (ImageNet-22k, 384 px)."""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import ChannelMapper, TimmBackbone
from cqdino_d2.categories import CategoryQueries, ImageGuidedSelection, TreeAggregation
from cqdino_d2.criterion import (
    AsymmetricLoss,
    BoxLosses,
    CategoryLoss,
    FocalLoss,
    HungarianMatcher,
    SetCriterion,
)
from cqdino_d2.detector import CQDINO, PostProcessor
from cqdino_d2.layers import factory, named
from cqdino_d2.transformer import (
    BiAttention,
    CategoryContent,
    ContrastiveHead,
    Decoder,
    DeformableEncoderLayer,
    Denoising,
    Encoder,
    ImageTokenizer,
    QuerySelection,
)

model = L(CQDINO)(
    backbone=L(TimmBackbone)(
        name="swin_base_patch4_window12_384.ms_in22k",
        out_indices=[1, 2, 3],
        output_norm=True,
        pretrained=False,
        model_args=dict(drop_path_rate=0.3),
    ),
    neck=L(ChannelMapper)(in_channels=[256, 512, 1024], dim=256, num_levels=4, num_groups=32),
    tokenizer=L(ImageTokenizer)(dim="${model.neck.dim}", num_levels="${model.neck.num_levels}"),
    categories=L(CategoryQueries)(
        vocabulary="${vocabulary}",
        dim=768,
        relation=L(TreeAggregation)(vocabulary="${vocabulary}", dim="${model.categories.dim}"),
    ),
    selection=L(ImageGuidedSelection)(
        dim="${model.categories.dim}",
        map_channels=1024,
        image_dim=512,
        output_dim="${model.neck.dim}",
        num_selected=100,
        num_layers=2,
        num_heads=4,
        hidden_dim=3072,
        dropout=0.1,
        force_targets=False,
        ranking="score",
    ),
    encoder=L(Encoder)(
        exchange=L(factory)(
            module=BiAttention,
            dim="${model.neck.dim}",
            attention_dim=1024,
            num_heads=4,
            dropout=0.1,
            initial_scale=1e-4,
        ),
        slot_layer=None,
        image_layer=L(factory)(
            module=DeformableEncoderLayer,
            dim="${model.neck.dim}",
            num_heads=8,
            num_points=4,
            hidden_dim=2048,
        ),
        num_levels="${model.neck.num_levels}",
        num_layers=6,
        first_level=0,
        merge=None,
    ),
    query_selection=L(QuerySelection)(
        dim="${model.neck.dim}",
        num_queries=900,
        class_head=L(factory)(module=ContrastiveHead),
    ),
    denoising=L(Denoising)(
        content=L(CategoryContent)(dim="${model.neck.dim}"),
        num_object_queries="${model.query_selection.num_queries}",
        num_queries=100,
        label_noise=0.5,
        box_noise=1.0,
    ),
    decoder=L(Decoder)(
        dim="${model.neck.dim}",
        num_levels="${model.neck.num_levels}",
        num_layers=6,
        num_heads=8,
        num_points=4,
        hidden_dim=2048,
        class_head=L(factory)(module=ContrastiveHead),
        extra_heads=L(named)(),
    ),
    criterion=L(SetCriterion)(
        matcher=L(HungarianMatcher)(class_weight=2.0, l1_weight=5.0, giou_weight=2.0),
        category_loss=L(CategoryLoss)(
            vocabulary="${vocabulary}",
            loss=L(AsymmetricLoss)(gamma_negative=7.0, gamma_positive=0.0, clip=0.05),
            weight=1.0,
            images_per_process=2,
        ),
        losses=L(named)(
            focal=L(FocalLoss)(weight=1.0),
            boxes=L(BoxLosses)(l1_weight=5.0, giou_weight=2.0),
        ),
        observers=[],
    ),
    post_processor=L(PostProcessor)(num_detections=300),
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    autocast_dtype=None,  # exact; "auto" is faster where the processor has bfloat16
    inference_dtype=None,
)
