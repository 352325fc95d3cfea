"""Masks on disk, and the pictures and videos made of them."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidssl.evaluate.propagation.drawing.overlay import contact_sheet, evenly_spaced, overlay, write_video
from vidssl.evaluate.propagation.masks import davis_palette, read_mask, write_mask


def test_masks_are_indexed_files_with_the_palette_of_davis(tmp_path):
    mask = torch.arange(12, dtype=torch.uint8).reshape(3, 4).t()  # not contiguous
    write_mask(tmp_path / "new/00000.png", mask)
    with Image.open(tmp_path / "new/00000.png") as image:
        assert image.mode == "P"
        assert image.size == (3, 4)
        assert (
            np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)[:12].tolist()
            == davis_palette()[:12].tolist()
        )
        assert np.array(image).tolist() == mask.tolist()
    assert read_mask(tmp_path / "new/00000.png").tolist() == mask.tolist()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["00000.png"]


def test_all_ids_up_to_255_come_back(tmp_path):
    mask = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    write_mask(tmp_path / "all.png", mask)
    assert torch.equal(read_mask(tmp_path / "all.png"), mask)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_mask(tmp_path / "a.png", torch.ones(2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"uint8 \(H, W\), got torch.int64 of shape \(2, 2\)"):
        write_mask(tmp_path / "a.png", torch.zeros(2, 2, dtype=torch.int64))
    assert read_mask(tmp_path / "a.png").tolist() == [[1, 1], [1, 1]]


def test_overlay_blends_objects_and_draws_contours():
    frame = torch.full((3, 5, 6), 100, dtype=torch.uint8)
    mask = torch.zeros(5, 6, dtype=torch.uint8)
    mask[:, 3:] = 1
    drawn = overlay(frame, mask, alpha=0.25)
    assert drawn.dtype == torch.uint8
    assert (drawn[:, :, :3] == 100).all()
    # Object 1 is (128, 0, 0), a third brighter (170.67, 0, 0): on the contour as it is, inside at weight 1/4. The
    # border of the frame is no contour.
    assert drawn[:, :, 3].t().unique(dim=0).tolist() == [[171, 0, 0]]
    assert drawn[:, :, 4:].flatten(1).t().unique(dim=0).tolist() == [[118, 75, 75]]
    assert frame.unique().tolist() == [100]


def test_objects_that_touch_are_told_apart():
    mask = torch.tensor([[1, 1, 2, 2]], dtype=torch.uint8).expand(3, 4)
    drawn = overlay(torch.zeros(3, 3, 4, dtype=torch.uint8), mask)
    assert drawn[:2, 1].tolist() == [[85, 171, 0, 0], [0, 0, 171, 85]]


def ramp(num_frames, height, width):
    """Frames of one grey each, 40 levels apart."""
    return [torch.full((3, height, width), 20 + 40 * number, dtype=torch.uint8) for number in range(num_frames)]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_videos_play_in_browsers_and_keep_their_frames(tmp_path, height, width):
    path = tmp_path / "new/overlay.mp4"
    write_video(path, iter(ramp(5, height, width)), fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 12.5)
        assert (stream.height, stream.width) == (48, 64)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [int(np.median(picture)) for picture in pictures] == pytest.approx([20, 60, 100, 140, 180], abs=2)
    assert max(int(np.ptp(picture)) for picture in pictures) <= 4  # nothing is black where the size was made even
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert [file.name for file in path.parent.iterdir()] == ["overlay.mp4"]


def test_colours_of_a_video_are_those_of_its_frames(tmp_path):
    frame = torch.tensor([200, 60, 30], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    write_video(tmp_path / "a.mp4", [frame] * 3, fps=24)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)  # BT.709, limited
        picture = next(container.decode(stream)).to_ndarray(format="rgb24")
    assert picture.reshape(-1, 3).mean(0).tolist() == pytest.approx([200, 60, 30], abs=4)


def test_videos_need_frames_of_one_size(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mp4: there is no frame to write"):
        write_video(tmp_path / "a.mp4", [], fps=24)
    with pytest.raises(ValueError, match="a frame is 64x32 pixels, the first 64x48"):
        write_video(tmp_path / "a.mp4", [*ramp(1, 48, 64), *ramp(1, 32, 64)], fps=24)
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet_shows_truth_above_prediction():
    frames = ramp(3, 20, 40)
    mask = torch.ones(20, 40, dtype=torch.uint8)
    empty = torch.zeros(20, 40, dtype=torch.uint8)
    sheet = np.array(
        contact_sheet(frames, truths=[mask, None, empty], predictions=[empty, mask, mask], column_width_px=80)
    )
    assert sheet.shape == (2 * 40 + 4, 3 * 80 + 2 * 4, 3)

    def middle(row, column):
        return sheet[row * 44 + 30, column * 84 + 40].tolist()

    # Half of the frame's grey plus half of object 1, (170.67, 0, 0).
    assert [middle(0, column) for column in range(3)] == [[95, 10, 10], [60, 60, 60], [100, 100, 100]]
    assert [middle(1, column) for column in range(3)] == [[20, 20, 20], [115, 30, 30], [135, 50, 50]]


def test_frames_of_a_sheet_are_spread_from_first_to_last():
    assert evenly_spaced(50, count=6) == [0, 10, 20, 29, 39, 49]
    assert evenly_spaced(3, count=6) == [0, 1, 2]
    assert evenly_spaced(1, count=6) == [0]
