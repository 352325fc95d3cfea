"""Annotations whose values, types or texts cannot be: refused or said, and the file is named."""

import logging
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy import ndimage
from tiny_davis import write_davis
from tiny_jhmdb import moving_noise, write_jhmdb
from tiny_vip import moving_parts, write_vip

from vidssl.data.published.benchmarks import davis_sequences, youtubevos_sequences
from vidssl.data.published.later_masks import check_later_masks
from vidssl.data.published.masks import read_mask
from vidssl.data.published.parts import vip_sequences
from vidssl.data.published.points import tapvid_sequences
from vidssl.data.published.poses import jhmdb_sequences
from vidssl.data.published.tracks import got10k_sequences, otb_sequences
from vidssl.evaluate.propagation.vip import look_at_classes


@pytest.fixture(autouse=True)
def _warnings(caplog):
    logging.getLogger("vidssl").setLevel(logging.INFO)


def square(value: int, *, left: int = 8) -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[24:40, left : left + 16] = value
    return mask


def soft(value: int = 255) -> np.ndarray:
    return ndimage.gaussian_filter(square(value).astype(float), 1.5).round().astype(np.uint8)


def save(root, masks, *, folder="Annotations/480p/a"):
    for number, mask in masks.items():
        Image.fromarray(mask).save(root / folder / f"{number:05d}.png")


# -- masks


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("mask.webp", {"quality": 60}, "lossy WebP"),
        ("mask.png", {"format": "WEBP", "quality": 90, "exif": Image.Exif()}, "lossy WebP"),
        ("mask.tif", {"compression": "jpeg"}, "TIFF in jpeg compression"),
    ],
)
def test_case_15_masks_of_lossy_files_are_refused(tmp_path, name, options, kind) -> None:
    image = Image.fromarray(square(1) + square(1, left=16))
    image.convert("RGB" if "quality" in options else "L").save(tmp_path / name, **options)
    with pytest.raises(ValueError, match=rf"{name} is a {kind}, which does not keep values"):
        read_mask(tmp_path / name)
    Image.fromarray(square(2)).convert("RGB").save(tmp_path / "kept.webp", lossless=True)
    assert read_mask(tmp_path / "kept.webp").unique().tolist() == [0, 2]


def test_case_15_soft_masks_behind_the_first_are_refused(tmp_path) -> None:
    root = write_davis(tmp_path, {"a": 2})
    save(root, {3: soft()})
    (sequence,) = davis_sequences(root)
    with pytest.raises(ValueError, match=r"00003\.png has \d+ values besides 0"):
        check_later_masks(sequence)


def test_case_13_ids_that_only_later_masks_have_and_objects_that_never_return_are_said(tmp_path, caplog) -> None:
    root = write_davis(tmp_path, {"a": 2})
    save(root, {number: square(9) for number in (1, 2, 3, 4)})
    check_later_masks(davis_sequences(root)[0])
    assert "a: later masks have the ids 9, which the first has not: not counted" in caplog.text
    assert "a: no later mask shows the objects 1" in caplog.text
    caplog.clear()
    check_later_masks(davis_sequences(write_davis(tmp_path / "sound", {"a": 2}))[0])
    assert "later mask" not in caplog.text


def test_case_15_davis2016_says_that_all_of_a_soft_edge_counts(tmp_path, caplog) -> None:
    root = write_davis(tmp_path, {"a": 2})
    save(root, {0: soft()})
    davis_sequences(root, year=2016)
    assert "soft (anti-aliased) edges" in caplog.text and "all values above 0 count as the object" in caplog.text


def youtubevos(tmp_path, masks):
    root = write_davis(tmp_path / "davis", {"a": 2})
    (tmp_path / "valid/Annotations/a").mkdir(parents=True)
    (root / "JPEGImages/480p").rename(tmp_path / "valid/JPEGImages")
    save(tmp_path / "valid", masks, folder="Annotations/a")
    return tmp_path / "valid"


