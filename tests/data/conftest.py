"""Small stand-ins for MNIST and Fashion-MNIST, registered with their own checksums."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from clbench.data import SOURCES, File


class Published(NamedTuple):
    """The four files of a data set by their path below the data root, and the tensors in them."""

    files: dict[str, bytes]
    arrays: list[np.ndarray]

    def write(self, folder: Path, *, flat: bool = False, packed: bool = False) -> Path:
        """Lay the files out in a folder."""
        for path, content in self.files.items():
            target = folder / (Path(path).name if flat else path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if packed:
                target.with_name(f"{target.name}.gz").write_bytes(pack(content))
            else:
                target.write_bytes(content)
        return folder


def pack(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def publish(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Put random files into the catalogue in the place of a data set's own."""
    random = np.random.default_rng(seed)
    arrays = [
        random.integers(0, high, size, dtype=np.uint8)
        for count in (30, 20)
        for high, size in ((256, (count, 28, 28)), (10, (count,)))
    ]
    source = SOURCES[name]
    contents = {file.path: idx(array) for file, array in zip(source.files, arrays, strict=True)}
    files = tuple(
        File(path, hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()) for path, content in contents.items()
    )
    monkeypatch.setitem(SOURCES, name, replace(source, files=files))
    return Published(contents, arrays)


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Published:
    return publish("mnist", 1, monkeypatch)


@pytest.fixture
def fashion(monkeypatch: pytest.MonkeyPatch) -> Published:
    return publish("fashion-mnist", 2, monkeypatch)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets in a folder beside the checkout; tests that need them are skipped elsewhere."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "mnist").is_dir():
        pytest.skip("no ../shared/data/mnist beside the checkout")
    return folder
