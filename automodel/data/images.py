"""Images of rows: where each comes from, read when it is needed and not before.

A row may give a file (relative to its data file), bytes as `datasets` writes them to parquet, a `data:` address, or a PIL image.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Keys of a map that say what the image is, the most direct one first.
_KEYS = ("bytes", "image", "path", "file", "url", "image_url")
_THUMBNAIL = (160, 160)
_WANTED = "a file, {bytes, path} as `datasets` writes it, a data: address, or a PIL image"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a row that is not opened yet; `name` is what a person knows it by."""

    name: str
    source: Any
    where: str

    def open(self) -> Image:
        """Return the image as `transformers.image_utils.load_image` would: turned as its camera says, in RGB.

        Raises:
            DataError: the file is missing or holds no image.
        """
        pillow()
        from PIL import Image, ImageOps

        try:
            packed = isinstance(self.source, bytes | Path)
            found: Image.Image = Image.open(io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source) if packed else self.source
            return ImageOps.exif_transpose(found).convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise self._unreadable(error) from error

    def check(self) -> None:
        """Raise DataError when the image is a file that is not there."""
        if isinstance(self.source, Path) and not self.source.is_file():
            raise self._unreadable(FileNotFoundError(f"no such file: {self.source}"))

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"An image cannot be read ({self.where}).",
            found=f"{self.name}: {type(error).__name__}: {str(error)[:160]}",
            expected="an image file that Pillow knows, such as PNG or JPEG; a relative path starts at the folder of the data file",
            fix="correct the path, or delete that row",
        )


def pillow() -> None:
    """Raise unless Pillow is installed.

    Raises:
        DataError: it is not; names the command that installs it.
    """
    from importlib.util import find_spec

    if find_spec("PIL") is None:
        raise DataError(
            "Images are read by Pillow, which is not installed.",
            found="no module PIL",
            expected="pillow 10 or newer",
            fix='pip install "automodel-workbench[vlm]" (or: pip install pillow)',
        )


def read_pictures(value: object, *, where: str) -> list[Picture]:
    """Return the images of a column: one image, a list of them, or nothing."""
    if value is None or value == "":
        return []
    values = value if isinstance(value, list | tuple) else [value]
    return [read_picture(one, where=where) for one in values if one is not None]


def read_picture(value: object, *, where: str) -> Picture:
    """Return the image that a value means; `where` is the place of its row, whose folder relative paths start at.

    Raises:
        DataError: the value is no image, or lies on the network.
    """
    if isinstance(value, Mapping):
        key = next((key for key in _KEYS if value.get(key) is not None), None)
        if key is None:
            raise _no_image(value, where)
        picture = read_picture(value[key], where=where)
        name = value.get("path")
        return Picture(Path(name).name, picture.source, where) if isinstance(name, str) and name else picture
    if isinstance(value, str):
        return _from_text(value, where)
    if isinstance(value, bytes | bytearray):
        return Picture("image", bytes(value), where)
    if type(value).__module__.partition(".")[0] == "PIL":
        return Picture(Path(str(getattr(value, "filename", "") or "image")).name, value, where)
    raise _no_image(value, where)


def _from_text(value: str, where: str) -> Picture:
    if value.startswith("data:"):
        head, _, body = value.partition(",")
        try:
            return Picture("image", base64.b64decode(body, validate=True), where)
        except (binascii.Error, ValueError) as error:
            raise DataError(
                f"The data: address of an image cannot be read ({where}).",
                found=f"{head[:60]}: {error}",
                expected="data:image/png;base64,...",
                fix="correct that row, or give the image as a file",
            ) from error
    if "://" in value and not value.startswith("file://"):
        raise DataError(
            f"An image lies on the network ({where}).",
            found=value[:120],
            expected=_WANTED,
            fix="download the images first and name the files: rows are read while training, on machines that may have no network",
        )
    path = Path(value.removeprefix("file://")).expanduser()
    return Picture(path.name, path if path.is_absolute() else folder_of(where) / path, where)


def thumbnail(image: Image) -> str:
    """Return a small picture of an image, at most 160 pixels wide and high, as a data: address."""
    small = image.copy()
    small.thumbnail(_THUMBNAIL)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def folder_of(where: str) -> Path:
    """Return the folder of the data file that a row stands in; `where` is what tables say, `FILE, line N`."""
    return Path(where.rpartition(", ")[0]).parent


def _no_image(value: object, where: str) -> DataError:
    keys = f" with {', '.join(map(str, value)) or 'no key'}" if isinstance(value, Mapping) else ""
    return DataError(
        f"A value is no image ({where}).",
        found=f"{type(value).__name__}{keys}",
        expected=_WANTED,
        fix="correct that row, or name another column",
    )
