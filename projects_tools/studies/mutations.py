"""Finds small faults that could be put into a Python file, each as a replacement of its text.

A mutation changes one expression or drops one statement: operators and signs, comparisons, the
order of height and width (the first two entries of a tuple or of a call), masks, `.detach()`,
constants, `dim=`, minimum and maximum. Left out is what says nothing about behaviour or is set
from outside: docstrings, annotations, decorators, a class's own arguments, messages of errors and
logs, argument defaults, `strict=` of `zip`.
"""

from __future__ import annotations

import ast
import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
_ARITHMETIC |= {ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}
_MASKS = {ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
_BOUNDARIES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_DIRECTIONS = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
_EQUALITIES = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
_EQUALITIES |= {ast.In: ast.NotIn, ast.NotIn: ast.In}
_DIMENSIONS = {0: 1, 1: 0, 2: 1, -1: -2, -2: -1}
_PAIRS = (
    ("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("minimum", "maximum"),
    ("floor", "ceil"), ("sin", "cos"), ("any", "all"), ("zeros", "ones"),
    ("zeros_like", "ones_like"), ("cumsum", "cumprod"),
)  # fmt: skip
_OPPOSITES = dict(_PAIRS) | {b: a for a, b in _PAIRS} | {"sum": "mean", "sorted": "list"}
_DROPPED = {"detach": "detach", "masked_fill": "mask", "clamp": "clamp", "sigmoid": "clamp"}
_DROPPED |= {"transpose": "axes", "flip": "axes", "abs": "sign"}
_DECLARATIONS = {"annotation", "returns", "decorator_list", "bases", "defaults", "kw_defaults"}
_BY_NAME = {"isinstance", "issubclass", "getattr", "hasattr", "setattr", "cast"}
_LOGGING = {"debug", "info", "warning", "error", "exception", "log_first_n", "warn", "print"}


@dataclass(frozen=True)
class Mutation:
    """One change to one file.

    Attributes:
        path: of the file, relative to the root.
        line: where it starts.
        kind: what is changed, e.g. "axes".
        before, after: the text that is replaced.
        start, end: its place, in bytes of the UTF-8 file.
    """

    path: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    end: int

    def apply(self, text: str) -> str:
        """The file's text with the mutation."""
        data = text.encode()
        return (data[: self.start] + self.after.encode() + data[self.end :]).decode()


def find_mutations(root: Path, path: Path) -> list[Mutation]:
    """All mutations of a file; `sample_mutations` skips the few that are no valid Python."""
    text = path.read_text(encoding="utf-8")
    line_starts = [0]
    for line in text.encode().splitlines(keepends=True):
        line_starts.append(line_starts[-1] + len(line))
    found = []
    for node in _code(ast.parse(text)):
        start = line_starts[node.lineno - 1] + node.col_offset
        end = line_starts[node.end_lineno - 1] + node.end_col_offset
        before = text.encode()[start:end].decode()
        for kind, after in _changes(node, before):
            name = str(path.relative_to(root))
            mutation = Mutation(name, node.lineno, kind, before, after, start, end)
            if after != before:
                found.append(mutation)
    return found


def sample_mutations(
    root: Path, found: Mapping[str, Sequence[Mutation]], quotas: Mapping[str, int], seed: int
) -> list[Mutation]:
    """Draws from each folder as many as its quota, no two at one place.

    First a kind is drawn, then a place, so that constants (by far the most) do not fill the run.

    Args:
        root: what the mutations' paths are relative to.
        found: all mutations by folder.
        quotas: how many of each folder; fewer where it has fewer places.
        seed: of the draw; the same for the same files.
    """
    generator = random.Random(seed)
    return [
        mutation
        for folder in sorted(quotas)
        for mutation in _sample(root, found[folder], quotas[folder], generator)
    ]


def _sample(
    root: Path, found: Sequence[Mutation], count: int, generator: random.Random
) -> list[Mutation]:
    by_kind: dict[str, list[Mutation]] = defaultdict(list)
    for mutation in found:
        by_kind[mutation.kind].append(mutation)
    drawn: list[Mutation] = []
    while len(drawn) < count and by_kind:
        mutation = generator.choice(by_kind[generator.choice(sorted(by_kind))])
        place = (mutation.path, mutation.start, mutation.end)
        left = {
            kind: [m for m in all_of_kind if (m.path, m.start, m.end) != place]
            for kind, all_of_kind in by_kind.items()
        }
        by_kind = defaultdict(list, {kind: rest for kind, rest in left.items() if rest})
        if _is_valid(mutation.apply((root / mutation.path).read_text(encoding="utf-8"))):
            drawn.append(mutation)
    return drawn


def _is_valid(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _code(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """All expressions and statements that compute something."""
    for name, value in ast.iter_fields(node):
        if name in _DECLARATIONS or (name == "keywords" and isinstance(node, ast.ClassDef)):
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_left_out(child):
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            yield from _code(child)


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert):
        return True
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    return isinstance(node, ast.Call) and _called(node) in _LOGGING


def _called(call: ast.Call) -> str:
    function = call.func
    return getattr(function, "attr", getattr(function, "id", ""))


def _changes(node: ast.AST, before: str) -> Iterator[tuple[str, str]]:
    for kind, after in _CHANGES.get(type(node), lambda *_: ())(node, before):
        yield kind, after if isinstance(after, str) else f"({ast.unparse(after)})"


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _of_operation(node: ast.BinOp, _: str) -> Iterator[tuple[str, ast.AST]]:
    for kind, table in (("arithmetic", _ARITHMETIC), ("mask", _MASKS)):
        if type(node.op) in table and not ast.unparse(node.right)[:1].isupper():  # no type
            yield kind, _with(node, op=table[type(node.op)]())


def _of_unary(node: ast.UnaryOp, _: str) -> Iterator[tuple[str, ast.AST]]:
    is_number = isinstance(node.operand, ast.Constant)
    kinds = {ast.Invert: "mask", ast.Not: "condition", ast.USub: "sign"}
    if type(node.op) in kinds and not is_number:
        yield kinds[type(node.op)], node.operand


def _of_comparison(node: ast.Compare, _: str) -> Iterator[tuple[str, ast.AST]]:
    tables = (("boundary", _BOUNDARIES), ("direction", _DIRECTIONS), ("condition", _EQUALITIES))
    for kind, table in tables:
        if type(node.ops[0]) in table:
            yield kind, _with(node, ops=[table[type(node.ops[0])](), *node.ops[1:]])


def _of_condition(node: ast.BoolOp, _: str) -> Iterator[tuple[str, ast.AST]]:
    yield "condition", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _of_sequence(node: ast.Tuple | ast.List, before: str) -> Iterator[tuple[str, str]]:
    """The first two entries change places, unless they name types or are text."""
    entries = node.elts
    if not 2 <= len(entries) <= 4 or any(isinstance(x, ast.Starred) for x in entries):
        return
    texts = [ast.unparse(entry) for entry in entries]
    names_types = all(text[:1].isupper() or text[:1] in "'\"" for text in texts)
    if names_types or texts[0] == texts[1]:
        return
    first = entries[0]
    bare = (node.lineno, node.col_offset) == (first.lineno, first.col_offset)
    swapped = ", ".join([texts[1], texts[0], *texts[2:]])
    brackets = "" if bare else "[]" if isinstance(node, ast.List) else "()"
    yield "axes", f"{brackets[:1]}{swapped}{brackets[1:]}"


def _of_call(node: ast.Call, _: str) -> Iterator[tuple[str, ast.AST]]:
    name, arguments = _called(node), node.args
    if isinstance(node.func, ast.Attribute) and name in _DROPPED:
        yield _DROPPED[name], node.func.value
    if name in _OPPOSITES and isinstance(node.func, ast.Attribute):
        yield "extreme", _with(node, func=_with(node.func, attr=_OPPOSITES[name]))
    elif name in _OPPOSITES:
        yield "extreme", _with(node, func=_with(node.func, id=_OPPOSITES[name]))
    if name == "where" and len(arguments) == 3:
        yield "mask", _with(node, args=[arguments[0], arguments[2], arguments[1]])
    elif name in _BY_NAME:
        return
    elif len(arguments) >= 2 and not any(isinstance(x, ast.Starred) for x in arguments[:2]):
        if ast.dump(arguments[0]) != ast.dump(arguments[1]):
            yield "axes", _with(node, args=[arguments[1], arguments[0], *arguments[2:]])
    for place, keyword in enumerate(node.keywords):
        value = _number(keyword.value)
        if keyword.arg in ("dim", "axis") and value in _DIMENSIONS:
            changed = _with(keyword, value=ast.Constant(_DIMENSIONS[value]))
            others = [*node.keywords[:place], changed, *node.keywords[place + 1 :]]
            yield "dim", _with(node, keywords=others)


def _number(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _of_constant(node: ast.Constant, _: str) -> Iterator[tuple[str, str]]:
    value = node.value
    if isinstance(value, bool):
        yield "flag", repr(not value)
    elif isinstance(value, int):
        yield "constant", repr(value + 1)
    elif isinstance(value, float):
        yield "constant", repr(2 * value or 1.0)


def _of_assignment(node: ast.Assign | ast.AugAssign, _: str) -> Iterator[tuple[str, str]]:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if isinstance(target, ast.Subscript):
        yield "statement", "pass"
    if isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        yield "arithmetic", ast.unparse(_with(node, op=_ARITHMETIC[type(node.op)]()))


_CHANGES: dict[type, Callable[..., Iterator[tuple[str, ast.AST | str]]]] = {
    ast.BinOp: _of_operation,
    ast.UnaryOp: _of_unary,
    ast.Compare: _of_comparison,
    ast.BoolOp: _of_condition,
    ast.Tuple: _of_sequence,
    ast.List: _of_sequence,
    ast.Call: _of_call,
    ast.Constant: _of_constant,
    ast.Assign: _of_assignment,
    ast.AugAssign: _of_assignment,
}
