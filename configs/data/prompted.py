"""Sets whose images have their own prompts, for text-prompted detectors: there is no training."""

from detectron2.config import LazyCall as L
from omegaconf import MISSING, OmegaConf

from cqdino_d2.data import build_test_loader, get_prompted_records, text_vocabulary
from cqdino_d2.evaluation import build_evaluator

from .detection import dataloader as detection

vocabulary = L(text_vocabulary)()

dataloader = OmegaConf.create(
    dict(
        test=L(build_test_loader)(
            dataset=L(get_prompted_records)(names=MISSING, wordings=False, drop_brackets=False),
            mapper=detection.test.mapper,
            num_workers=4,
        ),
        evaluator=L(build_evaluator)(
            dataset_name="${dataloader.test.dataset.names}",
            max_dets=300,
            output_dir="${train.output_dir}",
            vocabulary=None,
        ),
    )
)
