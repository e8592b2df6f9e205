"""The transformer and the criterion of a recorded run, each stage by itself.

The batch holds two images of different sizes, so that masks and valid ratios have an effect.
"""

from __future__ import annotations

import torch
from detectron2.config import instantiate
from parity.fixture import ParityFixture

from cqdino_d2.checkpoint import convert_released_weights
from cqdino_d2.structures import DecoderOutput
from tests.golden_files import GOLDEN
from tests.slots import make_proposals, make_slots


class GoldenStages:
    """Builds stages with the recorded weights and what goes into them."""

    def __init__(self):
        self.fixture = ParityFixture.load(GOLDEN / "padded_stages.json")
        self.tensor = self.fixture.tensor
        vocabulary = self.fixture.vocabulary()
        self.model_config = self.fixture.config({"_target_": lambda: vocabulary}).model
        self.weights = self._converted("sd/")

    def _converted(self, prefix):
        state = {name: self.tensor(prefix + name) for name in self.fixture.names("sd/")
                 if prefix + name in self.fixture}  # fmt: skip
        # names of all heads go through the conversion, for it counts them
        missing = {n: torch.empty(0) for n in self.fixture.names("sd/") if n not in state}
        return convert_released_weights(state | missing).weights

    def stage(self, name):
        """The stage of the model's config with that name, in training mode (without dropout)."""
        module = instantiate(self.model_config[name])
        start = f"{name}."
        own = {k[len(start) :]: v for k, v in self.weights.items() if k.startswith(start)}
        if own:
            module.load_state_dict(own)
        return module

    def gradients(self):
        """The recorded gradients of the total loss, by our names."""
        return {name: x for name, x in self._converted("grad/").items() if x.numel()}

    def tokens(self, tokenizer):
        """Image tokens from the recorded maps of the neck."""
        maps = [self.tensor(f"eval/neck.{i}") for i in range(4)]
        sizes = self.fixture.image_sizes
        padded = (max(h for h, _ in sizes), max(w for _, w in sizes))
        return tokenizer(maps, sizes, padded)

    def slots(self, features="eval/text_feat"):
        """The selected categories before the encoder, or after it ("eval/memory_text")."""
        return make_slots(
            self.tensor(features),
            self.tensor("eval/topk_categories"),
            logits=self.tensor("eval/category_logits"),
        )

    def proposals(self):
        """The recorded proposals; their content is not needed by the criterion."""
        token_ids = self.tensor("eval/topk_proposals")
        boxes = take(self.tensor("eval/enc_coord_unact"), token_ids).sigmoid()
        logits = take(self.tensor("eval/enc_class"), token_ids)
        return make_proposals(torch.zeros(*token_ids.shape, 1), boxes, logits)

    def training_output(self):
        """The recorded predictions of a training step, denoising queries in front."""
        return DecoderOutput(self.tensor("train/dec_class"), self.tensor("train/dec_boxes"))


def take(x, token_ids):
    return x.gather(1, token_ids[..., None].expand(-1, -1, x.shape[-1]))


def assert_agrees(ours, recorded, tolerance=1e-4):
    """The norm of the difference, relative to that of the recorded numbers; infinities match."""
    ours, recorded = ours.detach().double(), recorded.double()
    assert ours.shape == recorded.shape
    finite = recorded.isfinite()
    assert torch.equal(finite, ours.isfinite())
    difference = (ours - recorded)[finite].norm()
    assert difference <= tolerance * recorded[finite].norm().clamp(min=1e-12), float(difference)
