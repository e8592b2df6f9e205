"""A predictor that answers from a file, with one weight so that it has a checkpoint."""

import json
from pathlib import Path

import torch
from detectron2.structures import Boxes, Instances
from torch import nn


class FakePredictor(nn.Module):
    """Finds in each image what ``answers`` has for 'SET/IMAGE_ID': rows of box, score, thing.

    All scores are multiplied by the weight, which the checkpoint brings.
    """

    def __init__(self, *, answers):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.answers = json.loads(Path(answers).read_text())

    def forward(self, batch):
        return [{"instances": self._find(sample)} for sample in batch]

    def _find(self, sample):
        assert sample["prompt"].caption and sample["image"].dtype == torch.uint8
        rows = self.answers.get(f"{sample['set_name']}/{sample['image_id']}", [])
        found = Instances((sample["height"], sample["width"]))
        boxes = torch.tensor([box for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found.pred_boxes = Boxes(boxes)
        found.scores = torch.tensor([score for _, score, _ in rows]) * self.scale
        found.pred_classes = torch.tensor([thing for _, _, thing in rows], dtype=torch.int64)
        return found
