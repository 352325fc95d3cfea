"""Reading data in the layout of DAVIS, on small trees made here and on real sequences."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from vidssl.data.published.benchmarks import davis_palette, davis_sequences, read_frame, read_mask

# First 22 colours and two greys, read from the palette of a published annotation file of DAVIS 2017.
PUBLISHED = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (191, 0, 0), (64, 128, 0), (191, 128, 0), (64, 0, 128), (191, 0, 128), (64, 128, 128),
    (191, 128, 128), (0, 64, 0), (128, 64, 0), (0, 191, 0), (128, 191, 0), (0, 64, 128), (128, 64, 128),
    (22, 22, 22), (23, 23, 23),
]  # fmt: skip


def write_tree(root, sequences, *, listed=None, size=(6, 8), year="2017"):
    """A small data set: frame t of every sequence is of grey 10 t, its mask has id 1 in column t."""
    for name, num_frames in sequences.items():
        for top in ("JPEGImages", "Annotations"):
            (root / top / "480p" / name).mkdir(parents=True)
        for number in range(num_frames):
            frame = np.full((*size, 3), 10 * number, dtype=np.uint8)
            Image.fromarray(frame).save(root / f"JPEGImages/480p/{name}/{number:05d}.jpg")
            mask = np.zeros(size, dtype=np.uint8)
            mask[:, number] = 1
            image = Image.fromarray(mask)
            image.putpalette(davis_palette().tobytes())
            image.save(root / f"Annotations/480p/{name}/{number:05d}.png")
    if listed is not None:
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text(listed)
    return root


def test_listed_sequences_are_read_in_order_with_frames_and_masks(tmp_path):
    # Blank lines, Windows line ends, and no newline at the end, which made an official converter drop a letter.
    root = write_tree(tmp_path, {"cat": 3, "bird": 4, "ant": 1}, listed="cat\r\n\n  bird")
    cat, bird = davis_sequences(root)
    assert (cat.name, len(cat), bird.name, len(bird)) == ("cat", 3, "bird", 4)
    assert bird.scored(1) == [1, 2]
    frames = list(cat.frames())
    assert [tuple(frame.shape) for frame in frames] == [(3, 6, 8)] * 3
    assert [int(frame.median()) for frame in frames] == [0, 10, 20]
    assert all(frame.dtype == torch.uint8 for frame in frames)
    for number in range(3):
        assert cat.mask(number).nonzero()[:, 1].tolist() == [number] * 6


def test_frames_are_read_lazily(tmp_path):
    root = write_tree(tmp_path, {"cat": 3})
    frames = davis_sequences(root)[0].frames()
    next(frames)
    (root / "JPEGImages/480p/cat/00001.jpg").write_bytes(b"broken now")
    with pytest.raises(ValueError, match=r"00001\.jpg: is no readable image"):
        next(frames)


def test_all_sequences_are_taken_where_there_are_no_lists(tmp_path):
    write_tree(tmp_path, {"cat": 2, "bird": 2})
    (tmp_path / "JPEGImages/480p/.hidden").mkdir()
    (tmp_path / "JPEGImages/480p/cat/._00000.jpg").write_bytes(b"macOS leaves such files in archives")
    assert [(sequence.name, len(sequence)) for sequence in davis_sequences(tmp_path)] == [("bird", 2), ("cat", 2)]


def test_names_select_sequences_in_their_order(tmp_path):
    write_tree(tmp_path, {"cat": 2, "bird": 2, "ant": 2}, listed="cat\n")
    assert [sequence.name for sequence in davis_sequences(tmp_path, names=["bird", "ant"])] == ["bird", "ant"]


def test_frames_without_padded_numbers_are_in_the_order_of_their_numbers(tmp_path):
    root = write_tree(tmp_path, {"cat": 4})
    for old, new in [(0, 9), (1, 10), (2, 100), (3, 101)]:
        for path in [root / f"JPEGImages/480p/cat/{old:05d}.jpg", root / f"Annotations/480p/cat/{old:05d}.png"]:
            path.rename(path.with_name(f"{new}{path.suffix}"))
    (sequence,) = davis_sequences(root)
    assert [path.stem for path in sequence.frame_paths] == ["9", "10", "100", "101"]
    assert sequence.mask(2).nonzero()[0].tolist() == [0, 2]


def test_frames_that_lack_annotation_are_not_scored(tmp_path):
    root = write_tree(tmp_path, {"cat": 6})
    for number in (1, 4):
        (root / f"Annotations/480p/cat/{number:05d}.png").unlink()
    (sequence,) = davis_sequences(root)
    assert len(sequence) == 6
    assert sequence.scored(1) == [2, 3]  # of 0, 2, 3, 5 the first and the last are left out
    with pytest.raises(ValueError, match=r"cat: frame 00004\.jpg has no annotation"):
        sequence.mask(4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "JPEGImages").rename(root / "images"), "JPEGImages/480p is not a folder; expected"),
        (lambda root: (root / "Annotations").rename(root / "masks"), "Annotations/480p is not a folder; expected"),
        (lambda root: (root / "ImageSets/2017/val.txt").write_text("blackswann\n"), "perhaps blackswan"),
        (lambda root: (root / "ImageSets/2017/val.txt").write_text("\n"), "no sequence was asked for"),
        (lambda root: (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/v"), "its folder has v"),
        (lambda root: (root / "Annotations/480p/blackswan/00000.png").unlink(), "00000.png is missing; the first"),
        (lambda root: (root / "JPEGImages/480p/blackswan/00002.jpg").unlink(), "00002.png has no frame"),
        (
            lambda root: Image.new("L", (7, 6)).save(root / "Annotations/480p/blackswan/00000.png"),
            "00000.png is 7x6 pixels, its frame",
        ),
        (
            lambda root: (root / "Annotations/480p/blackswan/00000.png").write_bytes(b"\x89PNG\r\n\x1a\nno"),
            "00000.png: is no readable image",
        ),
    ],
)
def test_what_is_wrong_with_the_data_is_said(tmp_path, damage, message):
    damage(write_tree(tmp_path, {"blackswan": 3}, listed="blackswan"))
    with pytest.raises(ValueError, match=re.escape(message)):
        davis_sequences(tmp_path)


def test_a_frame_of_another_size_is_named(tmp_path):
    root = write_tree(tmp_path, {"cat": 3})
    Image.new("RGB", (9, 6)).save(root / "JPEGImages/480p/cat/00002.jpg")
    (sequence,) = davis_sequences(root)
    with pytest.raises(ValueError, match=r"00002\.jpg is 9x6 pixels, the first frame 00000\.jpg 8x6"):
        list(sequence.frames())
    with pytest.raises(ValueError, match=r"00002\.png is 8x6 pixels, its frame .*00002\.jpg 9x6"):
        sequence.mask(2)


def test_void_pixels_are_background(tmp_path):
    root = write_tree(tmp_path, {"cat": 3})
    void = np.full((6, 8), 255, dtype=np.uint8)
    Image.fromarray(void).save(root / "Annotations/480p/cat/00001.png")
    (sequence,) = davis_sequences(root)
    assert sequence.mask(1).max() == 0
    void[0, :3] = [1, 4, 0]
    Image.fromarray(void).save(root / "Annotations/480p/cat/00000.png")
    (sequence,) = davis_sequences(root)
    assert sequence.num_objects == 4
    Image.fromarray(np.full_like(void, 255)).save(root / "Annotations/480p/cat/00000.png")
    with pytest.raises(ValueError, match=r"00000\.png holds no object: .* \(255 is void\)"):
        davis_sequences(root)


def test_palette_is_that_of_the_published_files():
    palette = davis_palette()
    assert [tuple(colour) for colour in palette[:24].tolist()] == PUBLISHED
    assert palette[255].tolist() == [255, 255, 255]


def test_ids_survive_every_way_to_store_them(tmp_path):
    ids = np.array([[0, 1, 2], [3, 21, 9]], dtype=np.uint8)
    images = {"grey": Image.fromarray(ids), "indexed": Image.fromarray(ids)}
    images["indexed"].putpalette(davis_palette().tobytes())
    images["rgb"] = images["indexed"].convert("RGB")
    images["rgba"] = images["indexed"].convert("RGBA")
    voc = davis_palette()[ids]
    images["voc"] = Image.fromarray(np.where(voc == 191, 192, voc).astype(np.uint8))
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
        assert read_mask(tmp_path / f"{name}.png").tolist() == ids.tolist(), name


def test_one_bit_masks_are_object_one(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert read_mask(tmp_path / "bit.png").tolist() == [[1, 0]]


def test_masks_that_hold_no_ids_are_refused(tmp_path):
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"photo\.png is an RGB image with the colour #010203"):
        read_mask(tmp_path / "photo.png")
    Image.fromarray(np.full((2, 2), 300, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has I;16 pixels"):
        read_mask(tmp_path / "deep.png")


def test_real_sequences_have_the_published_sizes_and_objects(shared):
    sequences = {sequence.name: sequence for sequence in davis_sequences(shared / "data/davis")}
    assert {name: len(sequence) for name, sequence in sequences.items()} == {
        "blackswan": 50, "car-shadow": 40, "motocross-jump": 40, "synth2-swan-car": 30
    }  # fmt: skip
    swan = sequences["synth2-swan-car"]
    assert swan.mask(0).unique().tolist() == [0, 1, 2]
    assert read_frame(swan.frame_paths[0]).shape == (3, 480, 854)
    (mask_file,) = [path for path in swan.annotation_paths if path.stem == "00003"]
    with Image.open(mask_file) as image:
        assert np.array(image.getpalette()).reshape(-1, 3).tolist() == davis_palette().tolist()
