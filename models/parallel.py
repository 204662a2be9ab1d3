"""Training in several processes at once, as torchrun starts them: each sees its share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn


@contextmanager
def together() -> Iterator[int]:
    """Join the others where torchrun started us, else be alone; gives this process's number."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield distributed.get_rank()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def processes() -> tuple[int, int]:
    """This one's number, and how many train together."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def total(value: float, device: torch.device) -> float:
    """The sum of every process's value."""
    if processes()[1] == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    return float(tensor[0])


def add_gradients(module: nn.Module) -> None:
    """Give every process the sum of all gradients."""
    if processes()[1] == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)
