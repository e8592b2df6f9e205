"""CQ-DINO for Detectron2: detection among thousands of categories with category queries.

Importing the package registers the meta-architecture "CQDINO" and nothing else.
"""

from .detector import CQDINO

__all__ = ["CQDINO", "__version__"]
__version__ = "0.1.0"
