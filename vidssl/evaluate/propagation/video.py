"""Carry the masks of a video's first frame through the rest of it: a user's own video, no ground truth."""

import dataclasses
import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...data.media.video import Reader, open_video
from ...data.published.masks import VOID, check_object_ids, listed_ids, read_mask
from ...json_files import read_json
from ...models.encoder import Encoder
from ...stop import stoppable
from ..overlap import write_behind
from ..provenance import device_name, fingerprint, frame_progress, versions, write_json
from .drawing.overlay import overlay, write_video
from .masks import write_mask
from .propagate import propagate_masks
from .protocols import Protocol

# Frames decoded at once: few enough for the memory at 4K, enough that seeking does not count.
_CHUNK_FRAMES = 16

# There while a folder is incomplete: it says that what lies beside it may be replaced.
UNFINISHED = "unfinished.json"

logger = logging.getLogger(__name__)


@stoppable
def propagate_video(
    video_path: str | Path,
    first_mask_path: str | Path,
    encoder: Encoder,
    *,
    protocol: Protocol,
    out: str | Path,
    model_name: str,
    device: str | torch.device = "cpu",
    progress: bool = False,
    command: str | None = None,
) -> Path:
    """Propagate the objects of a first-frame mask, and write masks, an overlay video and a list of areas.

        OUT/masks/00000.png ...   indexed masks, a file per frame
        OUT/overlay.mp4           the masks over the video
        OUT/labels.json           object ids, time of each frame, area in pixels of each object on it, provenance

    A folder of an earlier call for the same video is written anew.

    Args:
        video_path: Video file, or folder of frames.
        first_mask_path: PNG with an object id per pixel (0 background), of the size of the upright first frame; a
            mask with no values but 0 and 255 is taken as one object.
        encoder: Frozen network in eval mode.
        protocol: How labels travel.
        out: Folder for the results.
        model_name: What labels.json calls the model.
        device: Where the encoder runs.
        progress: Show a progress bar on stderr.
        command: Command line that started this, for the record.

    Returns:
        Path of the overlay video.

    Raises:
        ValueError: The video or the mask cannot be read, the mask has another size than the video, no object or
            values that are no ids; `out` is what is read, or holds what this function did not make of this video.
        Stopped: A signal arrived.
    """
    out, device = Path(out), torch.device(device)
    mask_folder, sha256 = out / "masks", fingerprint(encoder)
    check_folder(out, video_path=Path(video_path), first_mask_path=Path(first_mask_path))
    with open_video(video_path) as reader:
        first_mask = _first_mask(first_mask_path, reader)
        ids = [number for number in first_mask.unique().tolist() if number != 0]
        write_json(out / UNFINISHED, {"video": str(Path(video_path).resolve())})
        (out / "labels.json").unlink(missing_ok=True)  # it is written last: with it, the folder is complete
        shown: deque[Tensor] = deque()  # frames that were read but have no mask yet
        areas: list[dict[str, int]] = []
        masks = propagate_masks(
            encoder, _noted(_frames(reader), shown), first_mask, protocol=protocol, device=device
        )
        start = time.perf_counter()

        def pictures() -> Iterator[Tensor]:
            with frame_progress(reader.info.num_frames, shown=progress) as advance, write_behind() as later:
                for number, mask in enumerate(masks):
                    mask = mask.cpu()
                    later(write_mask, mask_folder / f"{number:05d}.png", mask)
                    areas.append({str(i): int((mask == i).sum()) for i in ids})
                    advance(Path(video_path).name)
                    yield overlay(shown.popleft(), mask)

        write_video(out / "overlay.mp4", pictures(), fps=reader.info.fps)
        document = {
            "video": str(video_path),
            "first_mask": str(first_mask_path),
            "height": reader.info.height,
            "width": reader.info.width,
            "fps": reader.info.fps,
            "ids": ids,
            "frames": [
                {"file": f"{number:05d}.png", "time_seconds": seconds, "areas": area}
                for number, (seconds, area) in enumerate(zip(reader.info.pts_seconds.tolist(), areas, strict=True))
            ],
            "model": {
                "name": model_name,
                "architecture": encoder.architecture,
                "sha256": sha256,
            },
            "protocol": dataclasses.asdict(protocol),
            "frames_per_second": len(areas) / (time.perf_counter() - start),
            "device": device_name(device),
            "versions": versions(),
            "command": command,
        }
    written = {f"{number:05d}.png" for number in range(len(areas))}
    for path in mask_folder.iterdir():  # of a longer video, or one that was cut since
        if path.name not in written:
            path.unlink()
    write_json(out / "labels.json", document)
    (out / UNFINISHED).unlink()
    return out / "overlay.mp4"


