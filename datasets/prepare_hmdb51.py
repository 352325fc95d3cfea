"""Arrange the published archives of HMDB51: a rar of rars, and the splits.

python datasets/prepare_hmdb51.py --videos hmdb51_org.rar --splits test_train_splits.rar --out data/HMDB51
"""

import shutil
from pathlib import Path

from vidssl.data.published.archives import Published, below, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database"
# Of the splits; torchvision, datasets/hmdb51.py.
SPLITS_MD5 = "15e67781e70dcfbdce2d7dbb9b3344b5"


def prepare_hmdb51(
    videos: Path | None = None,
    *,
    splits: Path | None = None,
    out: Path = Path("data/HMDB51"),
    check: bool = True,
) -> None:
    """Write OUT/hmdb51_org/CLASS/*.avi and OUT/testTrainMulti_7030_splits.

    Args:
        videos: The file hmdb51_org.rar; unpacking it needs unrar, unar, 7z or bsdtar.
        splits: The file test_train_splits.rar.
        out: Folder to write; new or empty.
        check: Refuse another checksum or number of videos than the published ones.
    """
    given = [
        (Published("hmdb51_org.rar", ORIGIN), videos),
        (Published("test_train_splits.rar", ORIGIN, md5=SPLITS_MD5), splits),
    ]

    def fill(folder: Path) -> dict[str, int]:
        assert videos is not None and splits is not None, "prepare has looked"
        packed = folder / "packed"
        packed.mkdir()
        extract(videos, packed, max_bytes=10 * GIB, place=lambda name: Path(name).name)
        for path in sorted(packed.glob("*.rar")):

            def place(name: str, class_name: str = path.stem) -> str:
                return f"hmdb51_org/{class_name}/{Path(name).name}"

            extract(path, folder, max_bytes=GIB, place=place)
        shutil.rmtree(packed)
        extract(splits, folder, max_bytes=GIB, place=below("testTrainMulti_7030_splits"))
        return {
            "classes": len(list((folder / "hmdb51_org").glob("*"))),
            "videos": len(list((folder / "hmdb51_org").glob("*/*.avi"))),
            "lists": len(list((folder / "testTrainMulti_7030_splits").glob("*_test_split[123].txt"))),
        }

    prepare(out, given, fill, expected={"classes": 51, "videos": 6766, "lists": 153}, check=check)


if __name__ == "__main__":
    script(prepare_hmdb51)
