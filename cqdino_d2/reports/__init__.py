"""The report about a results file: plots, galleries, one page.

What draws is imported when it is first asked for: jinja2 and matplotlib are needed for it alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import ReportOptions, WrittenReport, write_report

__all__ = ["ReportOptions", "WrittenReport", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".build", __name__), name)
