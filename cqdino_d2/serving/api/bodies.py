"""Bodies of requests to detect: JSON, or a form with an image file."""

from __future__ import annotations

import base64
import binascii
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..refusals import Refusal
from .schema import DetectRequest, fields_of_form, sentence, sentence_of

_MOST_FIELDS = 4000
Body = TypeVar("Body", bound=BaseModel)


class _WholeForm(MultiPartParser):
    """Refuses a form that was cut off.

    It leaves files where their body is already, in place of writing them to the disk.
    """

    spool_max_size = 2**40
    is_whole = False

    def on_end(self) -> None:
        """The form's last delimiter has come."""
        self.is_whole = True

    async def parse(self) -> FormData:
        """The form.

        Raises:
            MultiPartException: no form, one of too many parts, or one without its end.
        """
        form = await super().parse()
        if not self.is_whole:
            raise MultiPartException("the last delimiter is missing")
        return form


async def read_request(request: Request) -> tuple[DetectRequest, bytes | None]:
    """What a request says, and the image file that it brings in a form.

    Raises:
        Refusal: another type of content (415), no such content (400), or wrong values (422).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await read_json(request, DetectRequest), None
    if kind == "multipart/form-data":
        return await _read_form(request)
    reason = "Send application/json or multipart/form-data."
    raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)


async def read_json(request: Request, kind: type[Body]) -> Body:
    """A body of JSON as an object of a kind.

    Raises:
        Refusal: no JSON (400), or wrong values (422).
    """
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        no_json = any(one["type"] == "json_invalid" for one in error.errors(include_url=False))
        status = HTTPStatus.BAD_REQUEST if no_json else HTTPStatus.UNPROCESSABLE_ENTITY
        raise Refusal(status, sentence_of(error)) from error


async def _read_form(request: Request) -> tuple[DetectRequest, bytes | None]:
    image, texts = None, []
    try:
        most = {"max_files": 1, "max_fields": _MOST_FIELDS}
        form = await _WholeForm(request.headers, request.stream(), **most).parse()
        for key, value in form.multi_items():
            if not isinstance(value, UploadFile):
                texts.append((key, value))
            elif key == "image":
                image = await value.read()
            else:
                raise ValueError("The image's field is called 'image'.")
        return DetectRequest.model_validate(fields_of_form(texts)), image
    except ValidationError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, sentence_of(error)) from error
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, sentence(str(error))) from error
    except MultiPartException as error:
        reason = "This is no form as its head says, one of too many parts, or one that was cut off."
        raise Refusal(HTTPStatus.BAD_REQUEST, reason) from error


def decoded_base64(text: str) -> bytes:
    """The bytes that a text in base64 stands for, with or without a ``data:`` prefix.

    Raises:
        Refusal: another text.
    """
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            reason = "An image's data: address must be in base64."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        reason = "The image is not in base64."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason) from error
