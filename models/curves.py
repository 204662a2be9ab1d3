"""Curves of training for TensorBoard, where a folder was named for them."""

from pathlib import Path
from typing import Any

from models.fit import Progress


class Curves:
    """Loss and HR@10 by epoch; nothing is written without a folder."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def open(cls, folder: Path | None) -> "Curves":
        """Into event files in `folder`, which TensorBoard shows."""
        if folder is None:
            return cls(None)
        from torch.utils.tensorboard import SummaryWriter

        return cls(SummaryWriter(str(folder)))

    def add(self, step: Progress) -> None:
        """Note the last step of an epoch."""
        if self._writer is None:
            return
        self._writer.add_scalar("loss", step.loss, step.epoch)
        if step.foreseen >= 0:
            self._writer.add_scalar("hr@10", step.foreseen, step.epoch)

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
