"""A detector's DINO: a fixed V-way classifier in place of the category queries."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from cqdino_d2.categories import AllCategories, CategoryEmbeddings
from cqdino_d2.layers import factory
from cqdino_d2.transformer import ClassificationHead


def use_classification_head(model: DictConfig) -> None:
    """Turns the config of a `CQDINO` into that of a DINO, in place.

    Every image has all V categories as slots; their features are the label embeddings of the
    denoising group and nothing else. Encoder and decoder do not look at them.
    """
    model.categories = L(CategoryEmbeddings)(vocabulary="${vocabulary}", dim="${model.neck.dim}")
    use_fixed_slots(
        model,
        L(factory)(module=ClassificationHead, dim="${model.neck.dim}", vocabulary="${vocabulary}"),
    )


def use_fixed_slots(model: DictConfig, class_head: DictConfig) -> None:
    """All V categories are slots of every image, which nothing but the class heads looks at."""
    model.selection = L(AllCategories)(dim="${model.categories.dim}")
    model.encoder.exchange = None
    model.query_selection.class_head = class_head
    model.decoder.update(class_head=class_head, category_attention=False)
    model.criterion.category_loss = None
    model.criterion.matcher.all_slots = False
