"""A search for the options that suit a log: proposed by Optuna, judged on later events than those learnt from."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import optuna

from models.clean import Limits, clean
from models.foresight import Foresight
from models.log import Log
from models.loss import Space
from models.options import OPTIONAL, Options
from models.prepare import Prepared, Source, log_of
from models.sequences import VALIDATION
from models.train import Work, fitted
from stream.errors import UsageError
from stream.rules import Rules

FOLDS: Final = 2  # spans of time that are foreseen, one after the other, each from all before it
SPAN: Final = 0.1  # of the log's events in each


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    options: Options  # without the inputs that do better without
    hr: float  # mean HR@10 over the folds
    tried: list[dict[str, Any]]  # options that were proposed, and their HR@10
    without: dict[str, float]  # HR@10 of the best options without an input


def tune(
    source: Source,
    options: Options,
    rules: Rules,
    *,
    seconds: float,
    trials: int = 1_000,
    say: Callable[[str], None] = lambda line: None,
) -> Found:
    """Search for at most so many seconds and trials, beginning with `options` as they are.

    Each proposal is trained and asked FOLDS times: fold k learns from all events before a time and is asked those of
    the SPAN after it, so that nothing is learnt from what comes later. A proposal that is far behind after the first
    fold is given up. Then the best is trained once more without each input that the log has, as far as time is left.

    The same seed proposes the same options, as long as the time suffices for as many trials.

    Raises:
        UsageError: the log is too short to be cut so.
    """
    until = time.monotonic() + seconds
    log, _ = log_of(source, say)
    where = str(source.events)
    folds = [_fold(log, options, rules, number, where) for number in range(FOLDS)]
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    study.enqueue_trial(_started(options))

    def objective(trial: optuna.Trial) -> float:
        proposed = _proposed(trial, options)
        scores = []
        for number, fold in enumerate(folds):
            scores.append(_score(fold, proposed))
            trial.report(float(np.mean(scores)), number)
            if number + 1 < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
        say(f"trial {trial.number}: HR@10 {np.mean(scores):.4f} with {_told(trial.params)}")
        return float(np.mean(scores))

    _quietly(study, objective, trials, until)
    best = _proposed(optuna.trial.FixedTrial(study.best_params), options)
    say(f"best of {len(study.trials)}: HR@10 {study.best_value:.4f} with {_told(study.best_params)}")
    without: dict[str, float] = {}
    for name in OPTIONAL:
        if name in folds[0].features.used and time.monotonic() < until:
            less = replace(best, without=(*best.without, name))
            some = [_fold(log, less, rules, number, where) for number in range(FOLDS)]
            without[name] = float(np.mean([_score(fold, less) for fold in some]))
            say(f"without {name}: HR@10 {without[name]:.4f}")
    left_out = tuple(name for name, hr in without.items() if hr > study.best_value)
    return Found(
        options=replace(best, without=(*best.without, *left_out)),
        hr=study.best_value,
        tried=[{**trial.params, "hr@10": trial.value} for trial in study.trials if trial.value is not None],
        without=without,
    )


def _quietly(study: optuna.Study, objective: Callable[[optuna.Trial], float], trials: int, until: float) -> None:
    """Without Optuna's own lines; at least one trial, and none begun after `until`."""
    shown = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        for _ in range(trials):
            study.optimize(objective, n_trials=1)
            if time.monotonic() >= until and any(trial.value is not None for trial in study.trials):
                return
    finally:
        optuna.logging.set_verbosity(shown)


def _started(options: Options) -> dict[str, Any]:
    """The options as they are, as near as the search has them."""
    return {
        "dim": min((32, 48, 64, 96, 128), key=lambda one: abs(one - options.dim)),
        "hidden": min((32, 64, 128), key=lambda one: abs(one - options.hidden)),
        "rate": min(max(options.rate, 1e-3), 2e-2),
        "dropout_in": min(round(options.dropout_in, 1), 0.6),
        "dropout_out": min(round(options.dropout_out, 1), 0.6),
        "item_dropout": min(round(options.item_dropout, 2), 0.3),
        "means": ",".join(f"{one:g}" for one in options.decays) if options.decays in MEANS.values() else "1,0.6",
        "popularity": 0.5 if options.popularity else 0.0,
        "epochs": min(max(options.epochs, 2), 24),
    }


MEANS: Final[dict[str, tuple[float, ...]]] = {"": (), "1": (1.0,), "1,0.6": (1.0, 0.6), "1,0.8,0.5": (1.0, 0.8, 0.5)}


def _proposed(trial: optuna.trial.BaseTrial, options: Options) -> Options:
    return replace(
        options,
        dim=trial.suggest_categorical("dim", (32, 48, 64, 96, 128)),
        hidden=trial.suggest_categorical("hidden", (32, 64, 128)),
        rate=trial.suggest_float("rate", 1e-3, 2e-2, log=True),
        dropout_in=trial.suggest_float("dropout_in", 0.0, 0.6, step=0.1),
        dropout_out=trial.suggest_float("dropout_out", 0.0, 0.6, step=0.1),
        item_dropout=trial.suggest_float("item_dropout", 0.0, 0.3),
        decays=MEANS[trial.suggest_categorical("means", tuple(MEANS))],
        popularity=trial.suggest_categorical("popularity", (0.0, 0.5)),
        epochs=trial.suggest_int("epochs", 2, 24),
        patience=0,
    )


def _told(params: dict[str, Any]) -> str:
    return " ".join(
        f"--{name.replace('_', '-')}={value:.4g}" if isinstance(value, float) else f"--{name.replace('_', '-')}={value}"
        for name, value in params.items()
    )


def _fold(log: Log, options: Options, rules: Rules, number: int, where: str) -> Prepared:
    """The log up to the end of fold `number`, with its last span held out."""
    end = 1 - SPAN * (FOLDS - 1 - number)
    until_ms = int(np.quantile(log.events["timestamp"], end, method="higher")) + 1
    part, _ = clean(log, Limits(until_ms=until_ms, minute_max=0, day_max=0))
    fold = Prepared.of(part, replace(options, split="time", held_out=SPAN / end), rules, where)
    if not (fold.split.role == VALIDATION).any():
        raise UsageError(f"{where}: expected a log that can be cut in time, got {len(part.events)} events at one time")
    return fold


def _score(fold: Prepared, options: Options) -> float:
    """HR@10 on what a fold holds out."""
    import torch

    trained = fitted(fold, options, Work(), None)
    foresight = Foresight.make(fold.split, options.seed)
    return foresight.hr(trained.encoder, fold.steps, Space.make(fold.split.items, torch.device("cpu")))
