"""CQ-DINO for Detectron2: detection among thousands of categories with category queries."""

__version__ = "0.1.0"
