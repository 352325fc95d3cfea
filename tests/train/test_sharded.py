"""FSDP2 and DCP on two processes: the run that is cut is the run that is not, and goes on with any number of them."""

import json
import logging
import math
import os
import pickle
import resource
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import context
from safetensors.torch import load_file
from test_contract import VIDEOS, deepcluster, moco
from tiny_training import assert_equal, log
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from vidssl import Run, fit, load_encoder, methods, optim
from vidssl.augment import RandomResizedCrop, recipes
from vidssl.data import ArrayDataset
from vidssl.methods.image.dino import DINOHead
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.train import checkpoint, distcp
from vidssl.train.processes import leave

STEPS, HALF, BAD_STEP = 6, 3, 2
# Learning rate and epsilon: of gradients that are zero but for rounding (1e-8 and less) Adam must not make steps.
ADAM = partial(torch.optim.AdamW, lr=1e-2, eps=1e-3, weight_decay=0.05)


def mae() -> methods.MAE:
    net = VideoViT(dim=24, depth=2, num_heads=2, patch_px=4, tubelet_frames=1)
    decoder = TokenPredictor(net.dim, net.patch_values, width=12, depth=1, num_heads=2)
    return methods.MAE(net, decoder=decoder, view=RandomResizedCrop(16))


def dino() -> methods.DINO:
    """Blocks that are called for large and for small crops, and those of a teacher."""
    net = VideoViT(dim=24, depth=2, num_heads=2, patch_px=4, tubelet_frames=1)
    views = recipes.dino_global(16, view=0), recipes.dino_global(16, view=1)
    head = DINOHead(net.dim, num_prototypes=8, hidden_dim=16, bottleneck_dim=8)
    return methods.DINO(net, global_views=views, local_view=recipes.dino_local(8), num_local_views=2, head=head)


# How gradients are clipped, which must not depend on how they are cut; MoCo's as one.
PARTS = {mae: optim.each_module("encoder", "decoder"), dino: optim.each_tensor}


def run_of(build, *, batch_size: int, optimizer=ADAM, seed: int = 4) -> Run:
    torch.manual_seed(seed)
    method = build()
    return Run(
        method=method,
        dataset=ArrayDataset(VIDEOS, clips=method.clips),
        optimizer=optimizer,
        learning_rate=optim.constant(1e-2),
        steps=STEPS,
        batch_size=batch_size,
        max_grad_norm=0.05,
        clip_parts=PARTS.get(build, optim.as_one),
    )


def evaluate(encoder) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """On the first process alone, outside of the method's forward pass."""
    clip = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 1, 3, 16, 16)
    return {"brightness": float(encoder(clip).square().mean())}, {}


def train(out: Path, build=mae, *, batch_size: int = 2, run: Run | None = None, **options):
    options = {"log_every": 1, "save_every": HALF, "picture_every": 2, "evaluate_every": 2} | options
    return fit(run or run_of(build, batch_size=batch_size), out=out, seed=5, evaluate=evaluate, **options)


def begun(source: Path, out: Path) -> Path:
    """A run folder that holds the first half of another run."""
    name = f"checkpoints/step_{HALF:08d}"
    shutil.copytree(source / name, out / name)
    return out


def spoiled(rank: int, root: Path) -> Run:
    """MoCo, where the loss of rank 1 is no number in one step; writes down what the following ones begin with."""
    made: list[torch.optim.Optimizer] = []

    def optimizer(groups):
        made.append(optim.LARS(groups, lr=1e-2, weight_decay=0.05))
        return made[0]

    run = run_of(moco, batch_size=2, optimizer=optimizer)
    forward, seen = run.method.forward, {}

    def followed(batch, progress):
        step = round(progress * STEPS)
        if run.method.training:
            tensors = {**dict(run.method.named_parameters()), **dict(run.method.named_buffers())}
            seen[step] = {name: value.detach().clone() for name, value in tensors.items()}
            for number, moments in enumerate(made[0].state.values()):
                local = {key: getattr(value, "_local_tensor", value) for key, value in moments.items()}
                seen[step] |= {f"{number}.{key}": value.clone() for key, value in local.items()}
            torch.save(seen, root / f"seen{rank}.pt")
        losses = forward(batch, progress)
        return {**losses, "loss": losses["loss"] + math.nan} if (step, rank) == (BAD_STEP, 1) else losses

    run.method.forward = followed
    return run


