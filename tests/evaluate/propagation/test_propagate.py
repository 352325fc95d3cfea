"""Label propagation against slow dense code that follows each protocol literally."""

import dataclasses
import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vidssl.evaluate.propagation.affinity import propagate
from vidssl.evaluate.propagation.frames import (
    color_statistics,
    labels_from_mask,
    opencv_bilinear,
    prepare_frame,
    resized_size,
    upsampled,
)
from vidssl.evaluate.propagation.propagate import identity_masks, propagate_labels, propagate_masks
from vidssl.evaluate.propagation.protocols import CRW, DINO, DINOV3, PROTOCOLS, SIAMMAE, VFS
from vidssl.models import Encoder, ResNet

HEIGHT, WIDTH, DIM, LABELS = 6, 9, 5, 3


# The protocols as their authors wrote them: dense, cell by cell, frame lists spelled out. Features are
# (T, D, h, w), normalised; labels (L, h, w) of frame 0; the answer is the list of labels of every frame.


GIVEN = -1  # number of the first frame with its given labels, where these are not those it is put out with


def dense(features, first_labels, *, context, allowed, pick, is_first_predicted=False):
    """Run a protocol: `context(t)` lists (frame, is windowed), `pick` turns scores into weights."""
    height, width = features.shape[2:]
    cells = list(itertools.product(range(height), range(width)))
    similarity = torch.einsum("tdyx, sdvu -> tyxsvu", features, features).tolist()
    labels = {GIVEN: first_labels} if is_first_predicted else {0: first_labels}
    for target in range(len(labels) - is_first_predicted, len(features)):
        result = torch.zeros_like(first_labels)
        for query in cells:
            entries = [
                (similarity[target][query[0]][query[1]][max(0, source)][key[0]][key[1]], source, key)
                for source, is_windowed in context(target)
                for key in cells
                if not is_windowed or allowed(query, key)
            ]
            weights = pick([score for score, _, _ in entries])
            for weight, (_, source, key) in zip(weights, entries, strict=True):
                result[:, query[0], query[1]] += weight * labels[source][:, key[0], key[1]]
        labels[target] = result
    return [labels[number] for number in range(len(features))]


def kth_largest(scores, k):
    return sorted(scores, reverse=True)[min(k, len(scores)) - 1]


def exp_then_divide(scores, k, temperature):
    """DINO: exp(s / T), what is below the k-th goes to zero, divide by the sum."""
    exponentials = [math.exp(score / temperature) for score in scores]
    limit = kth_largest(exponentials, k)
    kept = [value if value >= limit else 0.0 for value in exponentials]
    return [value / sum(kept) for value in kept]


def softmax_of_topk(scores, k, temperature):
    """CRW, VFS: softmax over exactly k entries; of equal ones the earlier."""
    chosen = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    kept = {i: math.exp(scores[i] / temperature) for i in chosen}
    return [kept.get(i, 0.0) / sum(kept.values()) for i in range(len(scores))]


def oracle(protocol, features, first_labels, radius, recent, k):
    temperature = {"dino": 0.1, "crw": 0.05, "vfs": 0.07, "dinov3": 0.2, "siammae": 0.7}[protocol.name]
    if protocol.name == "dino":
        return dense(
            features,
            first_labels,
            context=lambda t: [(0, True)] + [(i, True) for i in range(max(1, t - recent), t)],
            allowed=lambda q, p: abs(q[0] - p[0]) <= radius and abs(q[1] - p[1]) <= radius,
            pick=lambda scores: exp_then_divide(scores, k, temperature),
        )
    if protocol.name == "dinov3":
        return dense(
            features,
            first_labels,
            context=lambda t: [(0, True)] + [(i, True) for i in range(max(1, t - recent), t)],
            allowed=lambda q, p: math.dist(q, p) <= radius,
            pick=lambda scores: exp_then_divide(scores, k, temperature),
        )
    if protocol.name == "vfs":
        return dense(
            features,
            first_labels,
            context=lambda t: [(0, True)] + [(i, True) for i in range(max(0, t - recent), t)],
            allowed=lambda q, p: math.dist(q, p) < radius,
            pick=lambda scores: softmax_of_topk(scores, k, temperature),
        )
    if protocol.name == "siammae":
        return dense(
            features,
            first_labels,
            # The queue begins as copies of frame 0; from then on predictions enter, that of frame 0 first.
            context=lambda t: [(GIVEN, False)] + [(max(GIVEN, i), True) for i in range(t - recent, t)],
            allowed=lambda q, p: math.dist(q, p) < radius,
            pick=lambda scores: softmax_of_topk(scores, k, temperature),
            is_first_predicted=True,
        )
    return dense(
        features,
        first_labels,
        # The video is padded in front with copies of frame 0.
        context=lambda t: [(0, False)] + [(max(0, i), True) for i in range(t - recent, t)],
        allowed=lambda q, p: math.dist(q, p) < radius,
        pick=lambda scores: softmax_of_topk(scores, k, temperature),
    )


