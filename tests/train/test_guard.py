"""What a step does to its numbers: parts, memory, records of bad steps, collapse."""

import json
import math
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch, Method, Run, fit, optim
from vidssl.augment import RandomResizedCrop, recipes
from vidssl.cli import main
from vidssl.data import ArrayDataset
from vidssl.data.clips import random_clips
from vidssl.data.loader import Loader
from vidssl.evidence import worlds
from vidssl.methods import BYOL, MAE
from vidssl.methods.image.byol import distance
from vidssl.models import ConvNet, VideoViT
from vidssl.models.layers import checkpoint_blocks
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops import draws
from vidssl.train import guard
from vidssl.train.guard import Guard, clip_gradients

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLIPS = worlds.sprites(8, seed=0, num_frames=4, size_px=24, sprite_px=(8, 12), speed_px=(1, 2)).video


def mae(*, depth: int = 1) -> MAE:
    """A method whose loss is a mean over samples, without batch norm."""
    net = VideoViT(dim=24, depth=depth, num_heads=2, patch_px=4, tubelet_frames=1)
    decoder = TokenPredictor(net.dim, net.patch_values, width=12, depth=1, num_heads=2)
    return MAE(net, decoder=decoder, view=RandomResizedCrop(16))


class Normed(Method):
    """Learns a draw of each sample through batch norm and dropout; breaks at chosen steps."""

    def __init__(self, *, broken: set[int] = frozenset(), num_steps: int = 12) -> None:
        super().__init__()
        self.encoder = ConvNet(widths=(8, 16), strides=(2, 2))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 2))
        self.clips = partial(random_clips, num_frames=1)
        self.broken = {step / num_steps for step in broken}
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch, progress):
        self.seen = self.seen + 1  # a buffer may also be put in another's place
        features = self.encoder(batch.video[:, 0].float() / 255)
        if progress in self.broken:
            features = features / 0
        return {"loss": F.cross_entropy(self.head(features), draws.integers(batch.seed, 2))}


def first_batch(method: Method) -> Batch:
    return next(Loader(ArrayDataset(CLIPS, clips=method.clips), batch_size=8).batches(0, 1))


def run(method: Method, *, steps: int = 12, lr: float = 1e-3, **changed) -> Run:
    return Run(
        method=method,
        dataset=ArrayDataset(CLIPS, clips=method.clips),
        learning_rate=optim.constant(lr),
        steps=steps,
        **{"batch_size": 8, "optimizer": partial(torch.optim.AdamW, weight_decay=0.05), **changed},
    )


