"""Arrange the published archives of GOT-10k.

python datasets/prepare_got10k.py --archives val_data.zip --out data/GOT-10k
python datasets/prepare_got10k.py --archives full_data.zip --out data/GOT-10k
"""

import re
from functools import partial
from pathlib import Path

from vidssl.data.published.archives import Published, extract, prepare, script
from vidssl.data.published.members import GIB, members

ARCHIVES = Published(
    "val_data.zip, test_data.zip, GOT-10k_Train_split_01.zip ... 19.zip, or full_data.zip, which holds them",
    "http://got-10k.aitestunion.com/downloads (an account is needed)",
)
PUBLISHED = {"train": 9335, "val": 180, "test": 180}
PACKED = "packed.zip"
SEQUENCE = re.compile(r"GOT-10k_(Train|Val|Test)_\d+")


def prepare_got10k(
    archives: tuple[Path, ...] = (), *, out: Path = Path("data/GOT-10k"), check: bool = True
) -> None:
    """Write OUT/SPLIT/list.txt and OUT/SPLIT/SEQUENCE/00000001.jpg ... for the splits given.

    Args:
        archives: The zip files.
        out: Folder to write; new or empty.
        check: Refuse numbers of sequences other than the published ones.
    """

    def fill(folder: Path) -> dict[str, int]:
        for archive in archives:
            extract(archive, folder, max_bytes=400 * GIB, place=partial(placed, archive=archive.name))
            # full_data.zip holds the others. One at a time, so that the disk need not hold two copies of all.
            for name in [member.name for member in members(archive, folder) if member.name.endswith(".zip")]:
                extract(archive, folder, max_bytes=400 * GIB, place={name: PACKED}.get)
                extract(folder / PACKED, folder, max_bytes=100 * GIB, place=partial(placed, archive=name))
                (folder / PACKED).unlink()
        counts = {}
        for split in (name for name in PUBLISHED if (folder / name).is_dir()):
            found = sorted(path.name for path in (folder / split).iterdir() if path.is_dir())
            listing = folder / split / "list.txt"
            if not listing.is_file():  # the archives of the training split come without
                listing.write_text("".join(f"{name}\n" for name in found))
            lacking = set(listing.read_text().split()) - set(found)
            if check and (lacking or len(found) != PUBLISHED[split]):
                raise ValueError(
                    f"{split} has {len(found)} of {PUBLISHED[split]} sequences; {len(lacking)} are listed and not there"
                )
            counts[f"{split} sequences"] = len(found)
        return counts

    prepare(out, [(ARCHIVES, path) for path in archives or [None]], fill, check=check)


def placed(name: str, archive: str) -> str | None:
    """SPLIT/SEQUENCE/FILE or SPLIT/list.txt, whatever folders the archive has around them."""
    parts = name.split("/")
    for number, part in enumerate(parts[:-1]):
        if match := SEQUENCE.fullmatch(part):
            return "/".join([match[1].lower(), *parts[number:]])
    if parts[-1] != "list.txt":
        return None
    around = f"{archive}/{name}".lower()
    split = next((split for split in PUBLISHED if re.search(rf"(^|[/_]){split}([/_.]|$)", around)), None)
    return f"{split}/list.txt" if split else None


if __name__ == "__main__":
    script(prepare_got10k)
