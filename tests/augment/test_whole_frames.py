"""Views of whole frames that are stretched into one shape: windows of the picture as it is, torchvision's draws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms as transforms
import torchvision.transforms.v2.functional as reference
from scipy import stats

from vidssl.augment import (
    ColorJitter,
    FromKornia,
    MultiCrop,
    MultiScaleCrop,
    Pipeline,
    RandomResizedCrop,
    RandomReverse,
    recipes,
)

NUM_DRAWN = 2000
# Large: torchvision draws whole pixels.
SHAPES = {"4:3": (7500, 10_000), "16:9": (7200, 12_800), "9:16": (12_800, 7200), "1:1": (8000, 8000)}
# SimCLR's; DINO's large and small views; the walk's, which never fits into 16:9; V-JEPA's; CVRL's.
WINDOWS = [
    ((0.08, 1.0), (3 / 4, 4 / 3)),
    ((0.4, 1.0), (3 / 4, 4 / 3)),
    ((0.05, 0.4), (3 / 4, 4 / 3)),
    ((0.8, 0.95), (0.7, 1.3)),
    ((0.3, 1.0), (0.75, 1.35)),
    ((0.3, 1.0), (0.5, 2.0)),
]


def smooth(height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """A picture without details, uint8 (3, H, W)."""
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return fine[0].clamp(0, 1).mul(255).round().to(torch.uint8)


def stretched(picture: torch.Tensor, size_px: int) -> torch.Tensor:
    """The clip that a dataset makes of a picture, uint8 (1, 1, 3, S, S)."""
    return reference.resize(picture, [size_px, size_px], antialias=True)[None, None]


def aspect_of(*pictures: torch.Tensor) -> torch.Tensor:
    return torch.tensor([picture.shape[-1] / picture.shape[-2] for picture in pictures])


def in_picture(crop: RandomResizedCrop, seeds: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Windows drawn in frames of 256 x 256 pixels, put into the picture: top, left, height, width, (B, 4)."""
    cut: list[dict] = []
    crop._cut = lambda window, mirrored, **sides: cut.append({"window": window}) or []  # type: ignore[method-assign]
    aspect = torch.full((len(seeds),), shape[1] / shape[0])
    crop.steps_of_stretched(seeds, (1, 256, 256), aspect)
    height, width = shape
    return cut[0]["window"] * torch.tensor([height, width, height, width]) / 256


