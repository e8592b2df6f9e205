"""What a request to detect may say, and what it is answered."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from ...prediction.loading import Question
from ...structures import one_line
from ...visualization.result_view import ViewSettings

MOST_NAMES = 2000
_LONGEST_REASON = 300
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Synonyms = Annotated[list[Name], Field(min_length=1, max_length=32)]
Names = Annotated[list[Name], Field(max_length=MOST_NAMES)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class DetectRequest(BaseModel):
    """What to look for, in which image, and how to answer."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=200, description="by default the first one")
    image: str | None = Field(None, description="base64, with or without a data: prefix")
    path: str | None = Field(
        None, max_length=4096, description="of an image below the server's folder"
    )
    prompt: str | None = Field(None, description="a caption, phrases between dots")
    names: list[Name | Synonyms] | None = Field(
        None, min_length=1, max_length=MOST_NAMES, description="a list inside are synonyms"
    )
    negatives: Names = Field([], description="may win a box, which is then left out")
    only: Names = Field([], description="categories of the vocabulary to select among")
    branches: Names = Field([], description="the same, each with all below it in the tree")
    num_selected: int | None = Field(None, ge=1, description="K")
    threshold: Share = Field(0.3, description="confidence threshold")
    nms: Share | None = Field(None, description="of boxes that overlap more the best one remains")
    most: int | None = Field(None, ge=1, le=100_000, description="boxes")
    answer: Literal["json", "png", "jpeg"] = Field("json", description="or a drawn image")

    def question(self) -> Question:
        """What the model is asked.

        Raises:
            ValueError: a caption and names.
        """
        if self.prompt is not None and self.names is not None:
            raise ValueError("Give a prompt or names, not both.")
        names = self.names and tuple(
            name if isinstance(name, str) else tuple(name) for name in self.names
        )
        return Question(
            wanted=names if self.prompt is None else self.prompt,
            negatives=tuple(self.negatives),
            only=tuple(self.only),
            branches=tuple(self.branches),
            num_selected=self.num_selected,
            nms_threshold=self.nms,
        )

    def settings(self) -> ViewSettings:
        """Which boxes are shown."""
        return ViewSettings(self.threshold, self.most)


class DetectedObject(BaseModel):
    """One object."""

    name: str
    id: int = Field(description="in the vocabulary's dataset; of words their place, from 1")
    score: float = Field(description="0..1")
    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in pixels")


class SelectedCategory(BaseModel):
    """A category that the image selected."""

    name: str
    id: int
    score: float


class DetectAnswer(BaseModel):
    """What was found, best first."""

    model: str
    width: int
    height: int
    objects: list[DetectedObject]
    selected: list[SelectedCategory]
    waited_seconds: float
    model_seconds: float
    batch_size: int


class ServedModel(BaseModel):
    """A model."""

    name: str
    reads_words: bool = Field(description="detects only the prompted names")
    num_categories: int | None = Field(description="None for a model that reads words")
    num_selected: int | None = Field(description="K, where the model selects")


class ServedModels(BaseModel):
    """All models; the first is the default."""

    models: list[ServedModel]


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    detail: str


_LISTS = {"names", "negatives", "only", "branches"}


def fields_of_form(items: list[tuple[str, str]]) -> dict[str, Any]:
    """A form's texts as the JSON of a request has them; lists are given by repeating a field.

    Raises:
        ValueError: a field that is no list comes twice.
    """
    fields: dict[str, Any] = {}
    for key, text in items:
        if key == "names":
            row = [name.strip() for name in text.split("|")]
            fields.setdefault(key, []).append(row if len(row) > 1 else text)
        elif key in _LISTS:
            fields.setdefault(key, []).append(text)
        elif key in fields:
            raise ValueError(f"{one_line(key)[:40]!r} is given twice.")
        else:
            fields[key] = text
    return fields


def sentence_of(error: ValidationError) -> str:
    """What is wrong first, in one sentence."""
    first: ErrorDetails = error.errors(include_url=False, include_input=False)[0]
    said = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in first["loc"][:2])
    return sentence(f"{place}: {said}" if place else said)


def sentence(text: str) -> str:
    """A text of limited length in one line that ends with a full stop."""
    text = one_line(text)
    if len(text) > _LONGEST_REASON:
        text = text[: _LONGEST_REASON - 3].rstrip() + "..."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def request_schema() -> dict[str, Any]:
    """OpenAPI's description of the body, in both forms."""
    schema = DetectRequest.model_json_schema()
    form = json.loads(json.dumps(schema))
    form["properties"]["image"] = {"type": "string", "format": "binary"}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                "multipart/form-data": {"schema": form},
            },
        }
    }
