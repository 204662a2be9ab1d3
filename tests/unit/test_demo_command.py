"""The command `demo`: what it is told, what it refuses before anything starts, and what its worker is told."""

from pathlib import Path

import pytest

from models.bundle import load as load_bundle
from models.products import Shop
from stream.commands import run
from stream.demo import run as demo
from stream.demo.topics import fresh_names
from stream.demo.worker import environment
from stream.settings import Settings, load
from tests.bundles import random_bundle


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every option and its default."""
    assert run(["demo", "--help"]) == 0
    shown = capsys.readouterr().out
    for part in ("--broker HOST:PORT", "--rate", "[default: 200", "--events N", "--users", "--seed", "--partitions"):
        assert part in shown


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--rate", "0"], 2, "error: Invalid value for '--rate': 0.0 is not in the range 0.1<=x<=100000"),
        (["--events", "0"], 2, "error: Invalid value for '--events': 0 is not in the range x>=1"),
        (["--broker", "x"], 2, "error: wrong broker 'x': expected HOST:PORT, comma between several"),
        (["--broker", "127.0.0.1:1"], 1, "error: no broker answers at 127.0.0.1:1; "),
        (["--model", "/no/model"], 1, "error: /no/model: expected a model bundle or a place with some, got none; "),
    ],
)
def test_refused(arguments: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is one line, before anything is started; nothing is said of topics that never were."""
    assert run(["demo", *arguments]) == code
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert told.count("\n") == 1


def test_missing_model(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the package lacks its bundle, the error says which folder and what to do."""
    monkeypatch.setattr(demo, "default_model", lambda: tmp_path / "shop")
    assert run(["demo"]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'shop'}: expected a model bundle or a place with some, got none; "
        "`interest model train` makes one\n"
    )


def test_default_model() -> None:
    """The bundle that comes with the package knows all of the simulated shop."""
    bundle, shop = load_bundle(demo.default_model()), Shop()
    assert set(bundle.catalog.item_ids) == {"", *shop.item_ids}
    assert set(bundle.catalog.category_ids) == {"", *shop.category_ids}


def test_model_of_another_shop(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A model that knows nothing of what the demo sells is refused, with what to do."""
    random_bundle(tmp_path, item_ids=["a", "b"], item_categories=["hats", "cars"])
    assert run(["demo", "--model", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: the model knows none of the simulated shop's categories (phones, cameras, headphones, …); "
        "name one that was trained on `interest model simulate`\n"
    )


def test_fresh_names() -> None:
    """Topics and group of a demo on somebody's broker are its own, and another's each time."""
    one, two = fresh_names(load()), fresh_names(load())

    def names(settings: Settings) -> set[str]:
        topics = (*settings.event_topics, settings.update_topic, settings.deadletter_topic, settings.changelog_topic)
        return {settings.app_id, *topics}

    assert len(names(one)) == 5
    assert all(name.startswith("interest-demo-") for name in names(one))
    assert not names(one) & names(two)


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The worker is told exactly the demo's settings; folder, log level and instance id are never the caller's."""
    monkeypatch.setenv("INTEREST_WINDOW_MAX_EVENTS", "30")
    monkeypatch.setenv("INTEREST_INSTANCE_ID", "pod-1")
    monkeypatch.setenv("INTEREST_LOG_LEVEL", "error")
    settings = load({"event_topics": "a,b", "model": "/m", "data_dir": "/mine"})
    told = environment(settings, tmp_path)
    assert "PATH" in told
    assert "INTEREST_INSTANCE_ID" not in told
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("INTEREST_INSTANCE_ID")
    assert load() == settings.model_copy(update={"data_dir": tmp_path, "log_level": "info", "instance_id": None})
