"""A detector as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..ops import reference_only
from .check import Sample, Sizes
from .exportable import ExportableDetector
from .runtimes import ExportError


def choose_sizes(
    detector: ExportableDetector,
    cfg: CfgNode,
    *,
    height: int | None = None,
    width: int | None = None,
    static: bool = False,
) -> Sizes:
    """The sizes to trace and to compare with.

    Args:
        detector: that is traced.
        cfg: from `get_predictor_cfg`.
        height: of the traced image in pixels; None for the test size.
        width: likewise.
        static: whether the file is for this size alone.

    Raises:
        ValueError: the size asked for is too small for the model.
    """
    short = cfg.INPUT.MIN_SIZE_TEST or 224
    height = height or short
    width = width or min(cfg.INPUT.MAX_SIZE_TEST, round(1.25 * short))
    model = detector.model
    with torch.no_grad():
        _, levels = model.extract_maps(_ImageBatch(torch.zeros(1, 3, 512, 512)))
    strides = [round(512 / level.shape[-1]) for level in levels]
    queries = model.query_selection.num_queries
    least = max(strides) + 1  # two tokens a side on the coarsest level
    while sum((-(-least // stride)) ** 2 for stride in strides) < queries:
        least += 1
    if min(height, width) < least:
        raise ValueError(
            f"{height} x {width} pixels are too small: the coarsest level has one token per "
            f"{max(strides)} pixels, and {queries} object queries need as many tokens; each side "
            f"must be at least {least}"
        )
    compared = [(height, width)]
    if not static:
        shares = ((1.1 * width, 0.8 * height), (0.7 * height, 0.9 * width))
        compared += [(max(least, round(one)), max(least, round(other))) for one, other in shares]
    most = max(2048, *(side for size in compared for side in size))
    return Sizes(tuple(compared), least, most)


@dataclass(frozen=True)
class _ImageBatch:
    """The part of Detectron2's ``ImageList`` that the backbone needs."""

    tensor: Tensor


def trace(
    detector: ExportableDetector,
    sample: Sample,
    sizes: Sizes,
    *,
    static: bool,
    reference_ops: bool,
) -> torch.export.ExportedProgram:
    """Traces the detector on a sample of the first of the sizes.

    Raises:
        ExportError: a part of it cannot be traced; names the part.
    """
    sides = {}
    if not static:
        limits = dict(min=sizes.least, max=sizes.most)
        sides = {1: torch.export.Dim("height", **limits), 2: torch.export.Dim("width", **limits)}
    try:
        with torch.no_grad(), reference_only(reference_ops):
            return torch.export.export(
                detector,
                tuple(sample.tensors().values()),
                dynamic_shapes={"image": sides or None} | detector.dynamic_dims(),
                strict=False,  # as Python runs it
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # whatever the parts raise while they are traced
        part = blamed_part(error, detector.model)
        where = f"its part {part}" if part else "it"
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        hint = "" if static else "; --static with --height and --width may work"
        raise ExportError(
            f"{where} cannot be exported: {type(error).__name__}: {first}{hint}"
        ) from error


def blamed_part(error: BaseException, model: nn.Module) -> str | None:
    """Name and class of the innermost module of the model in which an error arose."""
    names = {id(module): name for name, module in model.named_modules() if name}
    found = None
    seen: BaseException | None = error
    while seen is not None:
        frame: TracebackType | None = seen.__traceback__
        while frame is not None:
            module = frame.tb_frame.f_locals.get("self")
            if id(module) in names:
                found = f"{names[id(module)]} ({type(module).__name__})"
            frame = frame.tb_next
        seen = seen.__cause__ or seen.__context__
    return found
