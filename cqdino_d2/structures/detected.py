"""What the stages of a detector made of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from .class_slots import ClassSlots
from .queries import DecoderOutput, DenoisingGroup, Proposals
from .tokens import ImageTokens


@dataclass(frozen=True)
class Detected:
    """What the stages made of a batch.

    Attributes:
        selected: the class slots as they were selected.
        tokens, slots: both after the encoder.
        proposals: the object queries' start.
        denoising: None outside training.
        output: of the decoder.
    """

    selected: ClassSlots
    tokens: ImageTokens
    slots: ClassSlots
    proposals: Proposals
    denoising: DenoisingGroup | None
    output: DecoderOutput
