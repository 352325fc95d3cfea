"""The pickles of TAP-Vid are read without running anything in them."""

import importlib.util
import io
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from vidssl.data.published.points import tapvid_sequences

SCRIPT = Path(__file__).resolve().parents[1] / "datasets/prepare_tapvid.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_tapvid_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def example(seed=0):
    generator = np.random.default_rng(seed)
    return {
        "points": generator.random((2, 3, 2), dtype=np.float32),
        "occluded": generator.random((2, 3)) < 0.5,
        "video": generator.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8),
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_dictionary_of_videos_arrives_bit_by_bit_from_every_pickle_protocol(script, tmp_path, protocol):
    content = {"cows": example(0), "goat-2": example(1)}
    content["cows"]["points"] = np.asfortranarray(content["cows"]["points"].astype(">f8"))
    (tmp_path / "davis.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    script.main(tmp_path / "davis.pkl", tmp_path / "out")
    sequences = tapvid_sequences(tmp_path / "out")
    assert [one.name for one in sequences] == ["cows", "goat-2"]
    for one in sequences:
        expected = content[one.name]
        np.testing.assert_array_equal(one.points, expected["points"])
        np.testing.assert_array_equal(one.occluded, expected["occluded"])
        frames = np.stack([frame.permute(1, 2, 0).numpy() for frame in one.frames()])
        np.testing.assert_array_equal(frames, expected["video"])


def test_a_list_of_videos_of_jpeg_files_as_of_kinetics_keeps_the_files(script, tmp_path):
    files = []
    for value in (10, 200, 30):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 4), (value, 0, 0)).save(buffer, format="JPEG", quality=100)
        files.append(buffer.getvalue())
    # generate_tapvid.py stores an array of byte strings, as long as the longest
    (tmp_path / "0000_of_0010.pkl").write_bytes(pickle.dumps([example() | {"video": np.array(files)}]))
    script.main(tmp_path / "0000_of_0010.pkl", tmp_path / "out")
    (one,) = tapvid_sequences(tmp_path / "out")
    assert one.name == "00000" and [path.read_bytes() for path in one.frame_paths] == files
    assert [int(frame[0].float().mean().round()) for frame in one.frames()] == [10, 200, 30]


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wanted", ["posix.system", "builtins.eval", "numpy.load", "functools.partial"])
def test_a_hostile_pickle_runs_nothing(script, tmp_path, wanted, protocol):
    import functools

    sprung = tmp_path / "sprung"
    traps = {
        "posix.system": Call(os.system, f"touch {sprung}"),
        "builtins.eval": Call(eval, f"open({str(sprung)!r}, 'w')"),
        "numpy.load": Call(np.load, str(sprung)),
        "functools.partial": Call(functools.partial, os.system, f"touch {sprung}"),
    }
    path = tmp_path / "trap.pkl"
    path.write_bytes(pickle.dumps({"cows": example() | {"more": traps[wanted]}}, protocol=protocol))
    with pytest.raises(ValueError, match=r"trap.pkl is not read: it wants .*nothing was run"):
        script.main(path, tmp_path / "out")
    assert not sprung.exists() and not (tmp_path / "out").exists()


def test_the_trap_is_a_real_one(tmp_path):
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path / 'sprung'}")))  # noqa: S301
    assert (tmp_path / "sprung").exists()


def test_names_inside_allowed_modules_are_refused_too(script, tmp_path):
    # A dotted name would reach os through an allowed module.
    path = tmp_path / "trap.pkl"
    for module, name in (
        ("numpy", "os.system"),
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "lookup"),
        ("os", "dtype"),
    ):
        path.write_bytes(
            b"\x80\x04" + pickle.SHORT_BINUNICODE + bytes([len(module)]) + module.encode()
            + pickle.SHORT_BINUNICODE + bytes([len(name)]) + name.encode() + pickle.STACK_GLOBAL + b"."
        )  # fmt: skip
        with pytest.raises(ValueError, match="nothing was run"):
            script.read_pickle(path)


def test_arrays_of_objects_and_broken_files_are_refused(script, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"cows": {"points": np.array([{}], dtype=object)}}))
    with pytest.raises(ValueError, match=r"a.pkl is not read: an array of type 'O8'"):
        script.read_pickle(path)
    path.write_bytes(pickle.dumps({"cows": example()})[:200])
    with pytest.raises(ValueError, match=r"a.pkl is not read"):
        script.read_pickle(path)
    path.write_bytes(pickle.dumps({"../cows": example()}))
    with pytest.raises(ValueError, match=r"'../cows' cannot give a file its name"):
        script.main(path, tmp_path / "out")
    path.write_bytes(pickle.dumps({"cows": {"points": np.zeros((1, 1, 2))}}))
    with pytest.raises(ValueError, match="the video cows has no occluded, video"):
        script.main(path, tmp_path / "out")


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 0, 0)).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda one: {"points": one["points"] * 250 + 3},
            r"places of visible points go from \S+ to \d{2,3}\S*, and \d of \d lie outside .* from 0 to 1 \(pixels are",
        ),
        (
            lambda one: {"points": one["points"] * 2 - 1},
            r"places of visible points go from -\S+ to \S+, and 4 of 6 lie outside the frame",
        ),
        (lambda one: {"points": one["points"] * np.nan}, "visible points have places that are no numbers"),
        (lambda one: {"points": one["points"][:, :2]}, r"has points \(2, 2, 2\) and occluded \(2, 3\)"),
        (
            lambda one: {"video": one["video"] / np.float32(255)},
            r"is float32 \(3, 4, 6, 3\) with values from 0\S* to 1; expected uint8 \(3, H, W, 3\), values from 0",
        ),
        (
            lambda one: {"video": one["video"].astype(np.int64)},
            r"is int64 \(3, 4, 6, 3\) with values from \d+ to \d+;",
        ),
        (lambda one: {"video": one["video"].transpose(0, 3, 1, 2)}, r"is uint8 \(3, 3, 4, 6\) .*; expected uint8"),
        (lambda one: {"video": list(one["video"])}, "frame 0 is ndarray; expected a JPEG file"),
        (
            lambda one: {"video": [jpeg(), jpeg(), b"GIF89a"]},
            "frame 2 is bytes that start with b'GIF8'; expected a JPEG",
        ),
        (lambda one: {"video": [jpeg()] * 2}, "has 2 frames, points of 3"),
    ],
)
def test_case_17_what_is_no_track_of_a_video_is_refused_with_both_ranges(script, tmp_path, change, message):
    one = example() | {"occluded": np.zeros((2, 3), bool)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"cows": example(1), "goat": one | change(one)}))
    with pytest.raises(ValueError, match=rf"a\.pkl: the video goat:? {message}"):
        script.main(tmp_path / "a.pkl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hidden_points_may_be_anywhere_and_a_few_visible_ones_outside_are_said(script, tmp_path, capsys):
    one = example() | {"points": np.full((4, 3, 2), 0.5), "occluded": np.zeros((4, 3), bool)}
    one["points"][0, 0] = 400
    one["occluded"][0, 0] = True
    one["points"][1, 1, 0] = 1.01
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"cows": one}))
    script.main(tmp_path / "a.pkl", tmp_path / "out")
    assert "the video cows: 1 visible points lie outside the frame; they are kept" in capsys.readouterr().out
    assert tapvid_sequences(tmp_path / "out")[0].points[1, 1, 0] == 1.01
