"""Text for people: foreign bytes that a terminal can show without harm, numbers with their noun."""


def printable(data: bytes | str | None, limit: int | None = None) -> str:
    """The text on one line: what is no UTF-8 as \\xNN, what does not print escaped, cut at `limit` characters."""
    if data is None:
        return "-"
    text = data.decode(errors="backslashreplace") if isinstance(data, bytes) else data
    cut = limit is not None and len(text) > limit
    text = text[:limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text + "…" if cut else text


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 event`, `1,000 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
