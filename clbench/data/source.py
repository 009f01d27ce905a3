"""A data set as the catalogue describes it: its files and their checksums, its licence, and how it is read."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clbench.data.dataset import Dataset
from clbench.errors import UserError


class MissingData(UserError):
    """A data set, or a part of it, is missing."""


class DamagedData(UserError):
    """A file of a data set does not have the published content."""


@dataclass(frozen=True)
class File:
    """A file of a data set: ``path`` is its place below the data root in torchvision's layout, ``sha256`` the checksum of its content.

    It may also be compressed with gzip, as ``path + ".gz"``. The checksum is always that of the uncompressed content, because compressed
    files differ by program and date. ``md5`` is the one that torchvision or Debian published: it says where ``sha256`` comes from, and
    nothing is verified by it, because files with the same md5 can be made at will.
    """

    path: str
    md5: str
    sha256: str

    def places(self) -> tuple[str, str]:
        """The possible paths; the uncompressed one comes first because it is faster to read."""
        return self.path, f"{self.path}.gz"


@contextmanager
def opened(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """The content of a file, uncompressed if its name ends in .gz; ``DamagedData`` if that is no complete gzip file."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            yield content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedData(f"{path} is not a complete gzip file ({error})") from error


@dataclass(frozen=True)
class Source:
    """A data set that clbench knows.

    ``train`` and ``test`` are the numbers of images. ``read`` makes the data set from a source and the data root, and raises
    ``MissingData`` or ``DamagedData``. The data are in ``files``, or inside the installed Python package ``package``. ``torchvision`` names
    the class of ``torchvision.datasets`` that downloads the files (empty if there is none). ``version`` is raised when the images, their
    split or their order change: then runs are done again.
    """

    name: str
    title: str
    description: str
    licence: str
    citation: str
    train: int
    test: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Callable[["Source", Path], Dataset]
    files: tuple[File, ...] = ()
    package: str = ""
    torchvision: str = ""
    version: int = 1

    def where(self, root: Path = Path()) -> str:
        """The place where the data set is expected."""
        return str((root / self.files[0].path).parent) if self.files else f"the Python package {self.package}"

    def how(self) -> str:
        """The commands that get the data set."""
        if not self.files:
            return f"`pip install {self.package}`"
        add = "`clbench data add FOLDER`"
        return f"`clbench data get {self.name}` or {add}" if self.torchvision else add

    def verify(self, root: Path) -> None:
        """Raise ``MissingData`` or ``DamagedData`` if the data set cannot be read from ``root``."""
        if self.files:
            self.contents(root)
        else:
            self.read(self, root)

    def contents(self, root: Path) -> list[bytes]:
        """The contents of ``files`` in their order, verified and uncompressed; raises ``MissingData`` or ``DamagedData``."""
        return [self._checked(path, sha256) for path, sha256 in self._find(root)]

    def _find(self, root: Path) -> list[tuple[Path, str]]:
        """The path of each file (of its first form that exists), and the checksum of its content."""
        paths = []
        missing = []
        for file in self.files:
            path = next((root / place for place in file.places() if (root / place).is_file()), None)
            if path:
                paths.append((path, file.sha256))
            else:
                missing.append(Path(file.path).name)
        if missing:
            raise MissingData(
                f"data set {self.name} is missing: no {', '.join(missing)} in {self.where(root)} "
                f"(compressed or not); get it with {self.how()}"
            )
        return paths

    def _checked(self, path: Path, sha256: str) -> bytes:
        """The uncompressed content of a file; ``DamagedData`` if it does not have that checksum."""
        try:
            with opened(path) as file:
                content = file.read()
        except DamagedData as error:
            raise DamagedData(f"data set {self.name} is damaged: {error}; replace it with {self.how()}") from error
        except OSError as error:
            raise DamagedData(f"data set {self.name} cannot be read: {path}: {error.strerror}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise DamagedData(
                f"data set {self.name} is damaged: the content of {path} ({len(content):,} bytes) has sha256 {digest}, expected {sha256}; "
                f"replace it with {self.how()}"
            )
        return content
