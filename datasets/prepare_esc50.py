"""Arrange the published archive of ESC-50, a zip of its repository.

python datasets/prepare_esc50.py --archive ESC-50-master.zip --out data/ESC-50
"""

from pathlib import Path

from vidssl.data.published.archives import Published, below, extract, prepare, script
from vidssl.data.published.members import GIB

# The archive is made anew by the site whenever it is asked for, so it has no checksum.
ESC50 = Published("ESC-50-master.zip", "https://github.com/karolpiczak/ESC-50/archive/master.zip")


def prepare_esc50(archive: Path | None = None, *, out: Path = Path("data/ESC-50"), check: bool = True) -> None:
    """Write OUT/audio/*.wav and OUT/meta/esc50.csv.

    Args:
        archive: The file ESC-50-master.zip.
        out: Folder to write; new or empty.
        check: Refuse numbers of sounds other than the published ones.
    """

    def fill(folder: Path) -> dict[str, int]:
        assert archive is not None, "prepare has looked"
        extract(archive, folder, max_bytes=4 * GIB, place=below("audio", "meta"))
        return {
            "sounds": len(list((folder / "audio").glob("*.wav"))),
            "lists": len(list((folder / "meta").glob("esc50.csv"))),
        }

    prepare(out, [(ESC50, archive)], fill, expected={"sounds": 2000, "lists": 1}, check=check)


if __name__ == "__main__":
    script(prepare_esc50)
