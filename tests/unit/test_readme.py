"""The README says what the code does."""

from pathlib import Path

from stream.contract import EVENT_TYPES, Reason
from stream.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def shown_default(value: object) -> str:
    """A default as the README shows it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_settings_table_is_the_settings() -> None:
    """Every setting stands in the README's table with its default and description, in order, and no other does."""
    expected = [
        f"| `{name}` | {shown_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    table = README.split("## Settings")[1].split("## ")[0]
    assert expected == [line for line in table.splitlines() if line.startswith("| `")]


def test_every_reason_and_type_is_named() -> None:
    """Whoever meets a code in a dead letter finds it in the README, and each event type."""
    assert [] == [code for code in [*Reason, *EVENT_TYPES] if f"`{code}`" not in README]
