"""The API's description as a page that loads nothing: no script, no other server."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 3px 12px 3px 0; border-top: 1px solid #ccc;
  vertical-align: top; }
"""
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def docs_page(schema: Mapping[str, Any]) -> HTMLResponse:
    """Addresses and fields of requests.

    Args:
        schema: OpenAPI's.
    """
    title = html.escape(schema["info"]["title"])
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        "<p>The whole description is at <a href=openapi.json>openapi.json</a>.</p>"
    ]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            parts.append(f"<p>{html.escape(route.get('description', ''))}</p>")
            parts.append(_fields(route.get("requestBody", {})))
    return HTMLResponse("".join(parts), headers=_POLICY)


def _fields(body: Mapping[str, Any]) -> str:
    """The fields of a body in JSON, as a table; '' where there is none."""
    content = body.get("content", {}).get("application/json", {}).get("schema", {})
    rows = [
        f"<tr><td>{html.escape(name)}<td>{html.escape(_kind(field))}"
        f"<td>{html.escape(str(field.get('default', '')))}"
        f"<td>{html.escape(field.get('description', ''))}"
        for name, field in content.get("properties", {}).items()
    ]
    head = "<tr><th>field<th>type<th>default<th>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""


def _kind(field: Mapping[str, Any]) -> str:
    """A type in words, such as 'list of text'."""
    if "anyOf" in field:
        kinds = [_kind(one) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return {"string": "text"}.get(field.get("type", ""), field.get("type", "anything"))
