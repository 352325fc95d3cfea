"""Archives for tests: zip, tar, and both formats of rar, which no library writes."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

RAR4, RAR5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _block4(kind: int, flags: int, body: bytes) -> bytes:
    rest = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(rest) & 0xFFFF) + rest


def write_rar4(path: Path, files: dict[str, bytes], *, mode: int = 0o100644, flags: int = 0) -> Path:
    """Write files without compression in the format of RAR 1.5 to 4, which has \\ between folders on every system."""
    parts = [RAR4, _block4(0x73, 0, bytes(6))]
    for name, content in {name.replace("/", "\\"): content for name, content in files.items()}.items():
        facts = (len(content), len(content), 3, zlib.crc32(content), 0x5A000000, 20, 0x30, len(name), mode)
        parts += [_block4(0x74, 0x8000 | flags, struct.pack("<IIBIIBBHI", *facts) + name.encode()), content]
    path.write_bytes(b"".join([*parts, _block4(0x7B, 0x4000, b"")]))
    return path


def vint(value: int) -> bytes:
    digits = b""
    while value > 0x7F:
        digits, value = digits + bytes([value & 0x7F | 0x80]), value >> 7
    return digits + bytes([value])


def _block5(*parts: bytes) -> bytes:
    body = b"".join(parts)
    sized = vint(len(body)) + body
    return struct.pack("<I", zlib.crc32(sized)) + sized


def write_rar5(path: Path, files: dict[str, bytes], *, extra: bytes = b"") -> Path:
    """Write files without compression in the format of RAR 5."""
    parts = [RAR5, _block5(vint(1), vint(0), vint(0))]
    for name, content in files.items():
        flags = vint(3) + vint(len(extra)) if extra else vint(2)
        facts = vint(0x4) + vint(len(content)) + vint(0o100644) + struct.pack("<I", zlib.crc32(content))
        head = [vint(2), flags, vint(len(content)), facts, vint(0), vint(1), vint(len(name)), name.encode()]
        parts += [_block5(*head, extra), content]
    path.write_bytes(b"".join([*parts, _block5(vint(5), vint(0), vint(0))]))
    return path
