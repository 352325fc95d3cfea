"""Rates, decay, momentum and temperatures of recipes against the formulas of papers and official code."""

import inspect
import math
import sys

import pytest
from test_configs import FURTHER, HEADS, SMALL

from vidssl import catalog, config, optim
from vidssl.methods import BYOL
from vidssl.train.pace import Pace


def half_cosine(start: float, end: float, place: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * place)) / 2


def dino(progress: float, batch: int) -> dict[str, float]:
    """Caron et al. 2021, "Implementation details": rate 0.0005 * batch / 256, 10 epochs of warm-up, cosine; decay 0.04
    to 0.4 by a cosine; teacher temperature 0.04 to 0.07 in 30 epochs. main_dino.py: 100 epochs, rate to 1e-6, momentum
    0.996 to 1 by a cosine."""
    epoch, peak = 100 * progress, 5e-4 * batch / 256
    return {
        "learning_rate": peak * epoch / 10 if epoch < 10 else half_cosine(peak, 1e-6, (epoch - 10) / 90),
        "weight_decay": half_cosine(0.04, 0.4, progress),
        "momentum": half_cosine(0.996, 1.0, progress),
        "teacher_temperature": 0.04 + 0.03 * min(epoch / 30, 1),
    }


def mae(progress: float, batch: int) -> dict[str, float]:
    """He et al. 2021, Table 8: rate 1.5e-4 * batch / 256, decay 0.05, 40 of 800 epochs of warm-up, cosine."""
    epoch, peak = 800 * progress, 1.5e-4 * batch / 256
    return {
        "learning_rate": peak * epoch / 40 if epoch < 40 else half_cosine(peak, 0.0, (epoch - 40) / 760),
        "weight_decay": 0.05,
    }


def videomae(progress: float, batch: int) -> dict[str, float]:
    """Tong et al. 2022, Table 9: as MAE; run_mae_pretraining.py: min_lr 1e-5 * batch / 256, too."""
    epoch, peak, end = 800 * progress, 1.5e-4 * batch / 256, 1e-5 * batch / 256
    return {
        "learning_rate": peak * epoch / 40 if epoch < 40 else half_cosine(peak, end, (epoch - 40) / 760),
        "weight_decay": 0.05,
    }


def vjepa(progress: float, batch: int) -> dict[str, float]:
    """facebookresearch/jepa, configs/pretrain/vitl16.yaml, src/utils/schedulers.py: start_lr 2e-4, lr 6.25e-4, final_lr
    1e-6, warmup 40, epochs 300, ipe_scale 1.25, weight_decay 0.04 to 0.4, ema 0.998 to 1.0; 3072 clips a step."""
    epoch, share = 300 * progress, batch / 3072
    rising = 2e-4 + (6.25e-4 - 2e-4) * epoch / 40
    falling = half_cosine(6.25e-4, 1e-6, (epoch - 40) / (375 - 40))
    return {
        "learning_rate": share * (rising if epoch < 40 else falling),
        "weight_decay": half_cosine(0.04, 0.4, epoch / 375),
        "momentum": 0.998 + (1 - 0.998) * epoch / 375,
    }


def simclr(progress: float, batch: int) -> dict[str, float]:
    """Chen et al. 2020, Sec. 2.2, App. B.6: rate 0.3 * batch / 256, 10 of 100 epochs of warm-up, cosine, decay 1e-6."""
    epoch, peak = 100 * progress, 0.3 * batch / 256
    rate = peak * epoch / 10 if epoch < 10 else half_cosine(peak, 0.0, (epoch - 10) / 90)
    return {"learning_rate": rate, "weight_decay": 1e-6}


def byol(progress: float, batch: int) -> dict[str, float]:
    """deepmind-research/byol, configs/byol.py, 100 epochs: 0.45 * batch / 256, 10 of warm-up, decay 1e-6, 0.99 to 1."""
    epoch, peak = 100 * progress, 0.45 * batch / 256
    return {
        "learning_rate": peak * epoch / 10 if epoch < 10 else half_cosine(peak, 0.0, (epoch - 10) / 90),
        "weight_decay": 1e-6,
        "momentum": half_cosine(0.99, 1.0, progress),
    }


def moco(progress: float, batch: int) -> dict[str, float]:
    """Chen et al. 2020 (version 2), main_moco.py: rate 0.03 for 256 by a cosine, decay 1e-4."""
    return {"learning_rate": half_cosine(0.03 * batch / 256, 0.0, progress), "weight_decay": 1e-4}


