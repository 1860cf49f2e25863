"""Whether a JPEG 2000 file is whole: GDAL does not say so.

Its OpenJPEG driver decodes the tiles of an image in threads, and what fails there is lost: the
end of a truncated band of a SAFE folder reads as no data, or as numbers that were never measured,
without an error. So the length of the file is checked before it is read.

Source: ISO/IEC 15444-1, annex I (boxes) and A.4.4 (end of codestream); tried with GDAL 3.10.
"""

import os
from pathlib import Path
from typing import BinaryIO

from lai_udf.errors import UnreadableProductError

SUFFIXES = {".jp2"}
CODESTREAM = b"jp2c"
END_OF_CODESTREAM = b"\xff\xd9"


def require_whole(path: str, label: str) -> None:
    """Raise `UnreadableProductError` where a local JPEG 2000 file ends too early.

    Files of other kinds, remote ones, and those that GDAL will refuse anyway are passed over.
    """
    if Path(path).suffix.lower() not in SUFFIXES or not os.path.isfile(path):
        return
    with open(path, "rb") as file:
        size = os.path.getsize(path)
        missing = _missing_bytes(file, size)
    if missing:
        raise UnreadableProductError(
            f"{label}: cannot read {path} (truncated: {missing}); fetch it again"
        )


def _missing_bytes(file: BinaryIO, size: int) -> str:
    """Walk the boxes to the codestream; say what is missing behind it, empty where nothing is."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # the length stands in eight bytes behind the kind
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # the last box, up to the end of the file
            file.seek(max(size - 2, 0))
            return "" if file.read(2) == END_OF_CODESTREAM else "no end of codestream"
        if start + length > size:
            return f"{start + length - size} bytes are missing"
        if kind == CODESTREAM:
            return ""
        start += max(length, 8)
    return "it holds no image" if size else "it is empty"
