"""A traced detector as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .runtimes import OUTPUTS, ExportError, needed

_OPSET = (
    18  # the newest that torch writes without conversion; read by all runtimes of docs/export.md
)


def to_onnx(program: torch.export.ExportedProgram, input_names: Sequence[str]) -> bytes:
    """The ONNX file of a traced detector.

    Raises:
        ExportError: packages are missing, or an operator has no counterpart in ONNX.
    """
    needed("onnx", "onnxruntime", "onnxscript")
    from onnxscript import optimizer

    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(input_names),
            output_names=list(OUTPUTS),
            optimize=False,
            verbose=False,
        )
        # Sequences of tensors, which not every runtime reads, become Split. The rest of the
        # optimiser loses the bounds of some Clips (onnxscript 0.7.2); runtimes have their own.
        optimizer.fold_constants(made.model)
        optimizer.remove_unused_nodes(made.model)
        return made.model_proto.SerializeToString()
    except Exception as error:  # of many libraries
        first = str(error).strip().splitlines()[0]
        raise ExportError(
            f"it cannot be written as ONNX: {type(error).__name__}: {first}"
        ) from error
