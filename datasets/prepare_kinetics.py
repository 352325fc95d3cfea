"""Arrange downloaded videos of Kinetics (400, 600 or 700) by its published lists.

    python datasets/prepare_kinetics.py --train-list train.csv --val-list val.csv --videos downloads --out data/K400

Files are hard links, so they take no room and the downloads may be removed afterwards; --copy copies them.
"""

import csv
import io
import os
import shutil
from pathlib import Path

from vidssl.data.lists.text import read_text
from vidssl.data.published.archives import Published, prepare, script

ORIGIN = "https://github.com/cvdfoundation/kinetics-dataset (annotations)"


def prepare_kinetics(
    train_list: Path | None = None,
    *,
    val_list: Path | None = None,
    videos: Path = Path(),
    out: Path = Path("data/Kinetics"),
    copy: bool = False,
) -> None:
    """Write OUT/train.csv, OUT/val.csv, OUT/train/ID_000010_000020.mp4, OUT/val/... and OUT/missing.txt.

    The lists keep only videos that are there: many are gone from the web, so figures say how many there were.

    Args:
        train_list: The file train.csv: label,youtube_id,time_start,time_end,split.
        val_list: The file val.csv (of Kinetics-400 also called validate.csv).
        videos: Folder with the downloads, at any depth: ID_START_END.mp4 with six digits each, or ID.mp4, if it is cut.
        out: Folder to write; new or empty.
        copy: Copy the files.
    """
    given = {
        "train": (Published("train.csv", ORIGIN), train_list),
        "val": (Published("val.csv", ORIGIN), val_list),
    }

    def fill(folder: Path) -> dict[str, int]:
        found = {path.stem: path for path in sorted(videos.rglob("*")) if path.suffix in (".mp4", ".mkv", ".webm")}
        counts, missing = {}, []
        for split, (_, listing) in given.items():
            assert listing is not None, "prepare has looked"
            (folder / split).mkdir()
            kept = []
            with io.StringIO(read_text(listing), newline="") as stream:
                for row in csv.DictReader(stream):
                    name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
                    source = found.get(name) or found.get(row["youtube_id"])
                    if source is None:
                        missing.append(f"{split}/{name}")
                        continue
                    kept.append(row)
                    place(source, folder / split / f"{name}{source.suffix}", copy=copy)
            if not kept:
                raise ValueError(f"{videos} holds none of the videos of {listing}; names are ID_START_END.mp4")
            with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(kept[0]))
                writer.writeheader()
                writer.writerows(kept)
            counts[f"{split} videos"] = len(kept)
        (folder / "missing.txt").write_text("".join(f"{name}\n" for name in missing))
        return {**counts, "missing videos": len(missing)}

    prepare(out, list(given.values()), fill)


def place(source: Path, target: Path, *, copy: bool) -> None:
    """Link or copy a file."""
    if copy:
        shutil.copyfile(source, target)
        return
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        raise ValueError(f"{source} cannot be linked to {target} ({error.strerror}); give --copy") from error


if __name__ == "__main__":
    script(prepare_kinetics)