def trained(
    method: Method, out: Path, *, steps: int = 4, **options
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of every step, and the state at the end. Not by Adam, which blows up the rounding of small gradients."""
    sgd = partial(torch.optim.SGD, momentum=0.9)
    fit(run(method, steps=steps, lr=0.1, optimizer=sgd), out=out, log_every=1, picture_every=100, **options)
    return [line["loss"] for line in log(out)], method.state_dict()


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def built(build, *arguments, **options):
    torch.manual_seed(0)
    return build(*arguments, **options)


def largest_difference(first, second) -> float:
    return max(float((value - second[name]).abs().max()) for name, value in first.items())


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_parts_of_a_batch_make_the_step_of_the_batch(tmp_path, accumulate):
    whole = trained(built(mae), tmp_path / "whole")
    parts = trained(built(mae), tmp_path / "parts", accumulate=accumulate)
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert largest_difference(whole[1], parts[1]) < 1e-6
    assert whole[0][0] != whole[0][-1]


def test_gradients_of_parts_are_those_of_the_batch():
    method = built(mae)
    batch = first_batch(method)
    guard.backward(method, batch, 0.5)
    whole = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    guard.backward(method, batch, 0.5, num_parts=3)  # of 3, 3 and 2 samples
    for one, p in zip(whole, method.parameters(), strict=True):
        assert float((one - p.grad).abs().max()) <= 1e-6 * max(1.0, float(one.abs().max()))


@pytest.mark.parametrize("max_norm", [0.1, 1e6, math.inf])
def test_clipping_equals_torchs(max_norm):
    first = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(5)), nn.Parameter(torch.zeros(2))]
    for p in first[:2]:
        p.grad = torch.randn_like(p)
    second = [nn.Parameter(p.detach().clone()) for p in first]
    for p, q in zip(first[:2], second, strict=False):
        q.grad = p.grad.clone()
    norm, expected = clip_gradients([first], max_norm), nn.utils.clip_grad_norm_(second, max_norm)
    assert torch.equal(norm, expected)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(first[:2], second, strict=False))


def with_gradients(*gradients: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return parameters


def test_each_part_is_clipped_by_its_own_norm():
    first, second, third = with_gradients([3.0], [0.0, 4.0], [5.0, 12.0])  # norms 5 of both, and 13
    frozen = nn.Parameter(torch.ones(2))  # has none
    norm = clip_gradients([[first, second], [frozen], [third, frozen]], 6.5)
    assert norm.item() == pytest.approx(math.sqrt(25 + 169))  # what all of them had
    assert torch.equal(first.grad, torch.tensor([3.0])) and torch.equal(second.grad, torch.tensor([0.0, 4.0]))
    assert third.grad.tolist() == pytest.approx([2.5, 6.0])
    norm = clip_gradients([[first], [second], [third]], 1.0)
    assert norm.item() == pytest.approx(math.sqrt(9 + 16 + 6.5**2))
    for parameter in (first, second, third):
        assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-5)
    assert clip_gradients([[first], [second], [third]], math.inf).item() == pytest.approx(math.sqrt(3), rel=1e-5)


def test_a_part_that_is_no_number_makes_the_norm_none():
    good, bad = with_gradients([1.0], [math.nan])
    for max_norm in (1.0, math.inf):
        assert math.isnan(clip_gradients([[good], [bad]], max_norm))


class TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        self.predictor = nn.Linear(2, 2)
        self.teacher = nn.Linear(2, 2).requires_grad_(False)


def test_parts_of_a_network():
    network = TwoParts()
    shapes = [[tuple(parameter.shape) for parameter in part] for part in optim.as_one(network)]
    assert shapes == [[(3, 2), (3,), (2, 3), (2,), (2, 2), (2,), (2, 2), (2,)]]
    assert [len(part) for part in optim.each_tensor(network)] == [1] * 8
    assert [len(part) for part in optim.each_module("student", "predictor")(network)] == [4, 2]
    for names, message in (
        (("student",), r"2 of its parameters .*: predictor.weight, predictor.bias; name modules"),
        (("student", "predictor", "student.0"), r"2 of its parameters .*: student.0.weight, student.0.bias; name"),
        (("predictor",), r"4 of its parameters .*: student.0.weight, student.0.bias, student.1.weight, ...; name"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.each_module(*names)(network)


def test_the_parts_of_a_run_are_clipped(tmp_path):
    """A step of plain SGD moves every tensor by its clipped gradient."""
    method = built(mae)
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    changed = {"batch_size": 2, "optimizer": partial(torch.optim.SGD, lr=1.0)}
    fit(run(method, steps=1, lr=1.0, max_grad_norm=1e-3, clip_parts=optim.each_tensor, **changed), out=tmp_path)
    norms = [float((parameter.detach() - before[name]).norm()) for name, parameter in method.named_parameters()]
    assert max(norms) == pytest.approx(1e-3, rel=1e-3) and sum(norm > 9.9e-4 for norm in norms) > 5


def test_a_bad_step_leaves_no_trace(tmp_path, caplog):
    """Parameters, optimizer, buffers: the run is the one that never saw the step, but for the draws in it."""
    states = []
    method = built(Normed, broken={3})

    class Spy(Guard):
        def note(self):
            super().note()
            states.append({name: value.clone() for name, value in self.method.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidssl.train.loop.Guard", Spy)
        fit(run(method), out=tmp_path, log_every=100)
    assert "step 3 is skipped" in caplog.text and "vidssl replay" in caplog.text
    for name, value in states[3].items():
        assert torch.equal(value, states[4][name]), name
    assert not torch.equal(states[2]["encoder.net.1.running_mean"], states[3]["encoder.net.1.running_mean"])
    assert float(method.seen) == 11


def test_a_recorded_step_computes_the_same_again(tmp_path, caplog):
    fit(run(built(Normed, broken={3})), out=tmp_path, log_every=100)
    folder = tmp_path / "nonfinite" / "step_00000003"
    result = guard.replay(Normed(broken={3}), folder)
    assert (
        math.isnan(result.losses["loss"]) and math.isnan(result.recorded["loss"]) and math.isnan(result.grad_norm)
    )
    assert result.modules[0] == "head.0"  # the division comes before it
    assert "head.1.weight" in result.parameters and "encoder.net.0.weight" in result.parameters
    # Samples and draws are those of the step: without the fault the loss is what the step would have had.
    healthy = built(Normed)
    fit(run(healthy, steps=12), out=tmp_path / "healthy", log_every=1)
    assert guard.replay(Normed(), folder).losses["loss"] == log(tmp_path / "healthy")[3]["loss"]


def test_records_are_few(tmp_path, caplog):
    fit(run(built(Normed, broken={1, 3, 5, 7, 9})), out=tmp_path, log_every=100)
    assert sorted(path.name for path in (tmp_path / "nonfinite").iterdir()) == [
        "step_00000001",
        "step_00000003",
        "step_00000005",
    ]
    assert "takes no more" in caplog.text


CONFIG = """
import torch
from functools import partial, partialmethod
from test_guard import Normed, run as tiny

from pathlib import Path

def run(root: Path, *, steps: int = 4, lists: tuple[Path, ...] = (Path("a/b"), Path("c")), name: str = "x",
        sizes: tuple[int, int] = (1, 2), other: Path | None = None, names: list[str] | None = None):
    assert root.resolve().is_dir() and [one.name for one in lists] == ["b", "c"], lists
    assert isinstance(lists, tuple) and sizes == (1, 2) and (other is None or other.name) and name.upper() == "X"
    assert names is None or names == ["u", "v"]
    return tiny(Normed(broken={2}, num_steps=4), steps=steps)
"""


def test_replay_command(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    (tmp_path / "breaks_at_two.py").write_text(CONFIG)
    words = [
        str(tmp_path / "breaks_at_two.py"),
        "--root",
        ".",
        "--other",
        "d/e",
        "--names",
        "u",
        "v",
        "--out",
        str(tmp_path / "run"),
        "--num-workers",
        "0",
    ]
    assert main(["pretrain", *words, "--device", "cpu"]) == 0
    assert main(["replay", str(tmp_path / "run"), "--step", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "loss: nan (was nan)" in printed and "first output that is not finite: head.0" in printed
    assert main(["replay", str(tmp_path / "run"), "--step", "1"]) == 2
    assert "step_00000002/rank0.pt" in capsys.readouterr().err


class Large(MAE):
    """Has room for two samples at a time."""

    def forward(self, batch, progress):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().forward(batch, progress)


def large() -> MAE:
    method = mae()
    method.__class__ = Large
    return method


def test_memory_that_runs_out_halves_the_parts(tmp_path, caplog):
    whole = trained(built(mae), tmp_path / "whole")
    halved = trained(built(large), tmp_path / "halved", halve_on_oom=True)
    assert halved[0] == pytest.approx(whole[0], rel=1e-5)
    assert largest_difference(whole[1], halved[1]) < 1e-6
    assert "--accumulate 4 starts with them" in caplog.text and len(halved[0]) == 4


def test_memory_that_runs_out_puts_draws_and_buffers_back(tmp_path):
    class Room(Normed):
        tried = 0

        def forward(self, batch, progress):
            losses = super().forward(batch, progress)
            if len(batch) == 8:
                self.tried += 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return losses

    after_oom, from_the_start = built(Room), built(Normed)
    first = trained(after_oom, tmp_path / "a", halve_on_oom=True)
    second = trained(from_the_start, tmp_path / "b", accumulate=2)
    assert after_oom.tried == 1 and first[0] == second[0]
    assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())


def test_too_little_memory_is_said_with_sizes(tmp_path):
    message = r"with 8 samples x 1 clips x 1 frames of 24 x 24 px at once .*larger --accumulate, or --halve-on-oom"
    with pytest.raises(MemoryError, match=message):
        fit(run(built(large)), out=tmp_path)
    with pytest.raises(ValueError, match="--accumulate is 0"):
        fit(run(built(mae)), out=tmp_path, accumulate=0)


def test_activations_computed_again_change_no_bit(tmp_path):
    def memory_and_gradients(again: bool):
        method = built(mae, depth=4)
        if again:
            assert checkpoint_blocks(method) == 5
        kept = {}

        def keep(value):
            kept[value.untyped_storage().data_ptr()] = value
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            losses = method(first_batch(method), 0.5)
        losses["loss"].backward()
        size = sum(value.untyped_storage().nbytes() for value in kept.values())
        return size, [p.grad for p in method.parameters()]

    (kept_all, expected), (kept_inputs, found) = memory_and_gradients(False), memory_and_gradients(True)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert kept_inputs < 0.5 * kept_all
    with pytest.raises(ValueError, match="Normed has no transformer block"):
        checkpoint_blocks(Normed())


class NoStopGradient(BYOL):
    """BYOL whose targets get gradients and come from the student: nothing keeps the projections apart."""

    def forward(self, batch, progress):
        video = batch.video[:, 0]
        first, second = (view(video, draws.mix(batch.seed, number)) for number, view in enumerate(self.views))
        targets = self.projector(self.encoder(first)), self.projector(self.encoder(second))
        loss = distance(self.predict(first), targets[1]) + distance(self.predict(second), targets[0])
        return {"loss": loss.mean()}


@pytest.mark.parametrize(("kind", "warned"), [(BYOL, False), (NoStopGradient, True)])
def test_a_collapse_is_told_once(tmp_path, caplog, kind, warned):
    torch.manual_seed(0)
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = recipes.byol(16, view=0), recipes.byol(16, view=1)
    method = kind(encoder, views=views, hidden_dim=64, out_dim=32)
    fit(run(method, steps=120, lr=0.03), out=tmp_path, log_every=10, picture_every=1000)
    assert caplog.text.count("have collapsed") == int(warned)


class Puts(Normed):
    """Uses an operator of which torch has no deterministic kernel."""

    def forward(self, batch, progress):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        return super().forward(batch, progress)


def test_a_reproducible_run_gives_the_same_bits_twice_and_allows_nothing_else(tmp_path):
    first = trained(built(Normed), tmp_path / "first", reproducible=True)
    second = trained(built(Normed), tmp_path / "second", reproducible=True)
    assert first[0] == second[0] and largest_difference(first[1], second[1]) == 0
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        fit(run(built(Puts)), out=tmp_path / "puts", reproducible=True)
    assert not torch.are_deterministic_algorithms_enabled()
    fit(run(built(Puts), steps=1), out=tmp_path / "allowed")


class Shown(Method):
    """A method without draws, to be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConvNet(widths=(8, 16), strides=(2, 2))
        self.head = nn.Linear(16, 2)
        self.clips = partial(random_clips, num_frames=1)

    def forward(self, batch, progress):
        return {"loss": F.cross_entropy(self.head(self.encoder(batch.video[:, 0].float() / 255)), batch.index % 2)}


def test_a_compiled_run_is_the_same_run(tmp_path, monkeypatch):
    """With the compiler's front end alone: its code generator takes minutes on a CPU."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    plain = trained(built(Shown), tmp_path / "plain")
    compiled = trained(built(Shown), tmp_path / "compiled", compile=True)
    assert graphs and compiled[0] == plain[0]
    assert plain[1].keys() == compiled[1].keys() and largest_difference(plain[1], compiled[1]) == 0
