"""Trained detectors on a web page: model logic, limits, the page and its server.

`page` and `web_app` need gradio; the other modules do without it.
"""
