"""Arrange the published archives of JHMDB: frames, joints, splits.

python datasets/prepare_jhmdb.py --images Rename_Images.tar.gz --joints joint_positions.zip --splits splits.zip
"""

from pathlib import Path

from vidssl.data.published.archives import Published, below, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "http://jhmdb.is.tue.mpg.de (downloads)"


def prepare_jhmdb(
    images: Path | None = None,
    *,
    joints: Path | None = None,
    splits: Path | None = None,
    out: Path = Path("data/JHMDB"),
    check: bool = True,
) -> None:
    """Write OUT/Rename_Images, OUT/joint_positions and OUT/splits.

    Args:
        images: The file Rename_Images.tar.gz.
        joints: The file joint_positions.zip.
        splits: The file splits.zip.
        out: Folder to write; new or empty.
        check: Refuse numbers of videos other than the published ones.
    """
    given = {
        "Rename_Images": (Published("Rename_Images.tar.gz", ORIGIN), images),
        "joint_positions": (Published("joint_positions.zip", ORIGIN), joints),
        "splits": (Published("splits.zip", ORIGIN), splits),
    }

    def fill(folder: Path) -> dict[str, int]:
        for top, (_, path) in given.items():
            assert path is not None, "prepare has looked"
            extract(path, folder, max_bytes=40 * GIB, place=below(top))
        lists = [path.read_text().splitlines() for path in (folder / "splits").glob("*_test_split1.txt")]
        return {
            "videos": len(list((folder / "Rename_Images").glob("*/*"))),
            "videos with joints": len(list((folder / "joint_positions").glob("*/*/joint_positions.mat"))),
            "test videos of split 1": sum(line.rstrip().endswith(" 2") for listed in lists for line in listed),
        }

    published = {"videos": 928, "videos with joints": 928, "test videos of split 1": 268}
    prepare(out, list(given.values()), fill, expected=published, check=check)


if __name__ == "__main__":
    script(prepare_jhmdb)
