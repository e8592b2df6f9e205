"""A traced detector as an ONNX file."""

from __future__ import annotations

import torch

from .check import OUTPUTS, ExportError

_OPSET = 20


def to_onnx(program: torch.export.ExportedProgram) -> bytes:
    """The ONNX file of a traced detector.

    Raises:
        ExportError: packages are missing, or an operator has no counterpart in ONNX.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        message = f"ONNX needs pip install onnx onnxruntime onnxscript ({error})"
        raise ExportError(message) from error
    try:
        # Its optimiser loses the bounds of some Clips (onnxscript 0.7.2); runtimes have their own.
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
            optimize=False,
            verbose=False,
        )
        return made.model_proto.SerializeToString()
    except Exception as error:  # of many libraries
        first = str(error).strip().splitlines()[0]
        raise ExportError(
            f"it cannot be written as ONNX: {type(error).__name__}: {first}"
        ) from error
