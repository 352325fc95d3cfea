"""Every recipe runs as it stands, only smaller; image recipes run on images and, unchanged, on videos."""

import inspect
import json
import math
import sys

import pytest
import torch
from conftest import moving_square, write_video
from PIL import Image

from vidssl import catalog, cli, config, init_from, load_encoder
from vidssl.initialize import encoders
from vidssl.methods.image.dino import DINOHead
from vidssl.methods.image.jigsaw import Jigsaw
from vidssl.methods.image.relative_patch import RelativePatch

pytestmark = pytest.mark.usefixtures("looked_at_here")

# What makes a recipe small, where it has such an option; networks are a few thousand weights.
SMALL = {
    "steps": 2,
    "batch_size": 4,
    "size_px": 64,
    "crop_px": 64,
    "width": 8,
    "dim": 48,
    "depth": 1,
    "num_heads": 2,
    "decoder_dim": 48,
    "decoder_depth": 1,
    "predictor_dim": 48,
    "predictor_depth": 1,
    "num_clusters": 3,
    "num_words": 6,
    "num_negatives": 5,
    "num_keys": 64,
    "num_permutations": 10,
    "num_local_views": 2,
    "projector_dim": 16,
    "expander_dim": 16,
    "hidden_dim": 64,
    "local_crop_px": 32,
    "model": "vit_tiny_patch16_224",
}
FURTHER = {
    "image/distillation_resnet18": {"teacher": "random:resnet18", "stride": 32},
    "image/amdim_convnet": {"crop_px": 128, "size_px": 128},
    "image/cpc_resnet18": {"patch_px": 16},
    "image/jigsaw_resnet18": {"crop_px": 63, "tile_px": 16},
    "image/relative_patch_resnet18": {"patch_px": 16, "gap_px": 6, "jitter_px": 2},
    "video/crw_resnet18": {"patch_px": 32, "patch_stride_px": 16},
    "video/dpc_resnet18": {"stride_frames": 2},  # of 96 frames
    "video/opn_resnet18": {"patch_px": 40},
    **{
        f"image/cifar10_{name}": {"size_px": 32, "crop_px": 32}
        for name in ("simclr", "moco", "byol", "simsiam", "swav", "dino", "barlow_twins")
    },
}
# What they tell at the first of two steps, with four samples each; by what formulas, tests/test_recipe_figures.py says.
FIRST_STEP = {
    "image/dino_vits16": "learning rate 0, weight decay 0.04, momentum 0.996, teacher temperature 0.04",
    "image/mae_vit_base": "learning rate 0, weight decay 0.05",
    "video/vjepa_vit_large": "learning rate 2.60417e-07, weight decay 0.04, momentum 0.998",  # 2e-4 * 4 / 3072
}
# Of heads that no option of a recipe makes smaller: tens of millions of weights.
HEADS = [(DINOHead, "num_prototypes", 256), (Jigsaw, "hidden_dim", 64), (RelativePatch, "hidden_dim", 64)]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder of videos with sound and one of images."""
    folder = tmp_path_factory.mktemp("media")
    for number in range(6):
        write_video(
            folder / "videos" / f"{number}.mp4",
            moving_square(96, size_px=64, seed=number),
            tone_hz=200 + 50 * number,
        )
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(moving_square(1, size_px=64, seed=number)[0]).save(folder / "images" / f"{number}.png")
    return folder


KINDS = {"video": ("videos",), "video with sound": ("videos",), "images or video": ("videos", "images")}


@pytest.mark.parametrize(
    ("name", "kind"), [(entry.name, kind) for entry in catalog.entries() for kind in KINDS[entry.needs]]
)
def test_recipe(name, kind, media, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(media / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for head, size, value in HEADS:
        monkeypatch.setitem(head.__init__.__kwdefaults__, size, value)
    options = inspect.signature(config.load(name).run).parameters
    small = {option: value for option, value in SMALL.items() if option in options} | FURTHER.get(name, {})
    words = [word for option, value in small.items() for word in (f"--{option.replace('_', '-')}", str(value))]
    fixed = ["--device", "cpu", "--num-workers", "0", "--log-every", "1", "--out", str(tmp_path / "run")]
    assert cli.main(["pretrain", name, "--root", str(media / kind), *words, *fixed]) == 0
    assert f"step 1: {FIRST_STEP.get(name, 'learning rate ')}" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) and line["effective_rank"] >= 1 for line in lines)
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
    # What it exports is what it can start from.
    method = config.load(name).run(root=str(media / kind), **small).method
    assert init_from(method, tmp_path / "run").modules == list(encoders(method))
    exported = load_encoder(tmp_path / "run").state_dict()
    assert all(torch.equal(value, exported[key]) for key, value in method.encoder.state_dict().items())