def test_case_15_soft_objects_that_join_later_are_refused(tmp_path) -> None:
    root = youtubevos(tmp_path, {0: square(1), 2: soft(), 4: soft()})
    with pytest.raises(ValueError, match=r"a/00002\.png has \d+ values besides 0"):
        youtubevos_sequences(root)


def test_categories_that_are_no_texts_are_one_line(tmp_path) -> None:
    root = youtubevos(tmp_path, {0: square(1), 4: square(1)})
    for folder in (root, tmp_path / "train"):
        folder.mkdir(exist_ok=True)
        (folder / "meta.json").write_text('{"videos": {"a": {"objects": {"1": {"category": ["cat"]}}}}}')
    with pytest.raises(ValueError, match=r"meta\.json is no meta\.json of YouTube-VOS: .*expected a text"):
        youtubevos_sequences(root)


def test_case_15_vip_says_where_edges_are_soft_and_where_nothing_is_carried(tmp_path, caplog) -> None:
    frames, masks = moving_parts()
    blurred = [ndimage.gaussian_filter(mask.astype(float), 1).round().astype(np.uint8) for mask in masks]
    void = [np.where(mask > 0, 255, 0).astype(np.uint8) for mask in masks]
    videos = {"hard": (frames, masks), "blurred": (frames, [masks[0], *blurred[1:]]), "void": (frames, void)}
    for sequence in vip_sequences(write_vip(tmp_path, videos)):
        caplog.clear()
        look_at_classes(sequence, num_classes=20)
        said = {"hard": "", "blurred": "000000000026.png has", "void": "no class but the background and 255"}
        assert said[sequence.name] in caplog.text and bool(caplog.records) == bool(said[sequence.name])
    write_vip(tmp_path / "later", {"v": (frames, [*masks[:3], masks[3] * 10])})
    with pytest.raises(ValueError, match=r"000000000076\.png has the class 170"):
        look_at_classes(vip_sequences(tmp_path / "later")[0], num_classes=20)


# -- points


def tracks(path, **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "points": generator.random((4, 6, 2)),
        "occluded": np.zeros((4, 6), bool),
        "video": np.zeros((6, 8, 8, 3), np.uint8),
    }
    path.mkdir(exist_ok=True)
    np.savez_compressed(path / "a.npz", **(arrays | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"occluded": np.full((4, 6), 0.3)}, "occluded is float64 with values from 0.3 to 0.3, expected True"),
        ({"occluded": np.full((4, 6), -1)}, "occluded is int64 with values from -1 to -1"),
        ({"occluded": np.full((4, 6), "False")}, "occluded is <U5, expected True"),
        ({"points": np.full((4, 6, 2), "0.5")}, "points are of type <U3, expected numbers"),
        ({"points": np.full((4, 6, 2), 0.5j)}, "points are of type complex128"),
        ({"video": np.zeros((6, 0, 8, 3), np.uint8)}, r"video is uint8 \(6, 0, 8, 3\)"),
    ],
)
def test_case_17_types_that_cannot_be_are_refused(tmp_path, changes, message) -> None:
    with pytest.raises(ValueError, match=rf"a\.npz: {message}"):
        tapvid_sequences(tracks(tmp_path / "data", **changes))
    whole = tracks(tmp_path / "data", occluded=np.zeros((4, 6), np.float32))
    assert not tapvid_sequences(whole)[0].occluded.any()


def test_case_17_damaged_files_of_arrays_are_one_line(tmp_path) -> None:
    path = tracks(tmp_path / "data") / "a.npz"
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as an \.npz file of plain arrays: Error -3"):
        tapvid_sequences(path.parent)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz .*it is a single array"):
        tapvid_sequences(path.parent)
    tracks(path.parent)
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in ("points.npy", "occluded.npy")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in (kept | {"video.npy": b"no array"}).items():
            archive.writestr(name, member)
    with pytest.raises(ValueError, match=r"a\.npz: video cannot be read as an array"):
        tapvid_sequences(path.parent)


