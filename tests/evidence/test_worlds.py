import pytest
import torch

from vidssl.evidence import worlds


def luminance_and_chroma(video: torch.Tensor) -> torch.Tensor:
    """RGB bytes (..., 3, S, S) -> Y, U and V (ITU-R BT.601)."""
    red, green, blue = (video.float() / 255).unbind(-3)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([y, 0.492 * (blue - y), 0.877 * (red - y)], dim=-3)


def test_static_sprites_never_move():
    world = worlds.sprites(6, seed=0, num_frames=5, num_sprites=2, world="static")
    for tensor in (world.video, world.ids, world.centers_px):
        assert torch.equal(tensor, tensor[:, :1].expand_as(tensor))
    assert world.ids.amax() == 2


def test_moving_sprites_keep_their_speed_between_the_walls():
    world = worlds.sprites(50, seed=0, num_frames=9, sprite_px=(10, 14), speed_px=(2, 4))
    steps = world.centers_px.diff(dim=1)
    # A reflection hides a part of a step along one axis, never adds to it.
    assert float(steps.norm(dim=-1).max()) <= 4 + 1e-3
    free = (world.centers_px[:, 1:] - 32).abs().amax(-1) < 19  # no wall was near: radii are at most 7, steps 4
    free &= (world.centers_px[:, :-1] - 32).abs().amax(-1) < 19
    assert free.float().mean() > 0.2
    assert float(steps.norm(dim=-1)[free].min()) >= 2 - 1e-3
    assert float(world.centers_px.min()) >= 5 and float(world.centers_px.max()) <= 59
    assert (steps[..., 1] > 0.5).any() and (steps[..., 1] < -0.5).any()


def test_falling_sprites_always_go_down():
    world = worlds.sprites(50, seed=0, num_frames=9, sprite_px=(10, 10), speed_px=(1, 4), world="fall")
    down = world.centers_px[..., 1].diff(dim=1)
    assert float(down.min()) >= 1 - 1e-3 and float(down.max()) <= 4 + 1e-3
    torch.testing.assert_close(down, down[:, :1].expand_as(down), atol=1e-3, rtol=0)
    # The drift to the side is at most a fifth of it.
    assert bool((world.centers_px[..., 0].diff(dim=1).abs() <= 0.2 * down + 1e-3).all())


def test_gravity_accelerates_downwards_and_only_downwards():
    world = worlds.sprites(80, seed=0, num_frames=6, sprite_px=(8, 8), speed_px=(0, 2), world="gravity")
    change = world.centers_px.diff(dim=1).diff(dim=1)  # (N, F - 2, 1, 2)
    free = (world.centers_px - 32).abs().amax(dim=(1, 3)).squeeze(1) < 22  # never at a wall
    assert free.sum() > 20
    torch.testing.assert_close(change[free][..., 1], torch.full_like(change[free][..., 1], 0.3), atol=1e-4, rtol=0)
    torch.testing.assert_close(change[free][..., 0], torch.zeros_like(change[free][..., 0]), atol=1e-4, rtol=0)


