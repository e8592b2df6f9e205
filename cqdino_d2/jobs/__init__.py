"""Predictions for very many images: in parts, resumable, on one machine or on a Ray cluster."""

from .batch_job import BatchJob, PartSummary
from .job_settings import JobSettings

__all__ = ["BatchJob", "JobSettings", "PartSummary"]
