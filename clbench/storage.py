"""Tensors on disk: safetensors files, and how many bytes they take."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import load_file, save_file
from safetensors.torch import save as dump
from torch import Tensor

from clbench.errors import UserError

# The types of learned state by their names in safetensors, in the order of safetensors.
_TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
}
_RANKS = {kind: rank for rank, kind in enumerate(_TYPES)}


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors to ``path``, in one safetensors file."""
    # safetensors refuses tensors that share memory or have gaps; contiguous copies on the CPU have neither.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of the file that ``save`` would write."""
    return dump({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """The inverse of ``to_bytes``."""
    return parse(content)


def load(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file that ``save`` wrote, on the CPU. A ``UserError`` if it is damaged or missing."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"The file {path} is damaged or missing ({error}): repeat its run with --overwrite always.") from None


def file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The size in bytes of the file that ``save`` would write, computed without writing it.

    A safetensors file consists of 8 bytes, a JSON header padded to a multiple of 8 bytes, and the data.
    """
    # Tensors are sorted by type, from the last type to the first, then by name. The header has the offsets of each.
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    header, offset = {}, 0
    for name in sorted(tensors, key=lambda name: (-_RANKS[kinds[name]], name)):
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[kinds[name]], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + offset
