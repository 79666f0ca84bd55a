"""Data parallel training: `torchrun --nproc-per-node N -m banyan_train ...`. Every process draws its own samples.

Gradients are averaged after the last backward pass of a step. A wrapper around the model would not do: a step calls
several of its methods, and most of its parameters are frozen.
"""
from __future__ import annotations

import os
from typing import Iterable

import torch
from torch import distributed, nn


def world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def start(device: str) -> str:
    """Joins the other processes, if there are any; returns this one's device."""
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")  # what is not bfloat16 may use TF32
    if world() == 1:
        return device
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    return device


def average(parameters: Iterable[nn.Parameter]) -> None:
    """Every gradient becomes the mean over the processes, in one message; a missing one counts as zero."""
    if world() == 1:
        return
    parameters = list(parameters)
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    flat = torch.cat([p.grad.flatten() for p in parameters])
    distributed.all_reduce(flat)
    flat /= world()
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad.copy_(part.view_as(p))


def gather(value) -> list:
    """The objects of all processes, by rank."""
    out = [None] * world()
    if world() == 1:
        return [value]
    distributed.all_gather_object(out, value)
    return out


def agree(value: float) -> float:
    """The largest over the processes: so that all of them stop at the same step."""
    return max(gather(value)) if world() > 1 else value


def wait() -> None:
    if world() > 1:
        distributed.barrier()
