import pytest
import torch
from torch import nn

from vidssl.ops.ema import cosine_momentum, move_teacher, teacher_of


def test_a_teacher_starts_as_a_copy_of_its_own():
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = teacher_of(student)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    student(torch.randn(8, 3))  # moves the student's running statistics
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_still_student_is_approached_geometrically():
    student = nn.Linear(3, 4)
    teacher = teacher_of(student)
    start = [parameter.clone() for parameter in teacher.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(torch.randn_like(parameter))
    for _ in range(5):
        move_teacher(teacher, student, momentum=0.9)
    for moved, first, goal in zip(teacher.parameters(), start, student.parameters(), strict=True):
        torch.testing.assert_close(moved, 0.9**5 * first + (1 - 0.9**5) * goal.detach(), atol=1e-6, rtol=1e-5)


def test_running_statistics_are_the_teachers_own():
    student = nn.BatchNorm1d(4)
    teacher = teacher_of(student)
    student(10 + torch.randn(8, 4))
    move_teacher(teacher, student, momentum=0.0)
    assert torch.equal(teacher.running_mean, torch.zeros(4)) and int(teacher.num_batches_tracked) == 0


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0), (1 / 3, 0.9925)])
def test_cosine_momentum(progress, momentum):
    assert cosine_momentum(0.99, progress) == pytest.approx(momentum, abs=1e-12)