@pytest.mark.parametrize("first_pixel", [0, 1])
@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_case_17_joints_that_are_shares_are_refused(tmp_path, lowest, first_pixel) -> None:
    joints = np.random.default_rng(0).uniform(lowest, 1, (5, 15, 2)) - 1 + first_pixel
    root = write_jhmdb(tmp_path, {"run/v": (moving_noise(), joints)})
    with pytest.raises(
        ValueError, match=r"joint_positions\.mat: x goes from .* expected pixels of a frame of 192x128"
    ):
        jhmdb_sequences(root)


def test_joints_that_are_no_real_numbers_are_refused(tmp_path) -> None:
    root = write_jhmdb(tmp_path, {"run/v": (moving_noise(), np.full((5, 15, 2), 20.0))})
    path = root / "joint_positions/run/v/joint_positions.mat"
    scipy.io.savemat(path, {"pos_img": np.full((2, 15, 5), 20 + 1j)})
    with pytest.raises(ValueError, match=r"pos_img is of type complex128, expected numbers"):
        jhmdb_sequences(root)


# -- boxes and lists


def got10k(tmp_path, *, boxes="10,12,20,24\n" * 5, cover=None, listed="S\n"):
    folder = tmp_path / "val/S"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        Image.new("RGB", (96, 64)).save(folder / f"{number + 1:08d}.jpg")
    (folder / "groundtruth.txt").write_text(boxes)
    if cover is not None:
        (folder / "cover.label").write_text(cover)
    (tmp_path / "val/list.txt").write_bytes(listed.encode("latin1"))
    return tmp_path


def test_boxes_of_two_corners_are_said(tmp_path, caplog) -> None:
    got10k_sequences(got10k(tmp_path, boxes="50,30,80,60\n" * 5))
    assert "5 of 5 boxes lie outside the frame, wholly or by more than half of their area" in caplog.text
    caplog.clear()
    got10k_sequences(got10k(tmp_path, boxes="80,30,30,20\n" * 5))
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listed": "S\xe9\n"}, r"list\.txt is no text of UTF-8"),
        ({"listed": "\n"}, r"list\.txt is empty"),
        ({"listed": "../val/S\n"}, r"list\.txt lists '\.\./val/S', which is no name of a folder beside it"),
        ({"listed": "..\n"}, r"list\.txt lists '\.\.'"),
        ({"cover": "a\n" * 5}, r"cover\.label cannot be read as numbers"),
        ({"cover": "9\n" * 5}, r"cover\.label goes from 9 to 9; expected 0 to 8"),
        ({"cover": "nan\n" * 5}, r"cover\.label goes from nan to nan; expected 0 to 8"),
    ],
)
def test_texts_of_got10k_that_cannot_be_are_refused(tmp_path, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        got10k_sequences(got10k(tmp_path, **change))


def test_a_sequence_that_is_listed_twice_counts_once(tmp_path) -> None:
    assert len(got10k_sequences(got10k(tmp_path, listed="S\nS\n"))) == 1


def test_texts_of_otb_name_their_file_and_may_begin_with_a_mark(tmp_path) -> None:
    got10k(tmp_path)
    folder = tmp_path / "otb/David"
    folder.mkdir(parents=True)
    (tmp_path / "val/S").rename(folder / "img")
    truth = folder / "groundtruth_rect.txt"
    truth.write_text("10,12,20,24\n" * 5)
    with pytest.raises(ValueError, match=r"David/img holds no frame from 0300\.jpg to 0770\.jpg"):
        otb_sequences(tmp_path / "otb")
    folder.rename(tmp_path / "otb/Other")
    truth = tmp_path / "otb/Other/groundtruth_rect.txt"
    truth.write_text("\ufeff" + "10,12,20,24\n" * 5)
    assert otb_sequences(tmp_path / "otb")[0].boxes[0].tolist() == [9, 11, 20, 24]
    truth.write_bytes(("10,12,20,24\n" * 5).encode("utf-16"))
    assert otb_sequences(tmp_path / "otb")[0].boxes[0].tolist() == [9, 11, 20, 24]
    truth.write_bytes(b"\xe9" + b"10,12,20,24\n" * 5)
    with pytest.raises(ValueError, match=r"groundtruth_rect\.txt is no text of UTF-8"):
        otb_sequences(tmp_path / "otb")
