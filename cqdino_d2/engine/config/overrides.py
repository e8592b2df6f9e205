"""``key=value`` on the command line: lists and numbers by a grammar, file names as they are."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from typing import Any

from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .lengths import LENGTHS

# Their values are text whatever they look like: a folder may be called 2024 or [old].
_PATHS = (
    "train.output_dir",
    "train.init_checkpoint",
    "train.datasets_root",
    "train.category_embeddings",
)
_ASSIGNMENT = re.compile(r"(?P<plus>\+{0,2})(?P<key>[^\s=+~]+)=(?P<value>.*)", re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
_QUOTES = "'\""


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Applies ``key=value``, ``+key=value`` (a new key) and ``~key`` (without the key).

    Values are read by Hydra's grammar: numbers, true, false, null, ``[a,b]``, ``{a:1}``, quoted
    text. What the grammar does not know is text, so that ``epoch=3-step=5.pth``, ``a,b.pth`` or
    ``model (1).pth`` need no quotes; only what begins as a list or a dict and is none is an
    error. The values of ``train.output_dir`` and the other paths of ``train`` are always text
    (but for null and ``${...}``).

    Args:
        cfg: is changed: a config that was read just now.
        overrides: in the order in which they apply.

    Returns:
        The config.

    Raises:
        ValueError: something else, a key that the config does not have (unless it is an argument
            of a call, which checks it itself), or text in place of a number, a switch or a list.
    """
    for override in overrides:
        if override.startswith("~"):
            _delete_key(cfg, override[1:])
            continue
        found = _ASSIGNMENT.fullmatch(override)
        if found is None:
            raise ValueError(f"cannot read the override {override!r}: expected KEY=VALUE or ~KEY")
        key, value = found["key"], parse_value(found["key"], found["value"])
        if not found["plus"]:
            _check_key(cfg, key)
            _check_kind(cfg, key, value)
        try:
            OmegaConf.update(cfg, key, value, merge=True)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"cannot override {key} by {value!r}: {reason}") from error
    return cfg


def parse_value(key: str, text: str) -> Any:
    """The value of an override; see `apply_overrides`.

    Raises:
        ValueError: a list or a dict that cannot be read.
    """
    if key in _PATHS:
        return _path(text)
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={text}")
        literal = parsed.is_sweep_override()  # a,b: other programs try both values
        reason = "a list is written [a,b]"
    except HydraException as error:
        literal, reason = True, str(error).splitlines()[0]
    if not literal:
        return parsed.value()
    if not _may_be_text(text):
        raise ValueError(f"cannot read the override {key}={text}: {reason}")
    return text


def _path(text: str) -> str | None:
    if text == "null":
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES
    return text[1:-1] if quoted else text


def _may_be_text(text: str) -> bool:
    """Whether a value outside the grammar is text and no mistyped list or dict.

    ``[1].pth`` is text: its bracket is closed and the name continues behind it.
    """
    closing = _CLOSING.get(text[:1])
    if closing is None:
        return not text.startswith("=")
    _, found, rest = text.partition(closing)
    return bool(found) and re.search(r"[./]\w", rest) is not None and rest[0] != ","


def _delete_key(cfg: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or name not in node:
        raise ValueError(f"cannot delete {key}: the config has no such key")
    del node[name]


def _check_key(cfg: DictConfig, key: str) -> None:
    node: Any = cfg
    for depth, part in enumerate(key.split(".")):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        known = list(node.keys()) if isinstance(node, DictConfig) else []
        if part not in known:
            if "_target_" in known:
                return
            where = ".".join(key.split(".")[:depth]) or "the config"
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"it has {sorted(known)}"
            raise ValueError(f"cannot override {key}: {where} has no {part!r} ({hint})")
        if OmegaConf.is_missing(node, part):
            return
        node = node[part]


def _check_kind(cfg: DictConfig, key: str, value: Any) -> None:
    """Text replaces no number, switch or list: it is a slip, which would be found much later."""
    if not isinstance(value, str) or "${" in value or key in LENGTHS:
        return
    if _takes_text(cfg, key):
        return
    present = OmegaConf.select(cfg, key, throw_on_missing=False)
    if isinstance(present, bool):
        expected = "true or false"
    elif isinstance(present, (int, float)):
        expected = "a number"
    elif isinstance(present, ListConfig):
        expected = "a list, for example [a,b]"
    else:
        return
    raise ValueError(f"cannot override {key}: expected {expected}, got {value!r}")


def _takes_text(cfg: DictConfig, key: str) -> bool:
    """Whether what the config calls declares that argument as text, perhaps among others."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent, throw_on_missing=False) if parent else cfg
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    target = locate(target) if isinstance(target, str) else target
    try:
        arguments = inspect.signature(target).parameters
    except (TypeError, ValueError):  # nothing is called there, or something built in
        return False
    return name in arguments and re.search(r"\bstr\b", str(arguments[name].annotation)) is not None
