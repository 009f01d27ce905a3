"""What the catalogue knows of a data set: its files and their checksums, its licence, and how it is read."""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clbench.data.dataset import Dataset
from clbench.errors import UserError


class MissingData(UserError):
    """A data set, or a part of it, is not where it was looked for."""


class DamagedData(UserError):
    """A file of a data set is there, but is not what was published."""


@dataclass(frozen=True)
class File:
    """A file of a data set, which may also lie there compressed.

    ``path`` is its place below the data root in torchvision's layout and ``md5`` its checksum; ``packed_md5`` is the
    checksum of the same file as published with gzip, which lies beside it as ``path + ".gz"`` (empty where there is
    none).
    """

    path: str
    md5: str
    packed_md5: str = ""

    def copies(self) -> dict[str, str]:
        """The path of each form the file may have, with its md5: plain first, for it is the faster to read."""
        plain = {self.path: self.md5}
        return plain | {f"{self.path}.gz": self.packed_md5} if self.packed_md5 else plain


@dataclass(frozen=True)
class Source:
    """A data set that clbench knows.

    ``train`` and ``test`` are the numbers of images. ``read`` makes the data set from a source and the data root, and
    raises ``MissingData`` or ``DamagedData``. The data lie in ``files``, or else inside the installed Python package
    named ``package``. ``torchvision`` names the class of ``torchvision.datasets`` that downloads the files (empty
    where none does). ``version`` is raised when the images, their split or their order change: then runs are done anew.
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
        """Where the data set is looked for."""
        return str((root / self.files[0].path).parent) if self.files else f"the Python package {self.package}"

    def how(self) -> str:
        """The commands that get the data set."""
        if not self.files:
            return f"`pip install {self.package}`"
        add = "`clbench data add FOLDER`"
        return f"`clbench data get {self.name}` or {add}" if self.torchvision else add

    def verify(self, root: Path) -> None:
        """Return if the data set can be read from ``root``; raise ``MissingData`` or ``DamagedData`` if not."""
        if self.files:
            for path, md5 in self._find(root):
                self._checked(path, md5)
        else:
            self.read(self, root)

    def contents(self, root: Path) -> list[bytes]:
        """What ``files`` hold, in their order, verified and uncompressed; raises ``MissingData`` or ``DamagedData``."""
        return [
            gzip.decompress(content) if path.suffix == ".gz" else content
            for path, content in ((path, self._checked(path, md5)) for path, md5 in self._find(root))
        ]

    def _find(self, root: Path) -> list[tuple[Path, str]]:
        """The path and the expected md5 of the first form that is there of each file."""
        found = []
        missing = []
        for file in self.files:
            copies = ((root / path, md5) for path, md5 in file.copies().items())
            copy = next((copy for copy in copies if copy[0].is_file()), None)
            if copy:
                found.append(copy)
            else:
                missing.append(Path(file.path).name)
        if missing:
            raise MissingData(
                f"data set {self.name} is missing: no {', '.join(missing)} in {self.where(root)} "
                f"(compressed or not); get it with {self.how()}"
            )
        return found

    def _checked(self, path: Path, md5: str) -> bytes:
        """The bytes of a file, if they have that md5."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DamagedData(f"data set {self.name} cannot be read: {path}: {error.strerror}") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DamagedData(
                f"data set {self.name} is damaged: {path} ({len(content):,} bytes) has md5 {found}, expected {md5}; "
                f"replace it with {self.how()}"
            )
        return content
