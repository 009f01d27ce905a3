"""Data sets: found under one data root in torchvision's layout, verified by checksum, never downloaded unasked.

``load("mnist-5k")`` gives a ``Dataset``; ``status``, ``get`` and ``add`` are what ``clbench data`` calls. A new data
set is a ``Source`` (its files' checksums, its licence, a function that reads it) in the module of its family, a
neighbour of ``mnist.py``, and is named once in ``catalogue.py``.
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
