import torch

from vidssl.ops import draws

MASK = 2**64 - 1


def splitmix64(state: int) -> tuple[int, int]:
    """The published generator in Python's whole numbers: new state and output."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return state, bits ^ (bits >> 31)


def test_uniform_is_splitmix64():
    # First outputs of SplitMix64 from 1234567, as Rosetta Code and the reference implementation print them.
    state, outputs = 1234567, []
    for _ in range(3):
        state, output = splitmix64(state)
        outputs.append(output)
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    seed = torch.tensor([5, 2**62 + 3])
    drawn = draws.uniform(seed, 2, 3, stream=4)
    for row, start in zip(drawn, draws.mix(seed, 4).tolist(), strict=True):
        state = start
        for value in row.flatten().tolist():
            state, output = splitmix64(state)
            assert value == (output >> 40) / 2**24


def test_a_draw_depends_on_its_own_seed_and_stream_alone():
    seed = torch.arange(6)
    together = draws.uniform(seed, 5)
    for number in range(6):
        assert torch.equal(draws.uniform(seed[number : number + 1], 5)[0], together[number])
    assert not torch.equal(draws.uniform(seed, 5, stream=1), together)
    assert draws.mix(seed, 0).unique().numel() == 6 and (draws.mix(seed, 0) >= 0).all()


def test_distributions():
    seed = torch.arange(200)
    values = draws.uniform(seed, 500)
    assert abs(values.mean() - 0.5) < 0.005 and abs(values.var() - 1 / 12) < 0.002
    assert 0 <= values.min() and values.max() < 1
    # Neighbouring seeds and neighbouring numbers are unrelated.
    assert abs(torch.corrcoef(torch.stack([values[:-1].flatten(), values[1:].flatten()]))[0, 1]) < 0.01
    assert abs(torch.corrcoef(torch.stack([values[:, :-1].flatten(), values[:, 1:].flatten()]))[0, 1]) < 0.01
    gauss = draws.normal(seed, 500)
    assert abs(gauss.mean()) < 0.01 and abs(gauss.var() - 1) < 0.02 and abs((gauss**4).mean() - 3) < 0.15
    counts = torch.bincount(draws.integers(seed, 4, 500).flatten())
    assert (counts - 25_000).abs().max() < 600


def test_permutation():
    orders = draws.permutation(torch.arange(6000), 3)
    assert (orders.sort(dim=1).values == torch.arange(3)).all()
    counts = torch.bincount((orders * torch.tensor([9, 3, 1])).sum(1))
    counts = counts[counts > 0]
    assert len(counts) == 6 and (counts - 1000).abs().max() < 130


def test_whole_numbers_beyond_20_bits_are_drawn_evenly():
    """Of 3 * 2**22 numbers, 24 bits would give every third twice as often as the others."""
    high = 3 * 2**22
    drawn = draws.integers(torch.arange(300), high, 1000)
    assert 0 <= int(drawn.min()) and int(drawn.max()) < high
    counts = torch.bincount(drawn.flatten() % 3).double() / 300_000
    assert float((counts - 1 / 3).abs().max()) < 0.004  # four deviations
