"""Does a masked method look at what it is shown? Its error on hidden tokens, and that of what cannot look or learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..models.video_vit import Grid
from ..ops.masks import Split, take
from ..train.run import Run
from .proof import pretrain

# Widths of the kernel that are tried, in cells: from a copy of the nearest to the mean of all.
WIDTHS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 6.0)


@torch.no_grad()
def hidden_errors(
    *,
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    targets: Callable[[Tensor], Tensor],
    split: Split,
    grid: Grid,
    train: Tensor,
    test: Tensor,
    loss: Literal["squared", "absolute"] = "squared",
    counted: Tensor | None = None,
) -> dict[str, float]:
    """Mean error on the hidden tokens of unseen clips: of the method, and of four controls.

    "error": the method. "error_with_another": the method, shown the visible tokens of another clip: a method that
    ignores its input does as well. "error_of_place": the mean (for absolute errors: the median) over the training
    clips at each place, the best answer without input. "error_of_kernel": the same plus what the visible tokens differ
    from it, averaged by a softmax over their distances, exp(-d^2 / 2 w^2); its width w, the only number, is the
    best of WIDTHS on the training clips.

    Args:
        predict: (clips, visible (B, V), hidden (B, M)) -> predicted targets (B, M, D).
        targets: Clips -> targets of all tokens, (B, N, D).
        split: Visible and hidden tokens of the test clips; training clips take the same.
        grid: Time steps, rows and columns of the tokens.
        train: Training clips in [0, 1], (B, T, 3, H, W), as many as there are test clips.
        test: Unseen clips.
        loss: Of a number.
        counted: Hidden tokens that count, bool (B, M); None counts all.
    """
    visible, hidden = split
    seen, truth = targets(train), targets(test)
    place = seen.median(0).values if loss == "absolute" else seen.mean(0)  # (N, D)
    cells = torch.cartesian_prod(*(torch.arange(size).float() for size in grid)).view(-1, 3)
    distance = torch.cdist(cells[hidden], cells[visible])  # (B, M, V)

    def kernel(tokens: Tensor, width: float) -> Tensor:
        weight = (-distance.square() / (2 * width**2)).softmax(-1)
        return place[hidden] + weight @ (take(tokens, visible) - place[visible])

    def error(filled: Tensor, tokens: Tensor, which: Tensor | None = None) -> float:
        difference = filled - take(tokens, hidden)
        difference = difference if which is None else difference[which]
        return (difference.abs() if loss == "absolute" else difference.square()).mean().item()

    width = min(WIDTHS, key=lambda width: error(kernel(seen, width), seen))
    return {
        "error": error(predict(test, visible, hidden), truth, counted),
        "error_with_another": error(predict(test.roll(1, dims=0), visible, hidden), truth, counted),
        "error_of_place": error(place[hidden], truth, counted),
        "error_of_kernel": error(kernel(truth, width), truth, counted),
    }


def before_and_after(run: Run, *, train: Tensor, test: Tensor, out: Path, seed: int) -> dict[str, float]:
    """Train, and give `hidden_errors` of what draws pixels: "pretrained", "random" (before) and the four controls.

    Args:
        run: Of a method that predicts the patches it does not see, as MAE and VideoMAE do.
        train: uint8 training clips (B, T, 3, H, W), for the controls.
        test: Unseen clips, as many.
        out: Folder of the run.
        seed: Of the training; one split of the test clips is drawn by their numbers.
    """
    method: Any = run.method  # with `predict`, `targets` and `split`
    train, test = train.float() / 255, test.float() / 255
    grid = method.encoder.grid(test)
    split = method.split(torch.arange(len(test)), grid)

    def errors() -> dict[str, float]:
        return hidden_errors(
            predict=method.predict, targets=method.targets, split=split, grid=grid, train=train, test=test
        )

    random = errors()["error"]
    pretrain(run, out=out, seed=seed)
    method.eval()
    figures = errors()
    return {"random": random, "pretrained": figures.pop("error"), **figures}
