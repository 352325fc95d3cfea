"""Arrange the published archives of UCF101: videos and the splits for action recognition.

python datasets/prepare_ucf101.py --videos UCF101.rar --splits UCF101TrainTestSplits-RecognitionTask.zip
"""

from pathlib import Path

from vidssl.data.published.archives import Published, below, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "https://www.crcv.ucf.edu/data/UCF101.php"


def prepare_ucf101(
    videos: Path | None = None,
    *,
    splits: Path | None = None,
    out: Path = Path("data/UCF101"),
    check: bool = True,
) -> None:
    """Write OUT/UCF-101/CLASS/*.avi and OUT/ucfTrainTestlist.

    Args:
        videos: The file UCF101.rar; unpacking it needs unrar, unar, 7z or bsdtar.
        splits: The file UCF101TrainTestSplits-RecognitionTask.zip.
        out: Folder to write; new or empty.
        check: Refuse numbers of videos other than the published ones.
    """
    given = {
        "UCF-101": (Published("UCF101.rar", ORIGIN), videos),
        "ucfTrainTestlist": (Published("UCF101TrainTestSplits-RecognitionTask.zip", ORIGIN), splits),
    }

    def fill(folder: Path) -> dict[str, int]:
        for top, (_, path) in given.items():
            assert path is not None, "prepare has looked"
            extract(path, folder, max_bytes=20 * GIB, place=below(top))
        return {
            "classes": len(list((folder / "UCF-101").glob("*"))),
            "videos": len(list((folder / "UCF-101").glob("*/*.avi"))),
            "lists": len(list((folder / "ucfTrainTestlist").glob("t*list0[123].txt"))),
        }

    prepare(out, list(given.values()), fill, expected={"classes": 101, "videos": 13320, "lists": 6}, check=check)


if __name__ == "__main__":
    script(prepare_ucf101)
