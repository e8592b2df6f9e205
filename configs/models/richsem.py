"""RichSem (arXiv 2310.12152): its parts for any detector, and what makes a detector RichSem's."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from cqdino_d2.backbone import RegionTeacher, clip_resnet
from cqdino_d2.categories import TextTable
from cqdino_d2.criterion import FederatedFocalLoss, SemanticLoss
from cqdino_d2.data import CategoryLists, category_image_counts, load_category_embeddings
from cqdino_d2.layers import factory
from cqdino_d2.transformer import HiddenState, TextContent, TextTableHead

from .classification_head import use_fixed_slots

TEXT_DIM = 1024  # of CLIP's RN50


def use_federated_loss(model: DictConfig) -> None:
    """The class loss counts present categories and some that are drawn, in place."""
    model.criterion.losses.focal = L(FederatedFocalLoss)(
        image_counts=L(factory)(
            module=category_image_counts,
            names="${dataloader.train.dataset.names}",
            vocabulary="${vocabulary}",
        ),
        vocabulary="${vocabulary}",
        num_sampled=50,
        weight=model.criterion.losses.focal.weight,
    )


def heed_category_lists(model: DictConfig, *mappers: DictConfig) -> None:
    """The federated loss uses LVIS' lists of absent and unfinished categories, in place.

    Args:
        model: config of a `CQDINO`.
        mappers: of all training images, image-level ones (whose lists are empty) among them.
    """
    model.criterion.losses.focal.listed = True
    for mapper in mappers:
        mapper.category_lists = L(CategoryLists)(vocabulary="${vocabulary}")


def use_semantic_branch(model: DictConfig, table: str) -> None:
    """Queries of the last layer learn from CLIP RN50 what is in their boxes, in place.

    Args:
        model: config of a `CQDINO`.
        table: file of text features that were made with the same CLIP.
    """
    model.teacher = L(RegionTeacher)(
        tower=L(factory)(module=clip_resnet, model="RN50", pretrained="openai"),
        pixel_mean="${model.pixel_mean}",
        pixel_std="${model.pixel_std}",
    )
    model.decoder.extra_heads.hidden = L(factory)(module=HiddenState)
    model.criterion.losses.semantic = L(SemanticLoss)(
        dim="${model.neck.dim}",
        text_dim=TEXT_DIM,
        table=L(factory)(
            module=load_category_embeddings,
            path=table,
            vocabulary="${vocabulary}",
            dim="${model.criterion.losses.semantic.text_dim}",
        ),
        vocabulary="${vocabulary}",
        weight=0.5,
    )


def use_text_table(model: DictConfig) -> None:
    """A DINO whose class heads compare queries with a fixed text table, in place."""
    model.categories = L(TextTable)(vocabulary="${vocabulary}", dim=TEXT_DIM)
    dims = dict(dim="${model.neck.dim}", text_dim="${model.categories.dim}")
    use_fixed_slots(model, L(factory)(module=TextTableHead, **dims))
    model.query_selection.skip_padding = True
    model.decoder.update(shared_class_head=True, shared_box_head=True, prediction_eps=1e-3)
    model.denoising.content = L(TextContent)(**dims)
    model.denoising.pad_empty = False
    model.criterion.matcher.eps = 1e-8