class Given(Encoder):
    """Plays back features (T, D, h, w), a frame at a time; pixels say which frame."""

    def __init__(self, features, stride=8):
        super().__init__(dim=features.shape[1], stride=stride, mean=(0.0,) * 3, std=(1.0,) * 3, architecture={})
        self.given, self.num_seen = features, 0
        self.eval()

    def features(self, clip):
        number = int((clip[0, 0, 0, 0, 0] * 255).round())
        self.num_seen = number + 1
        return self.given[number][None, None]


def numbered_frames(count, height, width):
    return [torch.full((3, height, width), number, dtype=torch.uint8) for number in range(count)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("radius", [2, 2.3])
def test_protocols_equal_their_dense_form(protocol, radius):
    features = F.normalize(torch.randn(7, DIM, HEIGHT, WIDTH), dim=1)
    first_labels = torch.rand(LABELS, HEIGHT, WIDTH)
    protocol = dataclasses.replace(
        protocol, radius_cells=radius, num_recent_frames=3, topk=4, short_side=None, frame_size=None
    )
    expected = oracle(protocol, features.double(), first_labels.double(), radius, recent=3, k=4)
    frames = numbered_frames(7, 8 * HEIGHT, 8 * WIDTH)
    results = list(propagate_labels(Given(features), frames, lambda *_: first_labels, protocol=protocol))
    assert len(results) == 7
    for result, right in zip(results, expected, strict=True):
        torch.testing.assert_close(result.double(), right, atol=2e-6, rtol=0)


@pytest.mark.parametrize("repeats", ["padding", "while_recent", "never"])
def test_a_predicted_first_frame_is_put_out_and_copied_from(repeats):
    """With one recent frame, no window and top-4, a cell of frame 0 copies from several others: its prediction is not
    what was given, and is what frame 1 finds in the queue. Cells stand there twice, so none is tied at the border."""
    features = F.normalize(torch.randn(4, DIM, HEIGHT, WIDTH), dim=1)
    first_labels = torch.rand(LABELS, HEIGHT, WIDTH)
    protocol = dataclasses.replace(
        SIAMMAE, radius_cells=None, num_recent_frames=1, topk=4, frame_size=None, first_frame_repeats=repeats
    )
    expected = dense(
        features.double(),
        first_labels.double(),
        # The recent frame of frame 0 is a copy of itself where there is padding.
        context=lambda t: [(GIVEN, False)] + ([(t - 1, True)] if t or repeats == "padding" else []),
        allowed=lambda q, p: True,
        pick=lambda scores: softmax_of_topk(scores, 4, 0.7),
        is_first_predicted=True,
    )
    frames = numbered_frames(4, 8 * HEIGHT, 8 * WIDTH)
    found, as_given = (
        list(propagate_labels(Given(features), frames, lambda *_: first_labels, protocol=one))
        for one in (protocol, dataclasses.replace(protocol, first_output="upsampled"))
    )
    for result, right in zip(found, expected, strict=True):
        torch.testing.assert_close(result.double(), right, atol=2e-6, rtol=0)
    assert torch.equal(as_given[0], first_labels)
    assert (found[0] - as_given[0]).abs().max() > 0.1
    assert (found[1] - as_given[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"topk": 5, "radius_cells": 3.0, "window": "square", "keep_ties": True},
        {"topk": 10, "radius_cells": 3.0, "window": "disc", "radius_inclusive": False, "copies": [0, 2, 1]}
        | {"first_key_free": True},
        {"topk": 3, "radius_cells": None},
        {"topk": 10_000, "radius_cells": 2.0, "keep_ties": True},
    ],
)
def test_the_cut_into_tiles_changes_nothing(options):
    features = F.normalize(torch.randn(4, DIM, 11, 14), dim=1)
    labels = torch.rand(3, LABELS, 11, 14)
    run = {
        tile: propagate(features[3], features[:3], labels, temperature=0.1, tile_cells=tile, **options)
        for tile in (1, 4, 5, 100)
    }
    for result in run.values():
        torch.testing.assert_close(result, run[100], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("window", "inclusive", "radius", "inside", "num_cells"),
    [
        ("square", True, 4, lambda dy, dx: abs(dy) <= 4 and abs(dx) <= 4, 81),
        ("square", False, 4, lambda dy, dx: abs(dy) < 4 and abs(dx) < 4, 49),
        ("disc", True, 4, lambda dy, dx: dy * dy + dx * dx <= 16, 49),
        ("disc", False, 4, lambda dy, dx: dy * dy + dx * dx < 16, 45),
        ("disc", True, 0, lambda dy, dx: dy == dx == 0, 1),
        ("disc", True, None, lambda dy, dx: True, 121),
    ],
)
def test_window_holds_exactly_these_cells(window, inclusive, radius, inside, num_cells):
    size = 11
    same = torch.ones(1, size, size)
    # A label per cell of the context: the weights themselves come out.
    labels = torch.eye(size * size).view(1, size * size, size, size)
    weights = propagate(
        same,
        same[None],
        labels,
        temperature=0.1,
        topk=size * size,
        radius_cells=radius,
        window=window,
        radius_inclusive=inclusive,
        tile_cells=4,
    )
    assert weights[:, 5, 5].count_nonzero() == num_cells
    for query in itertools.product(range(size), repeat=2):
        expected = torch.tensor(
            [[float(inside(y - query[0], x - query[1])) for x in range(size)] for y in range(size)]
        )
        found = weights[:, query[0], query[1]].view(size, size)
        torch.testing.assert_close(found, expected / expected.sum(), atol=1e-6, rtol=0)


