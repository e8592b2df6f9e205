"""Other projects' calls, answered by this one's models."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
