"""From a lazy config and overrides to settings in which nothing is open."""

from .lazy_config import (
    dotted_name,
    load_config,
    plain_container,
    reads_words,
    saved_vocabulary,
    with_saved_vocabulary,
    with_vocabulary,
    without_pretrained,
)
from .lengths import iterations_of, with_lengths
from .run_record import check_same_vocabulary, report_changes, write_record
from .settling import SettledTraining, settle_evaluation, settle_training

__all__ = [
    "SettledTraining",
    "check_same_vocabulary",
    "dotted_name",
    "iterations_of",
    "load_config",
    "plain_container",
    "reads_words",
    "report_changes",
    "saved_vocabulary",
    "settle_evaluation",
    "settle_training",
    "with_lengths",
    "with_saved_vocabulary",
    "with_vocabulary",
    "without_pretrained",
    "write_record",
]
