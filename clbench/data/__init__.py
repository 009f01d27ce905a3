"""Data sets: files below one data root in torchvision's layout, verified by checksum, downloaded only on request.

``load("mnist-5k")`` gives a ``Dataset``; ``clbench data`` calls ``status``, ``get`` and ``add``. To add a data set, write a ``Source`` (its
files with checksums, its licence, a function that reads it) in a module beside ``mnist.py``.
"""

from clbench.data.catalogue import SOURCES, Added, Status, add, data_root, get, load, status
from clbench.data.dataset import Dataset
from clbench.data.source import DamagedData, File, MissingData, Source

__all__ = [
    "SOURCES",
    "Added",
    "DamagedData",
    "Dataset",
    "File",
    "MissingData",
    "Source",
    "Status",
    "add",
    "data_root",
    "get",
    "load",
    "status",
]
