"""Arrange the published archives of Something-Something v2: a tar archive in parts, and the labels.

    python datasets/prepare_something.py --videos downloads/ssv2 \\
        --labels 20bn-something-something-download-package-labels.zip --out data/SSv2
"""

import re
from pathlib import Path

from vidssl.data.published.archives import Published, extract, prepare, script
from vidssl.data.published.members import GIB

ORIGIN = "https://www.qualcomm.com/developer/software/something-something-v-2-dataset (an account is needed)"
TOP = "20bn-something-something-v2"


def prepare_something(
    videos: Path | None = None,
    *,
    labels: Path | None = None,
    out: Path = Path("data/SSv2"),
    check: bool = True,
) -> None:
    """Write OUT/20bn-something-something-v2/ID.webm and OUT/labels/*.json.

    Args:
        videos: Folder that holds the parts 20bn-something-something-v2-00, -01 ... and nothing else of that name. Where
            each came inside a zip, unzip it first.
        labels: The file 20bn-something-something-download-package-labels.zip.
        out: Folder to write; new or empty.
        check: Refuse numbers of videos other than the published ones.
    """
    parts = sorted(path for path in videos.iterdir() if re.fullmatch(rf"{TOP}-\d\d", path.name)) if videos else []
    if [int(path.name[-2:]) for path in parts] != list(range(len(parts))):
        raise ValueError(f"{videos} has the parts {', '.join(path.name[-2:] for path in parts)}; one is missing")
    given = [(Published(path.name, ORIGIN), path) for path in parts]
    given = given or [(Published(f"{TOP}-00 and the other parts", ORIGIN), videos)]
    given.append((Published("20bn-something-something-download-package-labels.zip", ORIGIN), labels))

    def fill(folder: Path) -> dict[str, int]:
        assert labels is not None, "prepare has looked"
        extract(
            parts,
            folder,
            max_bytes=80 * GIB,
            place=lambda name: f"{TOP}/{Path(name).name}" if name.endswith(".webm") else None,
        )
        extract(labels, folder, max_bytes=GIB, place=lambda name: f"labels/{Path(name).name}")
        return {"videos": len(list((folder / TOP).glob("*.webm")))}

    prepare(out, given, fill, expected={"videos": 220847}, check=check)


if __name__ == "__main__":
    script(prepare_something)
