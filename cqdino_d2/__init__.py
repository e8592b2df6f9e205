"""CQ-DINO for Detectron2: detection among thousands of categories with category queries.

Importing the package does nothing. Importing `cqdino_d2.detector` registers the meta-architectures
"CQDINO" and "CategoryTagger" with Detectron2; the entry points (configs, `cqdino_d2.engine`,
`cqdino_d2.prediction`) do that for their callers.
"""

__all__ = ["__version__"]
__version__ = "0.1.0"
