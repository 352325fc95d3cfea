"""Video colorization on the demo corpus: ResNet-18 at stride 8, minutes on two CPU cores.

What it scores is measured by `python tools/prove.py colorization` and stands in docs/results.md.
"""

import colorization_resnet18

from vidssl import Run

METHOD = "VideoColorization"
PAPER = "Vondrick et al. 2018, arXiv:1806.09594"
NEEDS = "video"


def run(root: str, *, steps: int = 600, batch_size: int = 8, lr: float = 1e-3) -> Run:
    """Train on small crops at native scale.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: Learning rate of the first part of the training; a tenth of it after.
    """
    return colorization_resnet18.run(
        root, steps=steps, batch_size=batch_size, lr=lr, size_px=192, crop_px=96, crop_scale=(0.25, 0.25)
    )
