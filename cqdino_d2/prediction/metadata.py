"""Names of categories where Detectron2 looks for them."""

from __future__ import annotations

import hashlib

from detectron2.data import MetadataCatalog

from ..structures import Vocabulary


def register_metadata(vocabulary: Vocabulary) -> str:
    """Registers names and ids under a name that follows from the vocabulary's content."""
    content = repr((vocabulary.names, vocabulary.dataset_ids)).encode()
    name = f"cqdino_vocabulary_{hashlib.sha256(content).hexdigest()[:16]}"
    MetadataCatalog.get(name).set(
        thing_classes=list(vocabulary.names),
        thing_dataset_id_to_contiguous_id=dict(vocabulary.vocab_id_of),
    )
    return name


def with_metadata(vocabulary: Vocabulary) -> Vocabulary:
    """The same vocabulary, after `register_metadata`.

    A predictor's config builds its vocabulary by this call, so that the names are there in
    whatever process builds the model, and after whatever the config went through.
    """
    register_metadata(vocabulary)
    return vocabulary
