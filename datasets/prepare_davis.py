"""Arrange the published archives of DAVIS-2017 or DAVIS-2016.

    python datasets/prepare_davis.py --archives DAVIS-2017-trainval-480p.zip --out data/DAVIS
    python datasets/prepare_davis.py --year 2016 --archives DAVIS-data.zip --out data/DAVIS-2016

Several archives (trainval and test-dev, 480p and Full-Resolution) go into one tree.
"""

from pathlib import Path
from typing import Literal

from vidssl.data.published.archives import Published, below, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "https://davischallenge.org/davis{year}/code.html"
NAMES = {2016: "DAVIS-data.zip", 2017: "DAVIS-2017-trainval-480p.zip"}
# Sequences and frames by list, as in data/db_info.yaml of github.com/fperazzi/davis-2017; 2016 is what it marks so.
PUBLISHED = {
    2016: {"train": (30, 2079), "val": (20, 1376)},
    2017: {"train": (60, 4209), "val": (30, 1999), "test-dev": (30, 2086)},
}


def prepare_davis(
    archives: tuple[Path, ...] = (),
    *,
    out: Path = Path("data/DAVIS"),
    year: Literal[2016, 2017] = 2017,
    check: bool = True,
) -> None:
    """Write OUT/JPEGImages, OUT/Annotations and OUT/ImageSets.

    Args:
        archives: The zip files.
        out: Folder to write; new or empty.
        year: Which lists of sequences are counted.
        check: Refuse numbers of sequences and frames other than the published ones.
    """

    def fill(folder: Path) -> dict[str, int]:
        for archive in archives:
            extract(
                archive,
                folder,
                max_bytes=40 * GIB,
                place=below("JPEGImages", "Annotations", "ImageSets", "Subsets"),
            )
        counts: dict[str, int] = {}
        for subset, published in PUBLISHED[year].items():
            names = listed(folder, year, subset)
            for resolution in sorted(path.name for path in (folder / "JPEGImages").iterdir()):
                frames = [len(list((folder / "JPEGImages" / resolution / name).glob("*.jpg"))) for name in names]
                masks = [len(list((folder / "Annotations" / resolution / name).glob("*.png"))) for name in names]
                if not any(frames):  # test-dev has archives of its own
                    continue
                broken = [
                    name for name, f, m in zip(names, frames, masks, strict=True) if not f or m not in (1, f)
                ]
                if broken or (check and (len(names), sum(frames)) != published):
                    raise ValueError(
                        f"{subset} at {resolution} has {len(names)} sequences and {sum(frames)} frames, published are "
                        f"{published[0]} and {published[1]}; without frames or masks: {', '.join(broken) or 'none'}"
                    )
                counts |= {f"{subset} sequences": len(names), f"{subset} frames at {resolution}": sum(frames)}
        if not counts:
            raise ValueError(f"{archives[0]} holds no frames of the sequences that DAVIS-{year} lists")
        return counts

    archive = Published(NAMES[year], ORIGIN.format(year=year))
    prepare(out, [(archive, path) for path in archives or [None]], fill, check=check)


def listed(folder: Path, year: int, subset: str) -> list[str]:
    """Names of the sequences of a subset; DAVIS-2016 lists pairs of files, in ImageSets/480p."""
    places = [folder / "ImageSets" / name / f"{subset}.txt" for name in (str(year), "480p")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return []
    lines = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    return list(dict.fromkeys(Path(line).parent.name if "/" in line else line for line in lines))


if __name__ == "__main__":
    script(prepare_davis)