def test_a_window_without_cells_is_refused():
    same = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match="radius 0 cells holds no cell"):
        propagate(same, same[None], same[None], temperature=1, topk=1, radius_cells=0, radius_inclusive=False)


def test_ties_are_kept_or_cut():
    # Five context cells; scores .9, .5, .5, .5, .1 for every query: the second place is tied three times.
    scores = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1])
    keys = torch.stack((scores, (1 - scores**2).sqrt())).view(1, 2, 1, 5)
    query = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 1, 5)
    labels = torch.eye(5).view(1, 5, 1, 5)
    kept = propagate(query, keys, labels, temperature=0.5, topk=2, keep_ties=True)[:, 0, 0]
    raw = (scores / 0.5).exp() * torch.tensor([1.0, 1, 1, 1, 0])
    torch.testing.assert_close(kept, raw / raw.sum())
    cut = propagate(query, keys, labels, temperature=0.5, topk=2, keep_ties=False)[:, 0, 0]
    assert (cut > 0).sum() == 2
    torch.testing.assert_close(cut[0], raw[0] / raw[:2].sum())
    # Two copies of the context: the best cell fills both places, nothing is tied.
    twice = propagate(query, keys, labels, temperature=0.5, topk=2, keep_ties=True, copies=[2])[:, 0, 0]
    torch.testing.assert_close(twice, torch.eye(5)[0])


def colored(positions, size=30):
    """Feature maps (T, 2, size, size): a 4x4 object with a feature of its own at each position, and its masks."""
    objects = torch.zeros(len(positions), size, size)
    for number, (top, left) in enumerate(positions):
        objects[number, top : top + 4, left : left + 4] = 1
    return torch.stack((1 - objects, objects), dim=1), objects


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_a_moving_square_is_followed_exactly(protocol):
    features, _ = colored([(2 + 2 * t, 3 + 3 * t) for t in range(8)])
    protocol = dataclasses.replace(protocol, short_side=None, frame_size=None)
    labels = propagate_labels(
        Given(features), numbered_frames(8, 240, 240), lambda *_: features[0], protocol=protocol
    )
    for number, label in enumerate(labels):
        torch.testing.assert_close(label, features[number])


def test_masks_of_a_moving_square_are_exact_where_cells_are_not_blended():
    features, objects = colored([(2 + 2 * t, 3 + 3 * t) for t in range(8)])
    protocol = dataclasses.replace(DINOV3, short_side=None)
    first_mask = (objects[0].repeat_interleave(8, 0).repeat_interleave(8, 1) * 200).to(torch.uint8)
    masks = list(propagate_masks(Given(features), numbered_frames(8, 240, 240), first_mask, protocol=protocol))
    assert len(masks) == 8
    for number, mask in enumerate(masks):
        assert mask.dtype == torch.uint8
        assert torch.equal(mask, (objects[number].repeat_interleave(8, 0).repeat_interleave(8, 1) * 200).byte())


