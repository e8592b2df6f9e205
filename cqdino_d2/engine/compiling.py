"""`torch.compile` for the whole model or for parts of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn

_LOGGER = logging.getLogger(__name__)
WHOLE_MODEL = "."


def compile_parts(
    model: nn.Module,
    *,
    parts: Sequence[str] = (),
    backend: str = "inductor",
    dynamic: bool | None = None,
) -> None:
    """Compiles in place, so that the names of the weights stay.

    Args:
        model: not wrapped for several processes.
        parts: dotted module names; ``.`` is the whole model.
        backend: of torch.compile; "eager" and "aot_eager" need no compiler.
        dynamic: shapes: True any, False fixed, None fixed until a second one is seen.

    Raises:
        ValueError: a part that the model does not have.
    """
    for part in parts:
        try:
            module = model.get_submodule("" if part == WHOLE_MODEL else part)
        except AttributeError as error:
            known = [name for name, _ in model.named_children()]
            raise ValueError(
                f"train.compile.parts names {part!r}, which the model does not have; it has "
                f"{known}, and {WHOLE_MODEL!r} is all of it"
            ) from error
        module.compile(backend=backend, dynamic=dynamic)
        _LOGGER.info("%s is compiled (%s) when it is first used", part, backend)
