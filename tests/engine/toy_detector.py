"""A tiny detector that keeps the model's contract, with dropout as its source of chance."""

import time

import torch
import yaml
from detectron2.config import configurable, instantiate
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from omegaconf import OmegaConf
from torch import nn

from cqdino_d2.structures import random_vocabulary


class ToyBackbone(nn.Module):
    def __init__(self, *, channels, pretrained=False):
        super().__init__()
        if pretrained:
            raise RuntimeError("the toy has no pretrained weights to fetch")
        self.conv = nn.Conv2d(3, channels, 3, stride=4)

    def forward(self, image):
        return self.conv(image / 255).relu().mean((1, 2))


@META_ARCH_REGISTRY.register()
class ToyDetector(nn.Module):
    """Predicts one box per image, of the best of V categories; selects the best K."""

    @configurable
    def __init__(self, *, backbone, vocabulary, channels, dropout=0.1, num_selected=2):
        super().__init__()
        self.backbone = backbone
        self.categories = nn.Embedding(len(vocabulary), channels)
        self.dropout = nn.Dropout(dropout)
        self.box = nn.Linear(channels, 4)
        self.num_selected = num_selected
        self.trained_on = []

    @classmethod
    def from_config(cls, cfg):
        node = OmegaConf.create(yaml.safe_load(cfg.MODEL.CQDINO.LAZY_CONFIG))
        return {key: instantiate(value) for key, value in node.items() if key != "_target_"}

    def _encode(self, batch):
        device = self.box.weight.device
        features = torch.stack([self.backbone(x["image"].to(device).float()) for x in batch])
        features = self.dropout(features)
        return features @ self.categories.weight.T, self.box(features).sigmoid()

    def forward(self, batch):
        logits, boxes = self._encode(batch)
        if self.training:
            return self._losses(batch, logits, boxes)
        return [self._result(*row) for row in zip(batch, logits, boxes, strict=True)]

    def _losses(self, batch, logits, boxes):
        target = torch.zeros_like(logits)
        for row, sample in enumerate(batch):
            target[row, sample["instances"].gt_classes] = 1
        category = nn.functional.binary_cross_entropy_with_logits(logits, target)
        if any(sample.get("poison") for sample in batch):
            category = category * float("nan")
        wanted = torch.stack([x["instances"].gt_boxes.tensor[0] / 32 for x in batch])
        return {"loss_category": category, "loss_box": (boxes - wanted).abs().mean()}

    def _result(self, sample, logits, box):
        height, width = sample["height"], sample["width"]
        result = Instances((height, width))
        centre_x, centre_y, half_w, half_h = box / 2
        corners = [centre_x, centre_y, centre_x + half_w, centre_y + half_h]
        scale = box.new_tensor([width, height, width, height])
        result.pred_boxes = Boxes((torch.stack(corners) * scale)[None])
        result.scores = logits.sigmoid().max()[None]
        result.pred_classes = logits.argmax()[None]
        selected = logits.topk(self.num_selected).indices
        return {"instances": result, "selected_vocab_ids": selected}


def make_sample(index, num_categories=5):
    """Image ``index`` of an endless made-up dataset."""
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    instances = Instances((32, 32))
    instances.gt_boxes = Boxes(torch.tensor([[4.0, 4.0, 20.0, 24.0]]) + index % 7)
    instances.gt_classes = torch.tensor([index % num_categories])
    return {
        "image": image,
        "height": 32,
        "width": 32,
        "image_id": index,
        "instances": instances,
    }


class ToyTrainLoader:
    """Batch n holds images n * size ... of the seed's own range; each process takes its slice."""

    def __init__(self, *, total_batch_size, seed=0, start_iter=0, delay=0.0, poison=None):
        self.size, self.seed, self.start, self.delay = total_batch_size, seed, start_iter, delay
        self.poison = poison  # this image makes a loss that is not finite

    def __iter__(self):
        from detectron2.utils import comm

        share = self.size // comm.get_world_size()
        iteration = self.start
        while True:
            first = self.seed * 1000 + iteration * self.size + comm.get_rank() * share
            time.sleep(self.delay)
            batch = [make_sample(first + offset) for offset in range(share)]
            yield [x | {"poison": x["image_id"] == self.poison} for x in batch]
            iteration += 1


def toy_test_loader(*, num_images=4, mapper=None):
    """Batches of one image, split over the processes."""
    from detectron2.utils import comm

    mine = range(comm.get_rank(), num_images, comm.get_world_size())
    return [[make_sample(index)] for index in mine]


def toy_vocabulary():
    return random_vocabulary(5)
