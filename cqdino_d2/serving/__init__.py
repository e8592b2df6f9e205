"""Trained detectors for others: one runner of models, a web page and an HTTP API over it.

`page` and `web_app` need gradio, `api` needs fastapi, uvicorn and prometheus-client; the other
modules do without them.
"""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
