"""The loaders every dataset shares; a set names its splits and its vocabulary."""

from detectron2.config import LazyCall as L
from omegaconf import MISSING, OmegaConf

from cqdino_d2.data import (
    CategoryDatasetMapper,
    ResizeShortestEdgeTruncated,
    build_test_loader,
    build_train_loader,
    dataset_vocabulary,
    get_test_records,
    get_training_records,
    training_augmentations,
)
from cqdino_d2.evaluation import build_evaluator

vocabulary = L(dataset_vocabulary)(name="${dataloader.train.dataset.names}")

dataloader = OmegaConf.create(
    dict(
        train=L(build_train_loader)(
            dataset=L(get_training_records)(
                names=MISSING, filter_empty=True, vocabulary="${vocabulary}"
            ),
            mapper=L(CategoryDatasetMapper)(
                augmentations=L(training_augmentations)(
                    short_sides=list(range(480, 801, 32)), max_size=1333, flip=0.5, crop=False
                ),
                is_train=True,
            ),
            total_batch_size=16,
            sampler="uniform",  # uniform | repeat_factor | class_aware
            aspect_ratio_grouping=False,
            mosaic=0.0,
            replace_unreadable=False,  # an image that cannot be read ends the run
            num_workers=4,
            seed="${train.seed}",
        ),
        test=L(build_test_loader)(
            dataset=L(get_test_records)(names=MISSING),
            mapper=L(CategoryDatasetMapper)(
                augmentations=[
                    L(ResizeShortestEdgeTruncated)(short_edge_length=800, max_size=1333)
                ],
                is_train=False,
            ),
            num_workers=4,
        ),
        evaluator=L(build_evaluator)(
            dataset_name="${dataloader.test.dataset.names}",
            max_dets=300,
            output_dir="${train.output_dir}",
            vocabulary="${vocabulary}",
        ),
    )
)
