"""Pictures of pages made small: a palette in place of true colour, as screens have few colours."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

PIXELS = """async (data) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height); const context = canvas.getContext('2d'); context.drawImage(bitmap, 0, 0);
  const bytes = context.getImageData(0, 0, bitmap.width, bitmap.height).data; let text = '';
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return [bitmap.width, bitmap.height, btoa(text)];
}"""


def smaller(picture: bytes, browser: Any) -> bytes:
    """Return a PNG with at most 256 colours; the browser reads the pixels."""
    import numpy as np

    page = browser.new_page()
    width, height, data = page.evaluate(PIXELS, base64.b64encode(picture).decode())
    page.close()
    pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height * width, 4)[:, :3].astype(np.int64)
    # Steps of 8 in each colour cannot be seen; white and the pure tones stay what they are.
    rounded = np.minimum((pixels + 4) // 8 * 8, 255)
    codes, where, counts = np.unique(rounded @ (65536, 256, 1), return_inverse=True, return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    kept = np.argsort(-counts)[:256]
    nearest = np.array([int(np.argmin(((colours[kept] - colour) ** 2).sum(axis=1))) for colour in colours], np.uint8)
    rows = nearest[where].reshape(height, width)
    body = zlib.compress(np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes(), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"PLTE", colours[kept].astype(np.uint8).tobytes())
        + _chunk(b"IDAT", body)
        + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