@pytest.mark.parametrize(("protocol", "is_found"), [(CRW, True), (DINO, False), (VFS, False), (DINOV3, False)])
def test_only_crw_finds_what_left_the_window_of_the_first_frame(protocol, is_found):
    features, objects = colored([(2, 2), (2, 22)])
    protocol = dataclasses.replace(protocol, short_side=None)
    _, label = propagate_labels(
        Given(features), numbered_frames(2, 240, 240), lambda *_: features[0], protocol=protocol
    )
    assert float(label[1][objects[1] == 1].max() > 0.5) == is_found


def test_crw_pads_with_copies_of_the_first_frame():
    # One row of 40 cells. For the query at cell 20, cell 0 (outside the window) scores 1, cell 20 .9 and cell 21
    # .8. Top-10 of 1 free and 20 windowed copies: cell 0 once, cell 20 nine times.
    scores = torch.zeros(40)
    scores[0], scores[20], scores[21] = 1.0, 0.9, 0.8
    frame = torch.stack((scores, (1 - scores**2).sqrt())).view(2, 1, 40)
    query = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 1, 40)
    labels = torch.eye(40).view(40, 1, 40)
    features = torch.stack((frame, query))
    _, label = propagate_labels(Given(features), numbered_frames(2, 8, 320), lambda *_: labels, protocol=CRW)
    raw = torch.tensor([math.exp(1 / 0.05), 9 * math.exp(0.9 / 0.05)])
    torch.testing.assert_close(label[[0, 20], 0, 20], raw / raw.sum())
    assert label[21, 0, 20] == 0


def test_frames_are_read_as_masks_are_asked_for():
    encoder = Given(torch.randn(6, 4, 5, 5))
    masks = propagate_masks(
        encoder, iter(numbered_frames(6, 40, 40)), torch.zeros(40, 40, dtype=torch.uint8), protocol=CRW
    )
    next(masks)
    assert encoder.num_seen == 1
    next(masks)
    assert encoder.num_seen == 2


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_ids_with_gaps_survive(protocol):
    features = torch.eye(64).view(64, 8, 8).expand(3, 64, 8, 8)  # every cell knows its place
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[:32, :32], mask[32:, 32:] = 7, 201
    protocol = dataclasses.replace(protocol, short_side=None, frame_size=None, topk=1, keep_ties=False)
    for number, result in enumerate(
        propagate_masks(Given(features), numbered_frames(3, 64, 64), mask, protocol=protocol)
    ):
        assert set(result.unique().tolist()) == {0, 7, 201}
        if number == 0 and protocol.first_output == "given":
            assert torch.equal(result, mask)
        # Bilinear upsampling rounds corners: look at the centres of cells.
        assert torch.equal(result[4::8, 4::8], mask[4::8, 4::8])


