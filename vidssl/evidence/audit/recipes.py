"""Rates, decay, momentum and temperatures of recipes beside the schedules of the authors' code, step by step."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from ... import config
from ...train.run import Run
from .comparing import Row, imported

ONE_STEP_EARLIER = "theirs is at its peak one step earlier"
SMALL = {"dim": 48, "depth": 1, "num_heads": 2}


def recipe(name: str, **options: Any) -> Run:
    """Build a recipe without data."""
    chosen = config.load(name)
    module = sys.modules[chosen.path.stem]

    def nothing(*args: Any, **options: Any) -> range:
        return range(4)

    with patch.object(module, "scan", nothing), patch.object(module, "VideoDataset", nothing):
        return chosen.run("nowhere", **options)


def compare(
    quantity: str, ours: Callable[[float], float], theirs: Any, *, steps: range, of: int, declared: str = ""
) -> Row:
    """Compare a schedule at some steps, relative to its largest value.

    Args:
        quantity: What it says.
        ours: By progress.
        theirs: Of each step, counted from 0.
        steps: Which are compared.
        of: Steps of the training.
        declared: As of a `Row`.
    """
    expected = np.array([float(theirs[step]) for step in steps])
    found = np.array([ours(step / of) for step in steps])
    result = float(np.abs(found - expected).max() / np.abs(expected).max())
    return Row(quantity, result, declared=declared)


def dino(root: Path) -> list[Row]:
    """main_dino.py's calls of `cosine_scheduler`, 100 epochs of 10 steps on one process."""
    of = 1000
    run = recipe("image/dino_vits16", model="vit_tiny_patch16_224", steps=of, batch_size=64)
    assert run.weight_decay is not None
    own = run.method.schedules()
    with imported(root, "utils", "main_dino") as (utils, main_dino):
        rate = utils.cosine_scheduler(5e-4 * 64 / 256, 1e-6, 100, 10, warmup_epochs=10)
        decay = utils.cosine_scheduler(0.04, 0.4, 100, 10)
        momentum = utils.cosine_scheduler(0.996, 1, 100, 10)
        temperature = main_dino.DINOLoss(10, 10, 0.04, 0.07, 30, 100).teacher_temp_schedule.repeat(10)
        theirs = utils.get_params_groups(run.method.student)
    groups = run.method.param_groups()
    spared = [
        {id(parameter) for group in each if group.get("weight_decay") == 0.0 for parameter in group["params"]}
        for each in (groups, theirs)
    ]
    by_epoch = "by step; theirs by epoch, at 0.07 an epoch earlier"
    return [
        compare("rate after its warm-up", run.learning_rate, rate, steps=range(100, of), of=of),
        compare(
            "rate in its warm-up", run.learning_rate, rate, steps=range(100), of=of, declared=ONE_STEP_EARLIER
        ),
        compare("weight decay", run.weight_decay, decay, steps=range(of), of=of),
        compare("momentum", own["momentum"], momentum, steps=range(of), of=of),
        compare(
            "teacher's temperature",
            own["teacher_temperature"],
            temperature,
            steps=range(of),
            of=of,
            declared=by_epoch,
        ),
        Row("parameters without decay", float(len(spared[0] ^ spared[1]))),
    ]


def mae(root: Path) -> list[Row]:
    """util/lr_sched.py, 800 epochs of 4 steps."""
    of = 3200
    run = recipe("image/mae_vit_base", **SMALL, decoder_dim=48, decoder_depth=1, steps=of, batch_size=64)
    args = SimpleNamespace(lr=1.5e-4 * 64 / 256, min_lr=0.0, epochs=800, warmup_epochs=40)
    optimizer: Any = SimpleNamespace(param_groups=[])
    with imported(root, "util.lr_sched") as (module,):
        rates = [module.adjust_learning_rate(optimizer, step / 4, args) for step in range(of)]
    return [compare("rate", run.learning_rate, rates, steps=range(of), of=of)]


def videomae(root: Path) -> list[Row]:
    """run_mae_pretraining.py's call of `cosine_scheduler`, 800 epochs of 4 steps; who has weight decay."""
    of = 3200
    run = recipe("video/videomae_vit_base", **SMALL, decoder_dim=48, decoder_depth=1, steps=of, batch_size=32)
    stand_ins: dict[str, Any] = {"torch._six": {"inf": np.inf}, "tensorboardX": {"SummaryWriter": None}}
    with imported(root, "utils", stand_ins=stand_ins) as (utils,):
        rates = utils.cosine_scheduler(1.5e-4 * 32 / 256, 1e-5 * 32 / 256, 800, 4, warmup_epochs=40)
    return [
        compare("rate after its warm-up", run.learning_rate, rates, steps=range(160, of), of=of),
        compare(
            "rate in its warm-up", run.learning_rate, rates, steps=range(160), of=of, declared=ONE_STEP_EARLIER
        ),
        Row("decay of the mask token", declared="as of MAE's, theirs has none"),
    ]


