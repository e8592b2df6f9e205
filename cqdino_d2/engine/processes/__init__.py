"""The processes of a training: their start, their end, and the folder that they write into."""

from .failures import INTERRUPTED, one_line_errors, report_a_full_disk_once
from .folder_lock import FolderInUseError, FolderLock
from .launch import LaunchError, ProcessFailedError, launch

__all__ = [
    "FolderInUseError",
    "FolderLock",
    "LaunchError",
    "ProcessFailedError",
    "launch",
    "INTERRUPTED",
    "one_line_errors",
    "report_a_full_disk_once",
]
