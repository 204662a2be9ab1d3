"""Options of training, one for each field of models.options.Options."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

if TYPE_CHECKING:
    from models.options import Options

Command = TypeVar("Command", bound=Callable[..., Any])

#: Field, name of the option, and what it does; types and defaults are the field's.
_HELP: Final = (
    ("encoder", "--encoder", "lstm, gru, rnn, cnn (filters over events), dnn (mean of events), none."),
    ("dim", "--dim", "Numbers in a vector."),
    ("hidden", "--hidden", "Width of the encoder."),
    ("decays", "--means", "Decays of means of a window's events beside it, comma between: 1 counts all alike."),
    ("codes", "--codes", "Rows of random signs: K tell K² items apart that the catalog lacks; 0: these say nothing."),
    ("text", "--text", "How words of reviews become vectors: tfidf, word2vec, glove, none."),
    ("text_width", "--text-width", "Numbers in a word's vector."),
    ("sentiment", "--sentiment/--no-sentiment", "Add what a text says of good or bad, learnt from ratings."),
    ("without", "--without", "Inputs to leave out, comma between: category_index, price, quantity, rating, text."),
    ("split", "--split", "Held out: time (latest events), last (each user's last two), sessions (latest users)."),
    ("held_out", "--held-out", "Share of events or users that is held out; 0: none."),
    ("unseen", "--unseen/--seen", "Learn and ask only items that a user has not had before."),
    ("shuffle", "--shuffle", "Chance that a window's events of equal time change places."),
    ("crop", "--crop", "Chance that a window is cut in two at a random place."),
    ("recency", "--recency", "Age, as share of all, at which a window is learnt from half as often; 0: all alike."),
    ("loss", "--loss", "sampled (softmax against drawn items), full (against all), bpr."),
    ("temperature", "--temperature", "By which scores are divided."),
    ("negatives", "--negatives", "Items drawn at each step as wrong ones."),
    ("negatives_late", "--negatives-late", "The same in the last quarter of training; 0: as before."),
    ("popularity", "--popularity", "Power of an item's count by which nine in ten of them are drawn; 0: all alike."),
    ("batch", "--batch", "Windows in a step."),
    ("rate", "--rate", "Learning rate, from which it falls as half a cosine."),
    ("weight_decay", "--weight-decay", "Of AdamW."),
    ("dropout_in", "--dropout-in", "Share of what goes into the encoder that is dropped."),
    ("dropout_out", "--dropout-out", "Share of what comes out of it."),
    ("item_dropout", "--item-dropout", "Share of items taken for unknown at each step."),
    ("epochs", "--epochs", "How often the log is gone over."),
    ("patience", "--patience", "End after so many epochs without a better HR@10 on what is held out; 0: never."),
    ("seed", "--seed", "The same seed gives the same model."),
    ("threads", "--threads", "Threads of PyTorch."),
    ("device", "--device", "cpu or cuda."),
)


def with_options(command: Command) -> Command:
    """Add them; the command gets `options` (models.options.Options) and, as they were given, `option_words`."""
    from models.options import Options

    defaults = Options()

    @wraps(command)
    def call(**given: Any) -> Any:
        fields = {field: given.pop(field) for field, _, _ in _HELP}
        words = _words(fields)
        fields["decays"] = _decays(fields["decays"])
        fields["without"] = tuple(name for name in fields["without"].split(",") if name)
        return command(options=Options(**fields), option_words=words, **given)

    for field, name, told in reversed(_HELP):
        default = _shown(getattr(defaults, field))
        call = click.option(name, field, default=default, show_default=True, help=told)(call)
    return cast(Command, call)


def said(options: "Options") -> list[str]:
    """The options that differ from the defaults, as words of a command line."""
    return _words({field: _shown(getattr(options, field)) for field, _, _ in _HELP})


def _words(fields: dict[str, Any]) -> list[str]:
    from models.options import Options

    defaults = Options()
    return [_word(name, fields[field]) for field, name, _ in _HELP if fields[field] != _shown(getattr(defaults, field))]


def _shown(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return ",".join(one if isinstance(one, str) else f"{one:g}" for one in value)


def _word(name: str, value: Any) -> str:
    return name.split("/")[0 if value else 1] if isinstance(value, bool) else f"{name}={value}"


def _decays(means: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in means.split(",") if one)
    except ValueError:
        raise click.BadParameter(
            f"expected numbers above 0 up to 1, comma between, got {means!r}", param_hint="--means"
        ) from None