def simsiam(progress: float, batch: int) -> dict[str, float]:
    """Chen and He 2020, Sec. 3: rate 0.05 * batch / 256 by a cosine, decay 1e-4."""
    return {"learning_rate": half_cosine(0.05 * batch / 256, 0.0, progress), "weight_decay": 1e-4}


def barlow_twins(progress: float, batch: int) -> dict[str, float]:
    """facebookresearch/barlowtwins, main.py: rate 0.2 * batch / 256, 10 of 1000 epochs of warm-up, a cosine to a
    thousandth; decay 1e-6. facebookresearch/vicreg, main_vicreg.py, has the same."""
    epoch, peak = 1000 * progress, 0.2 * batch / 256
    rate = peak * epoch / 10 if epoch < 10 else half_cosine(peak, peak / 1000, (epoch - 10) / 990)
    return {"learning_rate": rate, "weight_decay": 1e-6}


def swav(progress: float, batch: int) -> dict[str, float]:
    """facebookresearch/swav, scripts/swav_200ep_bs256_pretrain.sh: rate 0.6 to 0.0006 by a cosine, decay 1e-6."""
    return {"learning_rate": half_cosine(0.6, 0.0006, progress) * batch / 256, "weight_decay": 1e-6}


def deepcluster_v2(progress: float, batch: int) -> dict[str, float]:
    """facebookresearch/swav, scripts/deepclusterv2_400ep_pretrain.sh: for 4096 pictures 0.3 to 4.8 in 10 epochs, then
    to 0.0048 by a cosine; decay 1e-6."""
    epoch = 400 * progress
    rate = 0.3 + 4.5 * epoch / 10 if epoch < 10 else half_cosine(4.8, 0.0048, (epoch - 10) / 390)
    return {"learning_rate": rate * batch / 4096, "weight_decay": 1e-6}


def moco_v3(progress: float, batch: int) -> dict[str, float]:
    """Chen, Xie and He 2021, Sec. 4.1: 1.5e-4 * batch / 256, 40 of 300 epochs of warm-up, decay 0.1, 0.99 to 1."""
    epoch, peak = 300 * progress, 1.5e-4 * batch / 256
    return {
        "learning_rate": peak * epoch / 40 if epoch < 40 else half_cosine(peak, 0.0, (epoch - 40) / 260),
        "weight_decay": 0.1,
        "momentum": half_cosine(0.99, 1.0, progress),
    }


def lightly(progress: float, batch: int) -> dict[str, float]:
    """lightly, cifar10_benchmark.py: SGD, rate 0.06 for 128 by a cosine (there by epoch), decay 5e-4."""
    return {"learning_rate": half_cosine(0.06 * batch / 128, 0.0, progress), "weight_decay": 5e-4}


def lightly_byol(progress: float, batch: int) -> dict[str, float]:
    """A quarter of the rate and four times the decay: its loss is (c + c') / -2, ours 4 - 2 (c + c')."""
    rate = lightly(progress, batch)["learning_rate"]
    return {"learning_rate": rate / 4, "weight_decay": 2e-3, "momentum": 0.99}


def lightly_dino(progress: float, batch: int) -> dict[str, float]:
    return lightly(progress, batch) | {"momentum": 0.99, "teacher_temperature": 0.04}


def lightly_swav(progress: float, batch: int) -> dict[str, float]:
    """Adam, 0.001, decay 1e-6."""
    return {"learning_rate": half_cosine(1e-3 * batch / 128, 0.0, progress), "weight_decay": 1e-6}


# Recipe, formulas, samples per process, and processes and samples per step of the paper.
TABLE = [
    ("image/dino_vits16", dino, 64, 16, 1024),
    ("image/mae_vit_base", mae, 64, 64, 4096),
    ("video/videomae_vit_base", videomae, 32, 64, 2048),
    ("video/vjepa_vit_large", vjepa, 24, 128, 3072),
    ("image/simclr_resnet18", simclr, 256, 16, 4096),
    ("image/byol_resnet18", byol, 256, 16, 4096),
    ("image/moco_resnet18", moco, 256, 1, 256),
    ("image/simsiam_resnet18", simsiam, 256, 2, 512),
    ("image/barlow_twins_resnet18", barlow_twins, 256, 8, 2048),
    ("image/vicreg_resnet18", barlow_twins, 256, 8, 2048),
    ("image/swav_resnet18", swav, 256, 1, 256),
    ("image/deepcluster_v2_resnet18", deepcluster_v2, 256, 16, 4096),
    ("image/moco_v3_vits16", moco_v3, 256, 16, 4096),
    *((f"image/cifar10_{name}", lightly, 128, 1, 128) for name in ("simclr", "moco", "simsiam", "barlow_twins")),
    ("image/cifar10_byol", lightly_byol, 128, 1, 128),
    ("image/cifar10_dino", lightly_dino, 128, 1, 128),
    ("image/cifar10_swav", lightly_swav, 128, 1, 128),
]