def check_folder(out: Path, *, video_path: Path, first_mask_path: Path) -> None:
    """Refuse to write over what is read, or into a folder with anything that an earlier call did not make.

    Raises:
        ValueError: That is so; nothing was touched.
    """
    advice = "give another folder (--out), a new or an empty one"
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; {advice}")
    written = [out, *(out / name for name in ("masks", "overlay.mp4", "labels.json", UNFINISHED))]
    targets = {path.resolve() for path in written}
    for path in (video_path, first_mask_path):
        if path.resolve() in targets or path.resolve().parent == (out / "masks").resolve():
            raise ValueError(f"{path} is read, and what goes to {out} would be written over it; {advice}")
    found = _entries(out)
    if not found:
        return
    record = next((out / name for name in ("labels.json", UNFINISHED) if (out / name).is_file()), None)
    owner = _video_of(record) if record is not None else None
    foreign = [name for name in found if not _is_ours(name, out)] if owner is not None else found
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ValueError(f"{out} holds {foreign[0]}{more}, which propagate did not make; {advice}")
    if owner is not None and owner != video_path.resolve():
        raise ValueError(f"{out} holds what was made of {owner}, not of {video_path}; {advice}")


def _entries(out: Path) -> list[str]:
    """What a folder and its `masks` hold, but for what a killed process left half-written."""
    paths = [path for folder in (out, out / "masks") if folder.is_dir() for path in sorted(folder.iterdir())]
    masks = out / "masks"
    return [
        path.relative_to(out).as_posix()
        for path in paths
        if not re.fullmatch(r"\..+\.\d+\.tmp", path.name) and path != masks
    ] + (["masks"] if masks.is_symlink() or masks.is_file() else [])


def _is_ours(name: str, out: Path) -> bool:
    if (out / name).is_symlink() or not (out / name).is_file():
        return False
    return name in ("overlay.mp4", "labels.json", UNFINISHED) or bool(re.fullmatch(r"masks/\d{5,}\.png", name))


def _video_of(record: Path) -> Path | None:
    """The video that a labels.json or unfinished.json says it is of; None where it is somebody else's."""
    try:
        document = read_json(record)
        is_ours = record.name == UNFINISHED or {"first_mask", "ids", "frames", "protocol"} <= document.keys()
        return Path(document["video"]).resolve() if is_ours else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _first_mask(path: str | Path, reader: Reader) -> Tensor:
    """Read the first mask and compare it with the video."""
    mask, info = read_mask(path), reader.info
    if tuple(mask.shape) != (info.height, info.width):
        turned = f" after turning it by {info.rotation_degrees} degrees" if info.rotation_degrees else ""
        raise ValueError(
            f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, the frames of {info.path} are "
            f"{info.width}x{info.height}{turned}; draw the mask on the first frame as players show it"
        )
    if mask.unique().tolist() in ([0, VOID], [VOID]):
        logger.info("%s has the values 0 and %d: one object, id 1", path, VOID)
        return (mask == VOID).to(torch.uint8)
    check_object_ids(mask, path=path)
    num_void = int((mask == VOID).sum())
    mask = mask.masked_fill(mask == VOID, 0)
    ids = [number for number in mask.unique().tolist() if number]
    if not ids:
        raise ValueError(
            f"{path} holds no object: all pixels are 0; give the pixels of objects the values 1, 2, ..."
        )
    logger.info(
        "%s: %d object%s, %s%s",
        path,
        len(ids),
        "s" if len(ids) > 1 else "",
        listed_ids(ids),
        f"; {num_void} pixels of {VOID} are void, which is background" if num_void else "",
    )
    return mask


def _frames(reader: Reader) -> Iterator[Tensor]:
    """All frames of a video, uint8 (3, H, W), a few decoded at a time."""
    for chunk in torch.from_numpy(reader.info.pts_seconds).split(_CHUNK_FRAMES):
        yield from reader.frames(chunk.tolist()).video


def _noted(frames: Iterable[Tensor], shown: deque[Tensor]) -> Iterator[Tensor]:
    """Hand frames on, and keep them for the overlay."""
    for frame in frames:
        shown.append(frame)
        yield frame