def test_ids_match_the_places():
    discs = torch.zeros(8, 2, dtype=torch.int64)
    world = worlds.sprites(8, seed=0, num_frames=4, num_sprites=2, sprite_px=(14, 14), classes=discs)
    for video in range(8):
        for frame in range(4):
            expected = torch.zeros(64, 64, dtype=torch.uint8)
            for number in (1, 2):  # the second lies in front
                x, y = world.centers_px[video, frame, number - 1].tolist()
                for row in range(64):
                    for column in range(max(0, int(x) - 9), min(64, int(x) + 10)):
                        if (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 < 49:
                            expected[row, column] = number
            # A pixel's centre can lie on the circle itself, up to rounding.
            assert int((world.ids[video, frame] != expected).sum()) <= 1


def test_every_shape_is_drawn_as_itself():
    world = worlds.sprites(4, seed=0, num_frames=1, sprite_px=(40, 40), classes=torch.arange(4)[:, None])
    area = (world.ids[:, 0] == 1).float().sum(dim=(1, 2)) / 40**2
    # Shares of the square around them: pi / 4, 0.88^2, half base times height, two bars less what they share.
    base = 2 * (0.9 + 0.95) / 2
    expected = torch.tensor([torch.pi / 4, 0.88**2, base * (0.9 + 0.95) / 2 / 4, (2 * 0.36 * 2 - 0.72**2 / 2) / 2])
    torch.testing.assert_close(area, expected, atol=0.02, rtol=0)


def test_luminance_tells_nothing_of_chroma():
    world = worlds.sprites(400, seed=0, num_frames=1)
    yuv = luminance_and_chroma(world.video[:, 0])
    inside = world.ids[:, 0] == 1
    for region in (inside, ~inside):
        means = (yuv * region[:, None]).sum(dim=(2, 3)) / region.sum(dim=(1, 2))[:, None]  # (N, 3)
        correlation = torch.corrcoef(means.T)
        # 400 samples: the standard deviation of a correlation is 0.05.
        assert correlation[0, 1:].abs().max() < 0.15
        radius = means[:, 1:].norm(dim=1)
        assert float(radius.min()) > 0.11 and float(radius.max()) < 0.27


def test_a_seed_is_a_world():
    first, again, other = (worlds.sprites(2, seed=seed, num_frames=2).video for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_letters_are_balanced_and_a_function_of_the_seed():
    images, label = worlds.letters(2000, seed=5)
    counts = torch.bincount(label, minlength=len(worlds.LETTERS))
    # 200 of each, give or take 13.
    assert int(counts.min()) > 140 and int(counts.max()) < 260
    again, same_label = worlds.letters(2000, seed=5)
    assert torch.equal(images, again) and torch.equal(label, same_label)
    assert not torch.equal(label, worlds.letters(2000, seed=6)[1])


def test_ink_and_paper_differ_in_luminance():
    images, _ = worlds.letters(200, seed=0, noise=0.0)
    y = luminance_and_chroma(images[:, 0])[:, 0].flatten(1)
    # Drawn at least 0.25 apart; where a colour leaves [0, 1], clamping takes a little of it back.
    assert float((y.amax(1) - y.amin(1)).min()) > 0.15


@pytest.mark.parametrize("number", range(3))
def test_tones_have_their_pitch(number):
    sounds = worlds.tones(torch.full((20,), number), seed=number, seconds=2.0, sample_rate_hz=8000)
    spectrum = torch.fft.rfft(sounds).abs()
    strongest = spectrum.argmax(1) / 2.0  # bins of 0.5 Hz
    pitch = worlds.PITCH_HZ[number]
    # +-6 %, and the wobble of loudness (1 to 6 Hz) puts weaker lines beside the strongest.
    assert bool(((strongest - pitch).abs() < 0.06 * pitch + 1).all())
    assert float(strongest.std()) > 0.01 * pitch
    # The second harmonic is half as strong: a quarter of the power, counted 10 Hz to each side.
    for power, found in zip(spectrum.square(), strongest.tolist(), strict=True):
        first, second = (
            power[round(2 * hertz) - 20 : round(2 * hertz) + 21].sum() for hertz in (found, 2 * found)
        )
        assert float(second / first) == pytest.approx(0.25, abs=0.03)


def test_the_cross_hisses():
    sounds = worlds.tones(torch.tensor([3] * 8 + [0] * 8), seed=0)
    spectrum = torch.fft.rfft(sounds).abs().square()
    peak = spectrum.amax(1) / spectrum.sum(1)  # share of the power in the strongest line
    assert float(peak[:8].max()) < 0.02 and float(peak[8:].min()) > 0.1
    assert float(sounds.abs().max()) <= 1


def test_waves_drift_where_their_label_says():
    video, direction = worlds.waves(40, seed=0, num_frames=3, speed_px=5.0, num_waves=2)
    assert set(direction.tolist()) == set(range(worlds.NUM_DIRECTIONS))
    right, up, left, down = (video[direction == number].int() for number in (0, 2, 4, 6))
    for drifted, dims, shift in ((right, 4, 5), (up, 3, -5), (left, 4, -5), (down, 3, 5)):
        before, after = drifted[:, :-1], drifted[:, 1:]
        size = video.shape[-1] - 5
        start, end = (0, 5) if shift > 0 else (5, 0)
        difference = before.narrow(dims, start, size) - after.narrow(dims, end, size)
        assert len(drifted) > 0 and int(difference.abs().max()) <= 1  # rounding
    assert float((video[:, 0].int() - video[:, 1].int()).abs().float().mean()) > 5


@pytest.mark.parametrize("color", [True, False])
def test_a_place_alone_tells_nothing_of_waves(color):
    video = worlds.waves(3000, seed=0, num_waves=2, color=color)[0].float() / 255
    # Half the range on average everywhere, in every channel; two deviations of it fill the range.
    torch.testing.assert_close(video.mean(0), torch.full_like(video[0], 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(video.std(0), torch.full_like(video[0], 0.25), atol=0.02, rtol=0)
    channels = (video[:, :, 0] - video[:, :, 1]).abs().mean()
    assert channels > 0.1 if color else channels == 0
