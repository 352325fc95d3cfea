"""Video colorization on the demo corpus: a narrow ResNet-18 at stride 8, minutes on two CPU cores.

What it scores is measured by `python tools/prove.py colorization` and stands in docs/results.md.
"""

import dataclasses

import colorization_resnet18

from vidssl import Run, optim

METHOD = "VideoColorization"
PAPER = "Vondrick et al. 2018, arXiv:1806.09594"
NEEDS = "video"


def run(root: str, *, steps: int = 1000, batch_size: int = 8, lr: float = 1e-3) -> Run:
    """Train a network of half the width on small crops at native scale, on frames that lie close together.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: Highest learning rate, for 8 clips per step of all processes together (optim.scaled_rate): reached after 5 %
            of the training, it falls to zero along a cosine.
    """
    recipe = colorization_resnet18.run(
        root,
        steps=steps,
        batch_size=batch_size,
        size_px=192,
        crop_px=96,
        crop_scale=(0.25, 0.25),
        offsets_frames=(0, 2, 4, 8),
        width=32,
    )
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=8)
    return dataclasses.replace(recipe, learning_rate=optim.warmup(optim.cosine(peak), share=0.05))
