"""What a text-prompted detector is asked for in training, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from detectron2.structures import Instances

from ...structures import TextPrompt
from ..registration import dataset_vocabulary, is_set_of_texts, registered_texts
from .names import NameCaptions, PromptNames, Tokenizer
from .sentences import SentenceCaptions, phrase_pool

Captions = NameCaptions | SentenceCaptions


class TrainingPrompts:
    """Makes the prompt of a training image; the mapper's part that knows about words.

    An image whose boxes have categories is asked for names of what it shows and of what it does
    not, one with a text of its own for the phrases of that text. The draws come from NumPy's
    global generator, as the augmentations' do: they depend on what the loader seeds it with.

    Args:
        sets: the registered datasets that the records are of.
        tokenizer: of the model, which counts tokens.
        listing: 'drawn', or 'all': every image is asked for all names of its set, in their order
            (fine-tuning with a fixed list). Sets of texts are not concerned.
        num_negatives: N; at most N names of categories that are absent.
        full_share: share of the captions that get all N.
        verified_only: see `NameCaptions`.
        split_alternatives: whether 'bowl/basin' is one of the two, drawn anew for each image.
        drop_brackets: whether 'bow (weapon)' is 'bow'.
        phrase_negatives: N; at most N phrases of other texts are added to a text.

    Raises:
        ValueError: no dataset, or names that no caption can hold.
        FileNotFoundError: a file is missing.
    """

    def __init__(
        self,
        *,
        sets: str | Sequence[str],
        tokenizer: Tokenizer,
        listing: Literal["drawn", "all"] = "drawn",
        num_negatives: int = 85,
        full_share: float = 0.5,
        verified_only: bool = False,
        split_alternatives: bool = True,
        drop_brackets: bool = False,
        phrase_negatives: int = 0,
    ) -> None:
        names = [sets] if isinstance(sets, str) else list(sets)
        if not names:
            raise ValueError("no dataset is named")
        self.captions: dict[str, Captions] = {}
        for name in names:
            if is_set_of_texts(name):
                pool = phrase_pool(registered_texts(name)) if phrase_negatives else ()
                self.captions[name] = SentenceCaptions(
                    tokenizer, num_negatives=phrase_negatives, pool=pool
                )
                continue
            vocabulary = dataset_vocabulary(name)
            spoken = PromptNames(
                vocabulary.names,
                tokenizer,
                name,
                split_alternatives=split_alternatives and listing == "drawn",
                drop_brackets=drop_brackets,
            )
            try:
                self.captions[name] = NameCaptions(
                    vocabulary,
                    spoken,
                    listing=listing,
                    num_negatives=num_negatives,
                    full_share=full_share,
                    verified_only=verified_only,
                )
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def __call__(
        self, records: Sequence[Mapping[str, Any]], instances: Instances
    ) -> tuple[TextPrompt, Instances]:
        """The prompt of an image, and its boxes without those that the caption has no room for.

        Args:
            records: those that the image is made of, with 'set_name' where there are several sets.
            instances: with gt_classes, the vocab_ids or, of a text, the places of its phrases.

        Raises:
            ValueError: records of several sets, of another set, or several texts.
        """
        classes = instances.gt_classes.tolist()
        rng = np.random.default_rng(np.random.randint(2**31, size=4))  # noqa: NPY002
        drawn = self.captions[self._set_of(records)].draw(records, classes, rng)
        lost = frozenset(drawn.lost)
        kept = [place for place, one in enumerate(classes) if one not in lost]
        return drawn.prompt, instances if len(kept) == len(classes) else instances[kept]

    def _set_of(self, records: Sequence[Mapping[str, Any]]) -> str:
        default = next(iter(self.captions)) if len(self.captions) == 1 else None
        names = {record.get("set_name", default) for record in records}
        if len(names) > 1:
            raise ValueError(
                f"an image of records of several sets ({', '.join(sorted(map(str, names)))}) has "
                "no common names: set mosaic to 0"
            )
        (name,) = names
        if name not in self.captions:
            raise ValueError(
                f"a record is of the dataset {name!r}, the prompts are those of "
                f"{', '.join(self.captions)}"
            )
        return name