def told(windows: torch.Tensor, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Share of the area, aspect and place of windows; places as shares of what they leave free."""
    top, left, height, width = windows.double().unbind(1)
    return {
        "area": (height * width / (shape[0] * shape[1])).numpy(),
        "aspect": (width / height).log().numpy(),
        "x": ((left + width / 2) / shape[1]).numpy(),
        "y": ((top + height / 2) / shape[0]).numpy(),
    }


def alike(mine: np.ndarray, theirs: np.ndarray) -> float:
    """How likely two samples differ so much by chance: chi-square test over 16 equally full bins."""
    edges = np.quantile(np.concatenate([mine, theirs]), np.linspace(0, 1, 17))[1:-1]
    counts = [np.bincount(np.digitize(one, edges), minlength=17) for one in (mine, theirs)]
    return likely(*counts)


def likely(*counts: np.ndarray) -> float:
    """P of the chi-square test that two lists of counts are of one distribution."""
    table = np.stack(counts)[:, sum(counts) > 0]
    return 1.0 if table.shape[1] == 1 else float(stats.chi2_contingency(table).pvalue)


@pytest.mark.parametrize(("scale", "ratio"), WINDOWS)
@pytest.mark.parametrize("name", SHAPES)
def test_windows_are_distributed_as_torchvisions(name, scale, ratio):
    shape = SHAPES[name]
    mine = in_picture(RandomResizedCrop(64, scale=scale, ratio=ratio), torch.arange(NUM_DRAWN), shape)
    picture = torch.empty(3, 1, 1).expand(3, *shape)
    torch.manual_seed(1)
    theirs = torch.tensor(
        [transforms.RandomResizedCrop.get_params(picture, list(scale), list(ratio)) for _ in range(NUM_DRAWN)]
    )
    # No window is five times the picture: what is taken when none fits.
    last = torch.tensor(transforms.RandomResizedCrop.get_params(picture, [5.0, 5.0], list(ratio)))
    is_last = [((windows - last).abs() < 1.01).all(1) for windows in (mine, theirs)]
    chances = {"fits": likely(*(torch.bincount(one.long(), minlength=2).numpy() for one in is_last))}
    if not all(one.all() for one in is_last):
        found, expected = (
            told(windows[~one], shape) for windows, one in zip((mine, theirs), is_last, strict=True)
        )
        chances |= {what: alike(found[what], expected[what]) for what in found}
    assert min(chances.values()) > 1e-4, chances
    assert (
        float((mine[:, :2] + mine[:, 2:] - torch.tensor(shape)).max()) < 1e-6 * max(shape)
        and float(mine.min()) >= 0
    )


def test_what_never_fits_is_the_largest_window_in_the_middle():
    """Windows of the walk, of at least 0.8 of the area and at most 1.3 times as wide as high, in 16:9 and in 9:16."""
    for shape in ((720, 1280), (1280, 720)):
        crop = RandomResizedCrop(64, scale=(0.8, 0.95), ratio=(0.7, 1.3))
        found = in_picture(crop, torch.arange(50), shape)
        picture = torch.empty(3, *shape)
        expected = transforms.RandomResizedCrop.get_params(picture, [0.8, 0.95], [0.7, 1.3])
        torch.testing.assert_close(found, torch.tensor([expected]).double().expand(50, 4), atol=1, rtol=0)
        assert len(found.unique(dim=0)) == 1


@pytest.mark.parametrize("shape", [(240, 320), (180, 320), (320, 180), (200, 200)])
def test_a_view_of_all_of_a_picture_is_the_picture_scaled(shape):
    picture = smooth(*shape)
    aspect = aspect_of(picture)
    crop = RandomResizedCrop(48, scale=(1, 1), ratio=(float(aspect), float(aspect)), flip=0)
    view = crop(stretched(picture, 64), torch.tensor([3]), aspect)
    expected = reference.resize(picture / 255, [48, 48], antialias=True)
    torch.testing.assert_close(view[0, 0], expected, atol=0.01, rtol=0)


def test_views_are_windows_of_the_picture_as_it_is():
    """Pictures of three shapes in one batch, against torchvision's crop of the unstretched picture."""
    pictures = [smooth(480, 640, seed=1), smooth(360, 640, seed=2), smooth(640, 360, seed=3)]
    clips = torch.cat([stretched(picture, 128) for picture in pictures])
    crop = RandomResizedCrop(32, flip=0)
    for seed in range(0, 60, 3):
        seeds = torch.arange(seed, seed + 3)
        view = crop(clips, seeds, aspect_of(*pictures))
        for one, number, picture in zip(view, seeds, pictures, strict=True):
            window, _ = crop.draw(number[None], *picture.shape[1:])
            expected = reference.resized_crop(picture / 255, *window[0].round().int(), [32, 32], antialias=True)
            torch.testing.assert_close(one[0], expected, atol=0.04, rtol=0)
            assert float((one[0] - expected).abs().mean()) < 0.01


def test_a_view_depends_on_its_seed_and_shape_alone():
    clips, seeds = torch.randint(256, (5, 2, 3, 40, 40), dtype=torch.uint8), torch.arange(5)
    aspect = torch.tensor([1.0, 4 / 3, 16 / 9, 9 / 16, 40.0])
    for view in (RandomResizedCrop(16), recipes.simclr(16), recipes.videomae(16)):
        together = view(clips, seeds, aspect)
        alone = [view(clips[i : i + 1], seeds[i : i + 1], aspect[i : i + 1]) for i in reversed(range(5))]
        torch.testing.assert_close(together, torch.cat(alone).flip(0), atol=1e-5, rtol=0)
        # Frames that are as wide as their picture are no others than before.
        torch.testing.assert_close(together[:1], view(clips[:1], seeds[:1]), atol=1e-5, rtol=0)


def test_parts_of_a_large_batch_keep_their_shapes(monkeypatch):
    clips, seeds, aspect = torch.rand(7, 1, 3, 30, 30), torch.arange(7), torch.linspace(0.5, 2, 7)
    whole = RandomResizedCrop(16)(clips, seeds, aspect)
    monkeypatch.setattr("vidssl.augment.plan.PIXEL_BYTES_AT_ONCE", 2 * 4 * 3 * 30 * 30)
    assert torch.equal(RandomResizedCrop(16)(clips, seeds, aspect), whole)


@pytest.mark.parametrize("shape", [(256, 340), (340, 256)])
def test_windows_of_few_sizes_are_those_of_the_picture(shape):
    """Sides and places are those that the released code draws in a picture whose shorter side is the frame's."""
    height, width = shape
    crop = MultiScaleCrop(224)
    expected, _ = crop.draw(torch.arange(300), height, width)
    found = in_picture(crop, torch.arange(300), shape)
    torch.testing.assert_close(found, expected.double(), atol=1e-3, rtol=0)


def test_frames_that_would_stay_stretched_are_refused():
    clips, seeds, aspect = torch.rand(2, 2, 3, 20, 20), torch.arange(2), torch.tensor([1.5, 1.5])
    jitter = ColorJitter(brightness=0.5)
    import kornia.augmentation as kornia

    for view in (
        jitter,
        Pipeline(jitter),
        Pipeline(),
        FromKornia(kornia.VideoSequential(kornia.RandomHorizontalFlip(p=1.0), data_format="BTCHW")),
        Pipeline(torch.nn.Identity(), RandomResizedCrop(8)),
        MultiCrop(RandomResizedCrop(8), jitter),
    ):
        with pytest.raises(
            ValueError, match=r"no window of vidssl.augment .* looks at them first; begin the view"
        ):
            view(clips, seeds, aspect)
    # What knows no shapes may come first, and other libraries behind the window.
    before = Pipeline(RandomReverse(), jitter, RandomResizedCrop(8))(clips, seeds, aspect)
    behind = Pipeline(RandomResizedCrop(8), torch.nn.Identity())
    assert before.shape == (2, 2, 3, 8, 8)
    behind.operators[1].forward = lambda clips, seed: clips
    assert torch.equal(behind(clips, seeds, aspect), Pipeline(RandomResizedCrop(8))(clips, seeds, aspect))


def test_every_view_of_several_sees_the_picture_as_it_is():
    clips, seeds, aspect = torch.rand(2, 1, 3, 20, 20), torch.arange(2), torch.tensor([0.5, 2.0])
    first, second = MultiCrop(RandomResizedCrop(8), RandomResizedCrop(6))(clips, seeds, aspect)
    assert first.shape[-1] == 8 and second.shape[-1] == 6
    assert not torch.equal(first, MultiCrop(RandomResizedCrop(8))(clips, seeds)[0])
