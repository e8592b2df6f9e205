"""Predictions for very many images: in parts, resumable, on one machine or on a Ray cluster."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .batch_job import BatchJob, PartSummary
from .job_settings import JobSettings

__all__ = ["BatchJob", "JobSettings", "PartSummary"]
