"""How a model is trained: every switch, what it is by default, and why."""

from dataclasses import dataclass, fields
from typing import Any, Final

from stream.errors import UsageError

ENCODERS: Final = ("lstm", "gru", "rnn", "cnn", "dnn", "none")
LOSSES: Final = ("sampled", "full", "bpr")
SPLITS: Final = ("time", "last", "sessions")
TEXTS: Final = ("tfidf", "word2vec", "glove", "none")
DEVICES: Final = ("cpu", "cuda")
OPTIONAL: Final = ("category_index", "price", "quantity", "rating", "text")

#: What some fields are called and between what they lie; ends are allowed.
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "dim": (2, 4096),
    "hidden": (1, 4096),
    "epochs": (1, 10_000),
    "patience": (0, 10_000),
    "batch": (1, 65_536),
    "rate": (1e-6, 1.0),
    "weight_decay": (0, 1),
    "dropout_in": (0, 0.95),
    "dropout_out": (0, 0.95),
    "item_dropout": (0, 0.95),
    "temperature": (0.001, 10),
    "negatives": (1, 1_000_000),
    "negatives_late": (0, 1_000_000),
    "popularity": (0, 1),
    "recency": (0, 100),
    "shuffle": (0, 1),
    "crop": (0, 1),
    "held_out": (0, 0.5),
    "codes": (0, 65_536),
    "text_width": (2, 1024),
    "seed": (0, 2**31 - 1),
    "threads": (1, 1024),
}


@dataclass(frozen=True)
class Options:
    """How a model is trained. Where a figure is given, it was measured: models/RESULTS.md has the commands.

    Raises:
        UsageError: a value that is none of those allowed; says which are.
    """

    # The model.
    encoder: str = "lstm"
    dim: int = 48
    hidden: int = 64
    decays: tuple[float, ...] = (1.0, 0.6)  # of means of the events beside the encoder, see models.network
    codes: int = 1024  # rows of random signs, pairs of which tell items apart that the catalog lacks; 0: none of that
    text: str = "tfidf"
    text_width: int = 16
    sentiment: bool = False  # one more number of a text: how good it says that something is, learnt from ratings
    without: tuple[str, ...] = ()  # inputs that the log has and the model does not take, of OPTIONAL

    # What is learnt from.
    split: str = "time"  # held out: the latest events, each user's last two, or the latest users whole
    held_out: float = 0.05  # share of it, of events or users
    unseen: bool = False  # learn and ask only what a user has not had before
    shuffle: float = 0.0  # chance that a window's events of equal time are put in another order
    crop: float = 0.0  # chance that a window begins at another place, as after another cut
    recency: float = 0.0  # age at which a window is learnt from half as often, as share of all; 0: all alike

    # How.
    loss: str = "sampled"
    temperature: float = 0.05
    negatives: int = 1024  # drawn anew each step and shared by the batch; a smaller catalog is taken whole
    negatives_late: int = 0  # in the last quarter, when easy ones teach little; 0: as before
    popularity: float = 0.0  # power of an item's count by which nine in ten negatives are drawn; 0: all uniform
    batch: int = 64  # windows
    rate: float = 5e-3
    weight_decay: float = 0.0
    dropout_in: float = 0.2
    dropout_out: float = 0.2
    item_dropout: float = 0.1  # share of items taken for unknown, so that their category alone says something
    epochs: int = 8
    patience: int = 0  # epochs without a better HR@10 on what is held out until training ends; 0: all epochs
    seed: int = 0
    threads: int = 1  # of PyTorch
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, among in (
            ("encoder", ENCODERS),
            ("loss", LOSSES),
            ("split", SPLITS),
            ("text", TEXTS),
            ("device", DEVICES),
        ):
            if getattr(self, name) not in among:
                raise UsageError(f"{name} expected among {', '.join(among)}, got {getattr(self, name)!r}")
        unknown = [name for name in self.without if name not in OPTIONAL]
        if unknown:
            raise UsageError(f"without expected inputs among {', '.join(OPTIONAL)}, got {unknown[0]!r}")
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} expected from {low:g} to {high:g}, got {getattr(self, name)!r}")
        if not all(0 < decay <= 1 for decay in self.decays):
            raise UsageError(f"decays expected above 0 up to 1, got {self.decays}")
        if self.patience and not self.held_out:
            raise UsageError("patience expected with something held out, got a held_out of 0")

    def said(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
