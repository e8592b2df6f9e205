"""Answers to requests that are refused, in the form that their client reads."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from ..refusals import Refusal

# addresses of the hosted API's clients, which read a code and a message
HOSTED_PATHS = ("/v2/", "/tasks/", "/task_statuses/", "/upload_signature")
TRY_AGAIN = 202001  # at which clients of the later protocol send a task once more


def refused(refusal: Refusal, path: str) -> Response:
    """A JSON object whose ``detail`` is the reason.

    Args:
        refusal: of a request.
        path: that it asked for.
    """
    content: dict[str, object] = {"detail": refusal.reason}
    if path.startswith(HOSTED_PATHS):
        later = refusal.retry_seconds is not None and path.startswith("/v2/")
        code = TRY_AGAIN if later else int(refusal.status)
        content |= {"code": code, "msg": refusal.reason, "data": None}
    headers = refusal.all_headers()
    return JSONResponse(content, status_code=refusal.status, headers=headers)
