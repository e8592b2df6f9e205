"""The way from Detectron2's `CfgNode` to the injected modules."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, instantiate
from omegaconf import OmegaConf


def modules_from_cfg(cfg: CfgNode) -> dict[str, Any]:
    """Builds the arguments of the meta-architecture.

    Args:
        cfg: with ``MODEL.CQDINO.LAZY_CONFIG``, the YAML text of a lazy config's ``model`` node, as
            `cqdino_d2.prediction.get_predictor_cfg` writes it.

    Raises:
        ValueError: no such text.
    """
    text = cfg.MODEL.get("CQDINO", {}).get("LAZY_CONFIG", "")
    if not text:
        raise ValueError(
            "cfg.MODEL.CQDINO.LAZY_CONFIG is empty: make the config by "
            "cqdino_d2.prediction.get_predictor_cfg(config_file, weights=...)"
        )
    model = OmegaConf.create(text)
    return {
        name: instantiate(node)
        for name, node in model.items()
        if name not in ("_target_", "_convert_")
    }
