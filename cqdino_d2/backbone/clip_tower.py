"""CLIP's ResNet as a feature map and a pooling, for what it sees in parts of an image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class ClipResNet(nn.Module):
    """The image tower of a CLIP ResNet: its convolutions, and its attention pool.

    Args:
        visual: open_clip's ``ModifiedResNet``.

    Raises:
        ValueError: another kind of tower.

    Attributes:
        stride: of the map, in pixels.
        grid: side of what the attention pool takes.
        pixel_mean, pixel_std: of RGB values in 0..1, as CLIP was trained.
    """

    stride = 32
    pixel_mean = (0.48145466, 0.4578275, 0.40821073)
    pixel_std = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, visual: nn.Module) -> None:
        from open_clip.modified_resnet import ModifiedResNet

        super().__init__()
        if not isinstance(visual, ModifiedResNet):
            raise ValueError(
                f"the teacher has to be one of CLIP's ResNets, got a {type(visual).__name__}"
            )
        self.visual, self.grid = visual, visual.image_size // self.stride

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised as CLIP's -> (B, D, H / 32, W / 32)."""
        tower = self.visual
        x = tower.layer2(tower.layer1(tower.stem(images)))
        return tower.layer4(tower.layer3(x))

    def pool(self, regions: Tensor) -> Tensor:
        """(R, D, grid, grid) -> (R, E) embeddings, not normalised."""
        return self.visual.attnpool(regions)


def clip_resnet(model: str = "RN50", pretrained: str = "openai") -> ClipResNet:
    """One of open_clip's; its text tower is thrown away.

    Args:
        model: a name that open_clip knows.
        pretrained: a tag that open_clip knows, or a weight file.

    Raises:
        ValueError: no ResNet, or weights that cannot be had.
    """
    import open_clip

    try:
        whole = open_clip.create_model(model, pretrained=pretrained, require_pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(
            f"the teacher's weights {pretrained!r} of {model} cannot be loaded: {error}\n"
            "model.teacher.tower.pretrained takes a weight file as well"
        ) from error
    return ClipResNet(whole.visual)


def random_clip_resnet(
    *, layers: Sequence[int], width: int, heads: int, dim: int, image_size: int = 224
) -> ClipResNet:
    """One of any size with random weights, for tests.

    Args:
        layers: blocks of the four stages.
        width: of the first stage.
        heads: of the attention pool.
        dim: E, of the embeddings.
        image_size: of the images that the attention pool is made for, a multiple of 32.
    """
    from open_clip.modified_resnet import ModifiedResNet

    return ClipResNet(ModifiedResNet(list(layers), dim, heads, image_size, width))
