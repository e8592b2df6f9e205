"""Answers to requests that are refused, in the form that their client reads."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from ..refusals import Refusal

# addresses of the hosted API's clients, which read a code and a message
HOSTED_PATHS = ("/v2/", "/tasks/", "/task_statuses/", "/upload_signature")


def refused(refusal: Refusal, path: str) -> Response:
    """A JSON object whose ``detail`` is the reason.

    Args:
        refusal: of a request.
        path: that it asked for.
    """
    content: dict[str, object] = {"detail": refusal.reason}
    if path.startswith(HOSTED_PATHS):
        content |= {"code": int(refusal.status), "msg": refusal.reason, "data": None}
    headers = refusal.all_headers()
    return JSONResponse(content, status_code=refusal.status, headers=headers)
