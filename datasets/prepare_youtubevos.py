"""Arrange the published archives of YouTube-VOS.

python datasets/prepare_youtubevos.py --train train.zip --valid valid.zip --out data/YouTubeVOS
"""

from pathlib import Path

from vidssl.data.published.archives import Published, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "https://youtube-vos.org (dataset, video object segmentation; an account is needed)"


def prepare_youtubevos(
    train: Path | None = None,
    *,
    valid: Path | None = None,
    test: Path | None = None,
    out: Path = Path("data/YouTubeVOS"),
) -> None:
    """Write OUT/SPLIT/JPEGImages, OUT/SPLIT/Annotations and OUT/SPLIT/meta.json for the splits given.

    Args:
        train: The file train.zip.
        valid: The file valid.zip.
        test: The file test.zip.
        out: Folder to write; new or empty.
    """
    given = {"train": train, "valid": valid, "test": test}
    given = {name: path for name, path in given.items() if path} or {"valid": None}

    def fill(folder: Path) -> dict[str, int]:
        counts = {}
        for split, path in given.items():
            assert path is not None, "prepare has looked"

            def place(name: str, split: str = split) -> str | None:
                top, _, rest = name.partition("/")
                return f"{split}/{rest}" if top == split else f"{split}/{name}"

            extract(path, folder, max_bytes=60 * GIB, place=place)
            frames, masks = (folder / split / top for top in ("JPEGImages", "Annotations"))
            videos = {path.name for path in frames.glob("*")}
            lost = videos ^ {path.name for path in masks.glob("*")}
            if not videos or lost:
                raise ValueError(
                    f"{path} holds {len(videos)} videos of {split}; frames or masks are missing of {sorted(lost)[:5]}"
                )
            counts[f"{split} videos"] = len(videos)
        return counts

    prepare(out, [(Published(f"{name}.zip", ORIGIN), path) for name, path in given.items()], fill)


if __name__ == "__main__":
    script(prepare_youtubevos)