def full_disk(rank: int) -> Run:
    """MAE, where the second process can write no file of some size in the third and fourth step."""
    run = run_of(mae, batch_size=2)
    forward = run.method.forward
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def followed(batch, progress):
        is_full = rank == 1 and round(progress * STEPS) in (2, 3)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384 if is_full else before[0], before[1]))
        return forward(batch, progress)

    run.method.forward = followed
    return run


def process(rank: int, root: Path) -> None:
    """One of two processes, which train this and that one after the other."""
    torch.set_num_threads(1)
    logging.basicConfig(filename=root / f"rank{rank}.log")
    output = (root / f"rank{rank}.out").open("w")
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)

    def join(name: str) -> Path:
        store = f"file://{root}/{name}.store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
        return root / name

    def going_on(source: str, name: str) -> Path:
        out = join(name)
        if rank == 0:
            begun(root / source, out)
        dist.barrier()
        return out

    train(join("replicated"))
    # The weights of the first process count.
    train(join("cut"), run=run_of(mae, batch_size=2, seed=4 + rank), sharded=True)
    train(join("dino_replicated"), dino, accumulate=2, precision="bfloat16")
    options = {"accumulate": 2, "precision": "bfloat16", "checkpoint_activations": True}
    train(join("dino_cut"), dino, sharded=True, **options)
    train(going_on("cut", "cut_resumed"), sharded=True)
    train(going_on("cut", "replicated_resumed"))
    train(going_on("one", "one_resumed"), sharded=True)
    for name, sharded in (("moco_replicated", False), ("moco_cut", True)):
        out = join(name)
        out.mkdir(exist_ok=True)
        train(out, run=spoiled(rank, out), sharded=sharded)
    train(join("full"), run=full_disk(rank), sharded=True, save_every=2)
    out = join("deepcluster")
    try:
        train(out, deepcluster, sharded=True, evaluate_every=100)
    except ValueError as error:
        (root / f"deepcluster{rank}.txt").write_text(str(error))
    leave()


