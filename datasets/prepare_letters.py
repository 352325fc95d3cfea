"""Write small labelled images, drawn from a seed: capital letters at random size, place, slant and colours.

    python datasets/prepare_letters.py --out data/letters

They are the images that the proofs of the image methods learn from (vidssl.evidence.worlds.letters), as files.
"""

from pathlib import Path

import tyro
from PIL import Image
from rich.progress import track

from vidssl.evidence import worlds


def write_letters(
    out: Path, *, seed: int = 0, num_train: int = 2000, num_val: int = 500, size_px: int = 32
) -> None:
    """Write OUT/train/LETTER/00000.png and OUT/val/LETTER/00000.png into an empty or new folder.

    Args:
        out: Folder to write.
        seed: Same seed, same pixels.
        num_train: Images to learn from.
        num_val: Images to measure on.
        size_px: Height and width.

    Raises:
        ValueError: The folder holds files.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} already holds files; the images need a new or an empty folder")
    for number, (split, count) in enumerate((("train", num_train), ("val", num_val))):
        images, label = worlds.letters(count, seed=2 * seed + number, size_px=size_px)
        for index in track(range(count), split):
            path = out / split / worlds.LETTERS[label[index]] / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index, 0].permute(1, 2, 0).numpy()).save(path)


if __name__ == "__main__":
    tyro.cli(write_letters)
