"""The small datasets, and Detectron2's catalogs left as they were."""

from ..annotation_sets import clean_catalogs, v3det_root  # noqa: F401
