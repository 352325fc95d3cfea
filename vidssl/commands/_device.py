"""Where to compute, from what was typed."""

import os

import torch


def compute_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device; torchrun gives every process a GPU of its own.

    `auto` is a CUDA GPU where there is one, the CPU otherwise.

    Raises:
        ValueError: The device is unknown or not there.
    """
    num_devices = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = "cuda" if num_devices["cuda"] else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    kind, _, number = name.partition(":")
    if kind not in num_devices or not (number or "0").isdecimal():
        raise ValueError(f"--device {name} is not known; expected auto, cpu, cuda, cuda:NUMBER or mps")
    if int(number or 0) >= num_devices[kind]:
        raise ValueError(f"--device {name} is not there: PyTorch finds {num_devices[kind]} devices of kind {kind}")
    device = torch.device(name)
    if kind == "cuda":
        torch.cuda.set_device(device)
    return device