def jepa(root: Path) -> list[Row]:
    """src/utils/schedulers.py as app/vjepa/utils.py calls it, 300 epochs of 10 steps."""
    of = 3000
    run = recipe("video/vjepa_vit_large", **SMALL, predictor_dim=48, predictor_depth=1, steps=of, batch_size=24)
    assert run.weight_decay is not None
    optimizer: Any = SimpleNamespace(param_groups=[{}])
    share, end = 24 / 3072, int(1.25 * 300 * 10)
    rates: dict[str, float] = {"start_lr": 2e-4 * share, "ref_lr": 6.25e-4 * share, "final_lr": 1e-6 * share}
    with imported(root, "src.utils.schedulers") as (module,):
        of_rate = module.WarmupCosineSchedule(optimizer, warmup_steps=400, T_max=end, **rates)
        of_decay = module.CosineWDSchedule(optimizer, ref_wd=0.04, final_wd=0.4, T_max=end)
        rate, decay = ([None, *(each.step() for _ in range(of))] for each in (of_rate, of_decay))
    momentum = [0.998 + step * (1.0 - 0.998) / end for step in range(of)]
    first_one = "theirs counts steps from 1"
    own = run.method.schedules()["momentum"]
    return [
        compare("rate by number of steps", run.learning_rate, rate, steps=range(1, of + 1), of=of),
        compare("rate of a step", run.learning_rate, rate[1:], steps=range(of), of=of, declared=first_one),
        compare("decay by number of steps", run.weight_decay, decay, steps=range(1, of + 1), of=of),
        compare("decay of a step", run.weight_decay, decay[1:], steps=range(of), of=of, declared=first_one),
        compare("momentum, restated", own, momentum, steps=range(of), of=of),
    ]


def moco(root: Path) -> list[Row]:
    """main_moco.py, both versions: 200 epochs."""
    names = "deeplearning", "deeplearning.cross_image_ssl", "deeplearning.cross_image_ssl.moco"
    stand_ins: dict[str, Any] = {name: {"__path__": []} for name in names}
    stand_ins |= {f"{names[-1]}.builder": {}, f"{names[-1]}.loader": {}}
    rows = []
    with imported(root, "main_moco", stand_ins=stand_ins) as (module,):
        for version in ("v1", "v2"):
            run = recipe("image/moco_resnet18", version=version, width=8, num_keys=512, steps=200)
            args = SimpleNamespace(lr=0.03, cos=version == "v2", epochs=200, schedule=[120, 160])
            groups: list[dict[str, float]] = [{}]
            rates = []
            for epoch in range(200):
                module.adjust_learning_rate(SimpleNamespace(param_groups=groups), epoch, args)
                rates.append(groups[0]["lr"])
            rows.append(compare(f"rate of {version} by epoch", run.learning_rate, rates, steps=range(200), of=200))
    return [*rows, Row("rate between epochs", declared="follows the cosine, theirs stays")]


def byol(root: Path) -> list[Row]:
    """schedules.py by the preset of configs/byol.py for 100 epochs."""
    of = 1000
    run = recipe("image/byol_resnet18", width=8, steps=of, batch_size=256)
    stand_ins: dict[str, Any] = {"jax": {"__path__": []}, "jax.numpy": vars(np)}
    with imported(root / "byol" / "utils", "schedules", stand_ins=stand_ins) as (module,):
        steps = np.arange(of, dtype=np.float64)
        rate = module.learning_schedule(steps, 256, 0.45, of, of // 10)
        momentum = module.target_ema(steps, 0.99, of)
    own = run.method.schedules()["momentum"]
    return [
        compare("rate", run.learning_rate, rate, steps=range(of), of=of),
        compare("momentum", own, momentum, steps=range(of), of=of),
    ]


def rotnet(root: Path) -> list[Row]:
    """config/ImageNet_RotNet_AlexNet.py: rates of 50 epochs."""
    run = recipe("image/rotation_resnet18", width=8, steps=50)
    with imported(root / "config", "ImageNet_RotNet_AlexNet") as (module,):
        table = module.config["networks"]["model"]["optim_params"]["LUT_lr"]
    rates = [next(rate for end, rate in table if end > epoch) for epoch in range(50)]
    return [compare("rate by epoch", run.learning_rate, rates, steps=range(50), of=50)]
