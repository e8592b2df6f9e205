"""Files that are whole or absent, and readers that run nothing of what they read.

What needs torch is imported when first asked for: scoring a file does without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .atomic_file import FileWriteError, write_atomically, write_text
from .column_file import open_column_file, write_column_file
from .packages import package_folder, require_package
from .places import inside

if TYPE_CHECKING:
    from .images import UnreadableImageError, read_image, read_image_size, reason_of
    from .tensor_file import Discarded, read_safetensors_file, read_tensor_file

_FILE_OF = {
    "Discarded": "tensor_file",
    "UnreadableImageError": "images",
    "read_image": "images",
    "read_image_size": "images",
    "read_safetensors_file": "tensor_file",
    "read_tensor_file": "tensor_file",
    "reason_of": "images",
}

__all__ = [
    "FileWriteError",
    "Discarded",
    "UnreadableImageError",
    "inside",
    "open_column_file",
    "package_folder",
    "require_package",
    "read_image",
    "read_image_size",
    "read_safetensors_file",
    "read_tensor_file",
    "reason_of",
    "write_atomically",
    "write_column_file",
    "write_text",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _FILE_OF[name] == "images":
        from .. import needs_detectron2  # noqa: F401  says how to get it
    else:
        from .. import needs_torch  # noqa: F401
    return getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
