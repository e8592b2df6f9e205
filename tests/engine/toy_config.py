from detectron2.config import LazyCall as L
from detectron2.data.transforms import ResizeShortestEdge
from toy_detector import ToyBackbone, ToyDetector, ToyTrainLoader, toy_test_loader, toy_vocabulary
from toy_evaluator import ToyEvaluator

from ...configs.common.optim import optimizer
from ...configs.common.schedule import lr_multiplier_24ep as lr_multiplier
from ...configs.common.train import train

vocabulary = L(toy_vocabulary)()
model = L(ToyDetector)(
    backbone=L(ToyBackbone)(channels="${..channels}", pretrained=False),
    vocabulary="${vocabulary}",
    channels=8,
    dropout=0.1,
)
dataloader = dict(
    train=L(ToyTrainLoader)(total_batch_size=4, seed="${train.seed}", start_iter=0),
    test=L(toy_test_loader)(
        num_images=4,
        mapper=dict(augmentations=[L(ResizeShortestEdge)(short_edge_length=[48, 48], max_size=64)]),
    ),
    evaluator=L(ToyEvaluator)(),
)
optimizer.params.multipliers = dict(
    backbone=dict(lr=0.01, weight_decay=10.0), categories=dict(lr=0.01, weight_decay=10.0)
)
optimizer.lr = 1e-2
lr_multiplier.warmup_iter = 3
train.best.metric = "toy/score"
train.update(
    max_iter=12,
    device="cpu",
    eval_period=0,
    log_period=1,
    log_window=1,
    progress="losses",
    checkpointer=dict(period=5, max_to_keep=2),
)
