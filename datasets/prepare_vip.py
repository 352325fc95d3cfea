"""Arrange the published archive of VIP (video instance-level parsing), the finely annotated part.

python datasets/prepare_vip.py --archive VIP_Fine.zip --out data/VIP_Fine
"""

from pathlib import Path

from vidssl.data.published.archives import Published, below, extract, prepare, script
from vidssl.data.published.members import GIB

VIP_FINE = Published(
    "VIP_Fine (zip or tar.gz)", "https://sysu-hcp.net/lip/overview.php (2.3 Video multi-person parsing)"
)
TOPS = ("Images", "Annotations/Category_ids")


def prepare_vip(archive: Path | None = None, *, out: Path = Path("data/VIP_Fine"), check: bool = True) -> None:
    """Write OUT/Images, OUT/Annotations and OUT/lists.

    Args:
        archive: The file.
        out: Folder to write; new or empty.
        check: Refuse numbers of videos other than the published ones.
    """

    def fill(folder: Path) -> dict[str, int]:
        assert archive is not None, "prepare has looked"
        extract(archive, folder, max_bytes=200 * GIB, place=below("Images", "Annotations", "lists"))
        listing = folder / "lists" / "val_videos.txt"
        if not listing.is_file():
            raise ValueError(
                f"{archive} has no lists/val_videos.txt; it must hold VIP_Fine/Images, Annotations, lists"
            )
        # Some copies list paths, with or without the annotation's behind them.
        names = [Path(line.split()[0]).name for line in listing.read_text().splitlines() if line.strip()]
        lacking = [name for name in names for top in TOPS if not (folder / top / name).is_dir()]
        if lacking:
            raise ValueError(f"{archive}: frames or categories are missing of {', '.join(lacking[:5])}")
        return {"validation videos": len(names)}

    prepare(out, [(VIP_FINE, archive)], fill, expected={"validation videos": 50}, check=check)


if __name__ == "__main__":
    script(prepare_vip)
