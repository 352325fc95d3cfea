"""Arrange the published archives of ImageNet-1k (ILSVRC 2012), with lists of 1 % and 10 % of the training images.

    python datasets/prepare_imagenet.py --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \\
        --devkit ILSVRC2012_devkit_t12.tar.gz --subsets 1percent.txt 10percent.txt --out data/ImageNet
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from vidssl.data.lists.trust import damage_named
from vidssl.data.published.archives import Published, extract, prepare, script, write
from vidssl.data.published.members import GIB, Member, tar_members

ORIGIN = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (an account is needed)"
# MD5 as on that page, and of the devkit as in torchvision, datasets/imagenet.py.
TRAIN = Published("ILSVRC2012_img_train.tar", ORIGIN, md5="1d675b47d978889d74fa0da5fadfb00e")
VAL = Published("ILSVRC2012_img_val.tar", ORIGIN, md5="29b22e2961454d5413ddabcf34fc5622")
DEVKIT = Published("ILSVRC2012_devkit_t12.tar.gz", ORIGIN, md5="fa75699e90414af021442c21a62c3abf")
SUBSETS_ORIGIN = "https://github.com/google-research/simclr, imagenet_subsets (of SimCLR)"


def prepare_imagenet(
    train: Path | None = None,
    *,
    val: Path | None = None,
    devkit: Path | None = None,
    subsets: tuple[Path, ...] = (),
    out: Path = Path("data/ImageNet"),
    check: bool = True,
) -> None:
    """Write OUT/train/CLASS/*.JPEG, OUT/val/CLASS/*.JPEG, and a list OUT/NAME.csv for every subset.

    `--root OUT/1percent.csv` learns from the subset and measures on all of val.

    Args:
        train: The file ILSVRC2012_img_train.tar, a tar archive of 1000 of them.
        val: The file ILSVRC2012_img_val.tar.
        devkit: The file ILSVRC2012_devkit_t12.tar.gz, which knows the classes of val.
        subsets: Lists of training images, a name a line: 1percent.txt and 10percent.txt of SimCLR.
        out: Folder to write; new or empty.
        check: Refuse other checksums and numbers of images than the published ones.
    """

    def fill(folder: Path) -> dict[str, int]:
        assert train is not None and val is not None and devkit is not None, "prepare has looked"
        with damage_named(str(train)):
            write(train_members(train), folder / "train", max_bytes=300 * GIB, label=str(train))
        extract(devkit, folder / "devkit", max_bytes=GIB)
        names = val_classes(folder / "devkit" / "ILSVRC2012_devkit_t12" / "data")

        def place(name: str) -> str:
            number = int(Path(name).stem.rpartition("_")[2])
            return f"val/{names[number - 1]}/{Path(name).name}"

        extract(val, folder, max_bytes=20 * GIB, place=place)
        for path in subsets:
            write_subset(path, folder)
        return {
            "classes": len(list((folder / "train").iterdir())),
            "training images": len(list((folder / "train").glob("*/*.JPEG"))),
            "validation images": len(list((folder / "val").glob("*/*.JPEG"))),
        }

    given = [(TRAIN, train), (VAL, val), (DEVKIT, devkit)]
    given += [(Published("1percent.txt", SUBSETS_ORIGIN), path) for path in subsets]
    published = {"classes": 1000, "training images": 1_281_167, "validation images": 50_000}
    prepare(out, given, fill, expected=published, check=check)


def train_members(path: Path) -> Iterator[Member]:
    """Images of all archives in the archive, as CLASS/NAME.JPEG."""
    with path.open("rb") as stream:
        for packed in tar_members(stream, str(path)):
            with packed.open() as inner:
                for image in tar_members(inner, f"{path}:{packed.name}"):
                    yield Member(f"{Path(packed.name).stem}/{image.name}", image.num_bytes, image.open)


def val_classes(data: Path) -> list[str]:
    """WordNet id of each validation image, in order."""
    from scipy.io import loadmat

    synsets = loadmat(data / "meta.mat", squeeze_me=True)["synsets"]
    by_number = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    numbers = (data / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
    return [str(by_number[int(number)]) for number in numbers]


def write_subset(path: Path, folder: Path) -> None:
    """Write FOLDER/NAME.csv: the listed training images, and all of val."""
    rows = []
    for name in path.read_text().split():
        class_name = name.partition("_")[0]
        if not (folder / "train" / class_name / name).is_file():
            raise ValueError(f"{path} lists {name}, which is not among the training images")
        rows.append((f"train/{class_name}/{name}", class_name, "train"))
    for image in sorted((folder / "val").glob("*/*.JPEG")):
        rows.append((image.relative_to(folder).as_posix(), image.parent.name, "val"))
    with (folder / f"{path.stem}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split"))
        writer.writerows(rows)


if __name__ == "__main__":
    script(prepare_imagenet)
