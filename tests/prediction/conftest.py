from ..engine import conftest  # noqa: F401  the toy detector can be imported