@pytest.mark.parametrize(
    ("protocol", "inside"),
    [(DINO, 9), (CRW, 9), (VFS, 0), (DINOV3, 0), (SIAMMAE, 9)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_channel_that_is_constant(protocol, inside):
    protocol = dataclasses.replace(protocol, short_side=None, frame_size=None)
    mask = torch.full((16, 16), 9, dtype=torch.uint8)
    *_, last = propagate_masks(Given(torch.ones(2, 1, 2, 2)), numbered_frames(2, 16, 16), mask, protocol=protocol)
    assert (last == inside).all()


def test_min_max_lets_a_faint_object_win():
    # Labels of frame 1 are those of frame 0 (topk 1). The object never passes .4, so plain argmax leaves it out;
    # stretched to [0, 1] it takes the cell where it peaks.
    labels = torch.tensor([[0.9, 0.6, 0.9, 0.9], [0.1, 0.4, 0.1, 0.1]]).view(2, 1, 4)
    for protocol, winners in [
        (DINO, [0, 1, 0, 0]),
        (VFS, [0, 1, 0, 0]),
        (CRW, [0, 0, 0, 0]),
        (DINOV3, [0, 1, 0, 0]),
    ]:
        assert upsampled(labels, (1, 4), protocol=protocol).argmax(dim=0)[0].tolist() == winners
    stretched = upsampled(labels, (1, 4), protocol=DINO)
    torch.testing.assert_close(stretched[1, 0], torch.tensor([0.0, 1, 0, 0]))
    torch.testing.assert_close(stretched[0, 0], torch.tensor([1.0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("first_column", "expected"),
    [
        # The middle one of 3 cells over 20 columns is sampled at 9.5: Pillow and nearest-exact take column 10.
        # OpenCV's nearest neighbour brings column 10 to column 5 of 10; the middle cell is between columns 4 and 5.
        (10, {"dino": 1, "vfs": 1, "dinov3": 1, "crw": 0.5, "siammae": 0.5}),
        # VFS goes to 10 columns first, where the middle cell takes column 5, which came from column 11.
        (11, {"dino": 0, "vfs": 1, "dinov3": 0, "crw": 0, "siammae": 0}),
        # Column 4 of 10 is column 8 by OpenCV, 9 by Pillow.
        (9, {"dino": 1, "vfs": 1, "dinov3": 1, "crw": 1, "siammae": 0.5}),
    ],
)
def test_first_labels_of_each_protocol(first_column, expected):
    mask = torch.zeros(12, 20, dtype=torch.uint8)
    mask[:, first_column:] = 2
    ids = torch.tensor([0, 2], dtype=torch.uint8)
    for protocol in PROTOCOLS:
        labels = labels_from_mask(mask, ids, (2, 3), frame_size=(6, 10), protocol=protocol)
        middle = expected[protocol.name]
        torch.testing.assert_close(labels[1], torch.tensor([[0.0, middle, 1]]).expand(2, 3))
        torch.testing.assert_close(labels[0], 1 - labels[1])


@pytest.mark.parametrize(
    ("protocol", "native", "multiple", "expected"),
    [
        (DINO, (480, 854), 16, (480, 832)),
        (DINO, (854, 480), 16, (832, 480)),
        (DINO, (480, 910), 8, (480, 896)),
        (DINO, (1080, 1920), 16, (480, 832)),
        (DINO, (480, 854), 1, (480, 832)),
        (DINO, (480, 854), 14, (476, 826)),
        (CRW, (480, 854), 1, (480, 854)),
        (CRW, (240, 427), 1, (240, 427)),
        (CRW, (480, 854), 16, (480, 848)),
        (VFS, (480, 854), 1, (480, 854)),
        (VFS, (720, 1281), 1, (480, 854)),
        (VFS, (1000, 480), 1, (1000, 480)),
        (DINOV3, (480, 854), 16, (960, 1712)),
        (DINOV3, (480, 854), 14, (966, 1722)),
        (DINOV3, (300, 300), 16, (960, 960)),
        (SIAMMAE, (480, 854), 16, (480, 880)),
        (SIAMMAE, (854, 480), 16, (480, 880)),
        (SIAMMAE, (1080, 1920), 14, (476, 868)),
    ],
)
def test_frame_sizes(protocol, native, multiple, expected):
    assert resized_size(*native, protocol=protocol, multiple=multiple) == expected
    frame = torch.zeros(3, native[0], native[1], dtype=torch.uint8)
    assert prepare_frame(frame, protocol=protocol, multiple=multiple).shape == (3, *expected)


def pattern(height, width):
    y, x, c = np.mgrid[:height, :width, :3]
    return torch.from_numpy(((37 * y + 101 * x + 53 * c + x * y * (c + 1) + y * y) % 256).astype(np.uint8))


def test_resizing_is_opencvs_bit_by_bit():
    # What cv2.resize (OpenCV 5.0, x86-64) returns for the same patterns; it agreed on 300 random sizes as well.
    small = opencv_bilinear(pattern(5, 7).permute(2, 0, 1), (3, 4))
    assert small[0].tolist() == [[50, 196, 149, 135], [117, 41, 221, 145], [125, 116, 75, 119]]
    for (height, width), size, digest in [
        ((48, 85), (40, 64), "4aa3e6de6ddb393d"),
        ((40, 64), (97, 33), "c299516f57fa498b"),
        ((33, 57), (66, 114), "6c79bfa5578c6cd6"),
    ]:
        resized = opencv_bilinear(pattern(height, width).permute(2, 0, 1), size).permute(1, 2, 0)
        assert hashlib.sha256(resized.contiguous().numpy().tobytes()).hexdigest()[:16] == digest


def test_frames_are_resized_by_the_filter_of_the_protocol():
    frame = pattern(24, 43).permute(2, 0, 1)
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    found = {}
    for name, resampling in (("pil_lanczos", Image.Resampling.LANCZOS), ("pil_bicubic", Image.Resampling.BICUBIC)):
        protocol = dataclasses.replace(SIAMMAE, frame_size=(16, 20), frame_resize=name)
        found[name] = (
            (prepare_frame(frame, protocol=protocol) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        )
        np.testing.assert_array_equal(found[name], np.asarray(image.resize((20, 16), resampling)))
    assert (found["pil_lanczos"] != found["pil_bicubic"]).mean() > 0.5
    assert SIAMMAE.frame_resize == "pil_lanczos"


def test_the_protocols_colours_replace_imagenets_and_no_others():
    class Constant(Encoder):
        def features(self, clip):
            return (clip - self.mean) / self.std

    imagenet = Constant(dim=3, stride=1, architecture={})
    mean, std = color_statistics(imagenet, DINO)
    assert std == pytest.approx((0.228, 0.224, 0.225))
    assert mean == pytest.approx((0.485, 0.456, 0.406))
    assert color_statistics(imagenet, CRW)[1] == pytest.approx((0.229, 0.224, 0.225))
    gray = ResNet(color="gray", layer="layer1", stride=4, width=8)
    assert color_statistics(gray, DINO) == ((0.5,), (0.5,))
    # And they are what the pixels are normalised with: red is (1 - mean) / std, the encoder's own stay.
    seen = []
    imagenet.features = lambda clip: (
        seen.append(((clip - imagenet.mean) / imagenet.std)[0, 0, 0, 0, 0].item()) or clip
    )
    frame = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    protocol = dataclasses.replace(DINO, short_side=None)
    list(propagate_labels(imagenet, [frame], lambda *_: torch.ones(1, 1, 1), protocol=protocol))
    assert seen == pytest.approx([(1 - 0.485) / 0.228])
    assert imagenet.std[0].item() == pytest.approx(0.229)


@pytest.mark.parametrize(
    ("protocol", "recent", "topk", "keep_ties", "radius", "short_side"),
    [
        (DINO, 7, 5, True, 12, 480),
        (CRW, 20, 10, False, 12, None),
        (VFS, 20, 10, False, 12, 480),
        (DINOV3, 7, 5, True, 12, 960),
        (SIAMMAE, 20, 7, False, 20, None),
    ],
)
def test_the_figures_of_the_official_code(protocol, recent, topk, keep_ties, radius, short_side):
    assert (protocol.num_recent_frames, protocol.topk, protocol.keep_ties) == (recent, topk, keep_ties)
    assert (protocol.radius_cells, protocol.short_side) == (radius, short_side)


def test_options_for_the_encoder():
    assert CRW.encoder_options("resnet") == {"layer": "layer3", "stride": 8, "padding_mode": "reflect"}
    assert DINO.encoder_options("vit") == {"pos_embed": "dino"}
    assert DINO.encoder_options("exported") == DINO.encoder_options("timm_conv") == {}


def test_frames_of_another_size_are_named():
    mask = torch.zeros(40, 48, dtype=torch.uint8)
    masks = propagate_masks(Given(torch.ones(2, 1, 5, 6)), numbered_frames(2, 40, 40), mask, protocol=CRW)
    with pytest.raises(ValueError, match=r"frame 0 has 40 x 40 pixels .* the mask 40 x 48"):
        next(masks)
    with pytest.raises(ValueError, match=r"torch.int64 of shape \(40, 48\), expected object ids as uint8"):
        next(propagate_masks(Given(torch.ones(2, 1, 5, 6)), [], mask.long(), protocol=CRW))


def test_identity_carries_the_first_mask():
    mask = torch.eye(4).byte()
    masks = list(identity_masks(numbered_frames(3, 4, 4), mask))
    assert len(masks) == 3
    assert all(torch.equal(each, mask) for each in masks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_labels():
    features = F.normalize(torch.randn(4, 64, 20, 30), dim=1)
    first_labels = torch.rand(3, 20, 30)
    frames = numbered_frames(4, 160, 240)
    for protocol in PROTOCOLS:
        protocol = dataclasses.replace(protocol, short_side=None)
        on_cpu, on_gpu = (
            list(
                propagate_labels(
                    Given(features.to(device)), frames, lambda *_: first_labels, protocol=protocol, device=device
                )
            )
            for device in ("cpu", "cuda")
        )
        for one, other in zip(on_cpu, on_gpu, strict=True):
            torch.testing.assert_close(one, other.cpu(), atol=1e-5, rtol=0, msg=protocol.name)