def killed(rank: int, out: Path) -> None:
    """One of two processes, of which the second dies when it has half-written its part of the second checkpoint."""
    torch.set_num_threads(1)
    output = (out / f"rank{rank}.out").open("w")
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    write, folders = distcp.write, []

    def dying(folder: Path, parts) -> None:
        folders.append(folder)
        if (rank, len(folders)) == (1, 2):
            (folder / "__1_0.distcp").write_bytes(b"PK half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        write(folder, parts)

    distcp.write = dying
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
    train(out, sharded=True, save_every=2)


def two(target, folder: Path) -> list[int | None]:
    """Run two processes to their end; their exit codes."""
    processes = [context.Process(target=target, args=(rank, folder)) for rank in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
    for each in processes:
        if each.is_alive():
            each.kill()
            each.join()
    return [each.exitcode for each in processes]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """What two processes made of several runs; "one" is of a single process, whose batch is theirs together."""
    root = tmp_path_factory.mktemp("sharded")
    train(root / "one", batch_size=4)
    assert two(process, root) == [0, 0], (root / "rank0.out").read_text()[-3000:]
    return root


def whole(out: Path, step: int = STEPS) -> dict:
    """The state of a checkpoint, its parts put together."""
    state = checkpoint.load(out / "checkpoints" / f"step_{step:08d}")
    shards = state.pop("shards")
    return state if shards is None else distcp._put_parts(state, distcp.read(shards))


def assert_close(first: Path, second: Path) -> None:
    """Weights, teachers, queues and moments to 1e-5; statistics of batch norm are each process's own."""
    own = ("running_mean", "running_var", "num_batches_tracked")
    states = [whole(out) for out in (first, second)]
    tensors = [
        {name: value for name, value in state["method"].items() if not name.endswith(own)} for state in states
    ]
    moments = [
        {
            f"{number}.{key}": value
            for number, values in state["optimizer"]["state"].items()
            for key, value in values.items()
        }
        for state in states
    ]
    assert len(moments[0]) >= 10
    for one, other in (tensors, moments):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(
                value, other[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("method", ["", "moco_", "dino_"])
def test_the_run_that_is_cut_is_the_run_that_is_not(root, method):
    replicated, cut = root / f"{method}replicated", root / f"{method}cut"
    assert_close(replicated, cut)
    pairs = list(zip(log(replicated), log(cut), strict=True))
    assert len(pairs) > STEPS and any("brightness" in line for line, _ in pairs)
    for line, other in pairs:  # losses, norms of gradients, monitors, and the evaluation by one process alone
        assert other == pytest.approx(line, rel=1e-4, abs=1e-5, nan_ok=True)
    assert {path.name for path in (cut / "pictures").rglob("*.*")} == {
        path.name for path in (replicated / "pictures").rglob("*.*")
    }


def test_each_process_holds_and_writes_a_part(root):
    """Weights and moments are on disk once, about half of them in the file of each process."""
    shards = root / "cut" / "checkpoints" / f"step_{STEPS:08d}" / "shards"
    assert sorted(path.name for path in shards.iterdir()) == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    metadata = distcp._Reader(shards).metadata
    num_values = {"__0_0.distcp": 0, "__1_0.distcp": 0}
    for index, info in metadata.storage_data.items():
        chunks = metadata.state_dict_metadata[index.fqn].chunks
        (chunk,) = (chunk for chunk in chunks if chunk.offsets == index.offset)
        num_values[info.relative_path] += math.prod(chunk.sizes)
    num_parameters = sum(parameter.numel() for parameter in mae().parameters())
    assert sum(num_values.values()) == 3 * num_parameters
    assert max(num_values.values()) < 0.52 * 3 * num_parameters
    # In the common file none of them is left.
    left = torch.load(shards.parent / "state.pt", weights_only=True)
    assert set(left["method"].values()) == {None} and left["method"].keys() == mae().state_dict().keys()


def test_it_goes_on_bit_for_bit(root):
    assert_equal(whole(root / "cut"), whole(root / "cut_resumed"))
    half = [line for line in log(root / "cut") if line["step"] > HALF]
    assert log(root / "cut_resumed") == half and len(half) >= HALF


def test_it_goes_on_with_another_number_of_processes(root, tmp_path):
    assert_close(root / "cut", root / "replicated_resumed")  # two, each with all of it
    assert_close(root / "one", root / "one_resumed")  # from one to two
    train(begun(root / "cut", tmp_path / "alone"), batch_size=4)  # from two to one
    assert_close(root / "cut", tmp_path / "alone")
    assert len(log(tmp_path / "alone")) == len(log(root / "cut_resumed"))


def test_the_exported_encoder_is_that_of_a_run_that_is_not_cut(root, tmp_path):
    parts = distcp.read(root / "cut" / "checkpoints" / f"step_{STEPS:08d}" / "shards")
    exported = load_file(root / "cut" / "encoder.safetensors")
    names = {name for name, _ in mae().encoder.named_parameters()}
    assert names <= exported.keys()
    for name in names:
        assert torch.equal(exported[name], parts[f"/method/encoder.{name}"])
    shutil.copytree(root / "cut" / "checkpoints", tmp_path / "checkpoints")
    method = train(tmp_path, batch_size=4)  # it is complete: nothing but the export is done
    for name in ("encoder.safetensors", "encoder.json"):
        assert (tmp_path / name).read_bytes() == (root / "cut" / name).read_bytes()
    clip = torch.rand(2, 1, 3, 16, 16)
    assert torch.equal(load_encoder(str(root / "cut"))(clip), method.encoder.eval()(clip))


def test_a_loss_that_is_no_number_on_one_changes_nothing_on_both(root):
    seen = [torch.load(root / "moco_cut" / f"seen{rank}.pt", weights_only=True) for rank in range(2)]
    for values in seen:
        assert any(name.endswith("displacement") for name in values[BAD_STEP])
        assert_equal(values[BAD_STEP], values[BAD_STEP + 1])
        for step in (BAD_STEP - 1, BAD_STEP + 1):
            for name in ("encoder.net.0.weight", "0.displacement", "queue"):
                found = [values[number][name] for number in (step, step + 1)]
                assert not torch.equal(*found), name
    record = root / "moco_cut" / "nonfinite" / f"step_{BAD_STEP:08d}"
    assert sorted(path.name for path in record.iterdir()) == ["method.pt", "rank0.pt", "rank1.pt"]
    recorded = torch.load(record / "method.pt", weights_only=True)
    assert recorded.keys() == moco().state_dict().keys()
    for name, value in recorded.items():
        assert torch.equal(value, seen[0][BAD_STEP][name])


def test_a_disk_that_is_full_for_one_is_a_save_that_failed_for_both(root):
    names = sorted(path.name for path in (root / "full" / "checkpoints").iterdir())
    assert names == ["step_00000002", "step_00000006"]
    text = (root / "rank0.log").read_text()
    assert "the state of step 4 is not saved" in text and "process 1 could not write its part" in text
    assert_close(root / "full", root / "cut")


def test_a_death_within_a_save_leaves_the_one_before(root, tmp_path):
    assert two(killed, tmp_path) == [1, -signal.SIGKILL]
    assert "process 0 of 2 lost the others" in (tmp_path / "rank0.out").read_text()
    (path,) = (tmp_path / "checkpoints").glob("step_*")
    assert path.name == "step_00000002" and checkpoint.load(path)["step"] == 2
    train(tmp_path, batch_size=4)
    assert_close(root / "cut", tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_00000003", "step_00000006"]


def test_a_method_that_draws_weights_between_epochs_is_refused(root):
    for rank in range(2):
        assert "DeepCluster draws weights anew" in (root / f"deepcluster{rank}.txt").read_text()


@pytest.mark.parametrize("name", ["shards/__1_0.distcp", "shards/.metadata"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_part_is_noticed_and_the_one_before_is_used(root, tmp_path, name, damage):
    shutil.copytree(root / "cut" / "checkpoints", tmp_path / "checkpoints")
    file = tmp_path / "checkpoints" / f"step_{STEPS:08d}" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "changed" else content[: len(content) // 2])
    with pytest.raises(checkpoint.Damaged, match=f"step_{STEPS:08d} is damaged"):
        checkpoint.check(file.parents[1])
    assert checkpoint.recover(tmp_path / "checkpoints").name == f"step_{HALF:08d}"


class Bomb:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def replaced(source: Path, out: Path, metadata) -> Path:
    """A run whose newest checkpoint has other metadata, and a manifest that fits it."""
    path = begun(source, out) / "checkpoints" / f"step_{HALF:08d}"
    (path / "shards" / ".metadata").write_bytes(pickle.dumps(metadata))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["files"]["shards/.metadata"] = checkpoint.measure(path / "shards" / ".metadata")
    (path / "manifest.json").write_bytes(checkpoint._manifest_bytes(manifest))
    return out


def test_python_objects_beside_the_parts_are_refused(root, tmp_path):
    shards = root / "cut" / "checkpoints" / f"step_{HALF:08d}" / "shards"
    harmless = distcp._Reader(shards).metadata
    fresh = partial(Metadata, planner_data=None, storage_meta=harmless.storage_meta, version=harmless.version)
    kinds, places = dict(harmless.state_dict_metadata), dict(harmless.storage_data)
    name = next(iter(kinds))
    # torch unpickles what metadata calls bytes; here they are the tensor itself, so that they would be read at all.
    as_bytes = fresh({**kinds, name: BytesStorageMetadata()}, storage_data=places)
    elsewhere = {index: type(info)("../../../secret", info.offset, info.length) for index, info in places.items()}
    cases = {
        "bomb": (Bomb(tmp_path / "exploded"), "it names posix.mkdir"),
        "hidden": (fresh({name: Bomb(tmp_path / "exploded")}, storage_data=places), "it names posix.mkdir"),
        "bytes": (as_bytes, f"{name} is no tensor"),
        "elsewhere": (fresh(kinds, storage_data=elsewhere), "../../../secret is no file of the folder"),
        "empty": (fresh(kinds), "no attribute 'values'"),
        "list": ([1, 2], "it is of list"),
    }
    for case, (metadata, message) in cases.items():
        out = replaced(root / "cut", tmp_path / case, metadata)
        with pytest.raises(
            ValueError, match=r"shards is refused: its \.metadata is not as torch writes it"
        ) as refused:
            train(out, batch_size=4)
        assert message in str(refused.value)
    assert not (tmp_path / "exploded").exists()
