from functools import partial

import pytest
import torch

from vidssl.evidence.hidden import hidden_errors

SPLIT = (
    torch.tensor([[0, 2], [0, 2]]),
    torch.tensor([[1], [1]]),
)  # of three cells in a row, the middle one is hidden
ARGUMENTS = {"split": SPLIT, "grid": (1, 1, 3), "targets": lambda video: video}


def clips(*rows):
    return torch.tensor(rows, dtype=torch.float32)[:, :, None]  # (B, 3, 1): a number in each cell


def middle(video, visible, hidden):
    """Looks: the mean of the two cells that are visible."""
    return video[:, [0, 2]].mean(1, keepdim=True)


def constant(video, visible, hidden):
    """Does not look."""
    return torch.full_like(video[:, :1], 4.0)


def test_a_method_that_looks_loses_with_the_input_of_another():
    errors = hidden_errors(
        predict=middle, train=clips([0, 1, 2], [2, 3, 4]), test=clips([0, 2, 4], [6, 8, 10]), **ARGUMENTS
    )
    # Its answers are 2 and 8, as it should be; of the other clip 8 and 2. The mean at the place is 2, off by 0 and 6.
    assert errors["error"] == 0 and errors["error_with_another"] == 36 and errors["error_of_place"] == 18
    # Both neighbours are equally near: their mean difference to the places (1 and 3) is 0 and 6, added to 2.
    assert errors["error_of_kernel"] == pytest.approx(0, abs=1e-6)


def test_a_method_that_does_not_look_is_shown_up():
    train = clips([0, 1, 2], [2, 3, 4])
    errors = hidden_errors(predict=constant, train=train, test=clips([0, 2, 4], [6, 8, 10]), **ARGUMENTS)
    assert errors["error"] == errors["error_with_another"] == 10  # off by 2 and 4


def test_absolute_errors_are_held_against_the_median_and_some_tokens_may_not_count():
    split = tuple(part[:1].expand(3, -1) for part in SPLIT)
    arguments = {**ARGUMENTS, "split": split, "train": clips([0, 1, 2], [0, 2, 2], [0, 9, 2])}
    measure = partial(hidden_errors, predict=constant, test=clips([0, 2, 2], [0, 3, 2], [0, 7, 2]), **arguments)
    errors = measure(loss="absolute")
    assert errors["error_of_place"] == 2  # the median is 2: off by 0, 1 and 5
    assert errors["error"] == 2  # off by 2, 1 and 3
    assert measure()["error_of_place"] == pytest.approx((4 + 1 + 9) / 3)  # the mean is 4
    assert measure(loss="absolute", counted=torch.tensor([[False], [True], [False]]))["error"] == 1


def test_the_width_of_the_kernel_is_fitted_on_the_training_clips():
    # Four cells: 0 and 3 are visible, 1 is hidden and equal to 0, its neighbour: a narrow kernel copies it.
    arguments = {
        "targets": lambda video: video,
        "split": (torch.tensor([[0, 3]] * 4), torch.tensor([[1]] * 4)),
        "grid": (1, 1, 4),
        "predict": lambda video, visible, hidden: video[:, :1],
    }
    near = torch.tensor([[1.0, 1, 0, -1], [-1, -1, 0, 1], [1, 1, 0, 1], [-1, -1, 0, -1]])[:, :, None]
    assert hidden_errors(train=near, test=near, **arguments)["error_of_kernel"] < 1e-6
    mean = near.clone()
    mean[:, 1] = (near[:, 0] + near[:, 3]) / 2  # a wide one takes the mean
    assert hidden_errors(train=mean, test=mean, **arguments)["error_of_kernel"] < 0.01
    assert hidden_errors(train=mean, test=near, **arguments)["error_of_kernel"] > 0.3