@pytest.fixture
def recipe(monkeypatch):
    """Name -> run with the paper's figures, tiny networks and no data."""
    for head, size, value in [*HEADS, (BYOL, "hidden_dim", 16)]:
        monkeypatch.setitem(head.__init__.__kwdefaults__, size, value)

    def build(name: str):
        chosen = config.load(name)
        for module in {
            chosen.path.stem,
            "colorization_resnet18",
        } & sys.modules.keys():  # the demo's is built on it
            for reader in ("scan", "VideoDataset"):
                monkeypatch.setattr(f"{module}.{reader}", lambda *arguments, **options: range(4), raising=False)
        options = inspect.signature(chosen.run).parameters.keys() - {"steps", "batch_size"}
        small = {**SMALL, **FURTHER.get(name, {})}
        return chosen.run("nowhere", **{option: value for option, value in small.items() if option in options})

    return build


def figures(run, progress: float) -> dict[str, float]:
    groups = run.method.param_groups()
    pace = Pace(run.method, groups, learning_rate=run.learning_rate, weight_decay=run.weight_decay)
    return pace.set(run.optimizer(groups), progress)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_figures_are_those_of_the_paper(recipe, monkeypatch, row):
    name, formulas, batch_size, num_processes, paper_batch = row
    alone = recipe(name)
    assert alone.batch_size == batch_size and batch_size * num_processes == paper_batch
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(num_processes))
    together = recipe(name)
    for progress in (0.0, 0.5 / alone.steps, 0.03, 0.2, 0.5, 1.0):
        assert figures(alone, progress) == pytest.approx(formulas(progress, batch_size), rel=1e-9, abs=1e-15)
        assert figures(together, progress) == pytest.approx(formulas(progress, paper_batch), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", [entry.name for entry in catalog.entries()])
def test_every_rate_follows_the_samples_of_a_step(recipe, monkeypatch, name):
    def highest() -> float:
        run = recipe(name)
        return max(run.learning_rate(place / 100) for place in range(101))

    alone = highest()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "64")
    assert highest() == pytest.approx(64 * alone, rel=1e-9)


def test_moving_sums_of_lars_are_those_of_the_authors(recipe):
    """SimCLR's code has the rate inside of the sum; outside BYOL's, Barlow Twins', VICReg's and, by LARC, SwAV's."""
    outside = ("byol", "barlow_twins", "vicreg", "swav", "deepcluster_v2")
    for name, is_inside in (
        ("image/simclr_resnet18", True),
        *((f"image/{one}_resnet18", False) for one in outside),
    ):
        run = recipe(name)
        assert run.optimizer(run.method.param_groups()).defaults["classic_momentum"] is is_inside


def test_papers_of_one_size_of_step_have_its_highest_rate(recipe, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    for name, num_processes, progress, rate in (
        ("image/mae_vit_base", 64, 0.05, 2.4e-3),
        ("video/videomae_vit_base", 64, 0.05, 1.2e-3),
        ("video/vjepa_vit_large", 128, 40 / 300, 6.25e-4),
        ("video/vjepa_vit_large", 128, 1.0, 7.5e-5),
        ("image/dino_vits16", 16, 0.1, 2e-3),
    ):
        monkeypatch.setenv("WORLD_SIZE", str(num_processes))
        assert recipe(name).learning_rate(progress) == pytest.approx(rate, rel=0.01)


def test_how_recipes_clip_and_leave_out(recipe):
    dino, vjepa = recipe("image/dino_vits16"), recipe("video/vjepa_vit_large")
    assert (dino.max_grad_norm, vjepa.max_grad_norm) == (3.0, 10.0)
    assert dino.clip_parts is optim.each_tensor
    sizes = [sum(parameter.numel() for parameter in part) for part in vjepa.clip_parts(vjepa.method)]
    networks = (vjepa.method.student, vjepa.method.predictor)
    assert sizes == [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    rates = [[block.drop_path1 for block in net.net.blocks] for net in dino.method.networks().values()]
    assert rates[1][-1].drop_prob == pytest.approx(0.1) and rates[1][0].drop_prob == 0.0  # the student's
    assert not any(hasattr(path, "drop_prob") for path in rates[0])
    assert dino.method.student_temperature == 0.1  # Caron et al. 2021, "Implementation details"
