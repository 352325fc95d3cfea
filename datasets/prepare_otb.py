"""Arrange the published archives of OTB, one zip per sequence.

python datasets/prepare_otb.py --folder downloads/otb --out data/OTB
"""

from pathlib import Path

from vidssl.data.published.archives import Published, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "http://cvlab.hanyang.ac.kr/tracker_benchmark/datasets.html"


def prepare_otb(folder: Path | None = None, *, out: Path = Path("data/OTB"), check: bool = True) -> None:
    """Write OUT/SEQUENCE/img and OUT/SEQUENCE/groundtruth_rect.txt.

    Args:
        folder: Folder that holds Basketball.zip, Biker.zip ...
        out: Folder to write; new or empty.
        check: Refuse fewer than the 98 published archives (100 sequences: two of them have two objects).
    """
    archives = sorted(folder.glob("*.zip")) if folder else []

    def fill(target: Path) -> dict[str, int]:
        for archive in archives:

            def place(name: str, top: str = archive.stem) -> str:
                return name if name.startswith(f"{top}/") else f"{top}/{name}"

            extract(archive, target, max_bytes=GIB, place=place)
            sequence = target / archive.stem
            if not (any(sequence.glob("img/*.jpg")) and any(sequence.glob("groundtruth_rect*.txt"))):
                raise ValueError(f"{archive} has no img/*.jpg or no groundtruth_rect.txt")
        return {"folders": len(archives)}

    given = [(Published(path.name, ORIGIN), path) for path in archives]
    given = given or [(Published("Basketball.zip and the other sequences", ORIGIN), folder)]
    prepare(out, given, fill, expected={"folders": 98}, check=check)


if __name__ == "__main__":
    script(prepare_otb)
