"""What an evaluation found, for people who decide: as Markdown, or as one page with plots that needs nothing else."""

import re
from html import escape
from typing import Any, Final

from models.report_content import About, Section, Strong, Table, checked, percent
from models.report_page import page
from models.report_sections import sections
from models.verdict import ALIKE, BETTER, MODEL, WORSE, top_of, verdict

__all__ = ["About", "html", "markdown"]

CLASSES: Final = {BETTER: "better", WORSE: "worse", ALIKE: "alike"}


def markdown(found: dict[str, Any], about: About) -> str:
    """The report of what `models.measure.measure` found, as Markdown.

    Beside what it returns, `found` may hold `probability`: by type of event `auc`, `ece` and `bins` (mean predicted,
    share observed, weight: in threes or as objects with `predicted`, `observed`, `weight`), and `training`: a list of
    `epoch`, `loss` and `hr@10` (or null), and `compared`: by what was held out in training, `asked` and `systems` as
    models.evaluation gives them. What is not there is left out.

    Raises:
        UsageError: `found` lacks the model's figures.
    """
    lines = [f"# Evaluation of bundle {_md(about.bundle)}", ""]
    for section in sections(checked(found), about):
        lines += [f"## {_md(section.title)}", ""]
        lines += [f"**{_md(section.lead)}**", ""] if section.lead else []
        for said in section.says:
            lines += [_md(said), ""]
        lines += [f"- **{_md(name)}**: {_md(said)}" if said else f"- **{_md(name)}**:" for name, said in section.facts]
        lines += [""] if section.facts else []
        if section.code:
            fence = "`" * (max((len(run) for run in re.findall("`+", section.code)), default=0) + 1)
            fence = max(fence, "```", key=len)
            lines += [fence, _line(section.code), fence, ""]
        if section.table is not None:
            lines += [*_md_table(section.table), ""]
    return "\n".join(lines)


def html(found: dict[str, Any], about: About) -> str:
    """The same report, as :func:`markdown` takes it, as one page of HTML with plots.

    It holds no script and asks for nothing from elsewhere. The same figures and `about` give the same bytes.

    Raises:
        UsageError: `found` lacks the model's figures.
        InterestError: matplotlib is not installed.
    """
    from models.report_plots import draw

    told = sections(checked(found), about)
    plots = draw(found, [section.plot for section in told if section.plot])
    title = f"Evaluation of bundle {_html(about.bundle)}"
    answer = verdict(found)
    body = [
        f"<header>\n<h1>{title}</h1>\n<p>{_html(about.log)} · {about.made_on.isoformat()}</p>\n</header>",
        f'<p class="verdict {CLASSES[answer.word]}"><b>{answer.answer}</b>{_html(answer.reason)}</p>',
        _tiles(found),
        *(_section(section, plots) for section in told),
    ]
    return page(title, "\n".join(body))


def _tiles(found: dict[str, Any]) -> str:
    top, model = top_of(found), found["systems"][MODEL]
    tiles = [(percent(model["item"]["hr"][top]), f"items found, HR@{top}")]
    if "category" in model:
        tiles.append((percent(model["category"]["hr"][top]), f"categories found, HR@{top}"))
    tiles += [
        (f"{found['asked']:,}", "events asked for"),
        (percent(found["known"]), "of items in the catalog"),
        (percent(found["coverage"]), "of the catalog shown"),
    ]
    return (
        '<div class="tiles">' + "".join(f"<div><b>{one}</b><span>{said}</span></div>" for one, said in tiles) + "</div>"
    )


def _section(section: Section, plots: dict[str, str]) -> str:
    parts = [f"<h2>{_html(section.title)}</h2>"]
    # Its lead, the verdict, stands above all sections already.
    parts += [f"<p>{_html(said)}</p>" for said in section.says]
    if section.facts:
        facts = "".join(f"<dt>{_html(name)}</dt><dd>{_html(said)}</dd>" for name, said in section.facts)
        parts.append(f"<dl>{facts}</dl>")
    if section.code:
        parts.append(f"<pre>{_html(section.code)}</pre>")
    if section.plot:
        caption = _html(section.caption)
        plot = plots[section.plot].replace('role="img"', f'role="img" aria-label="{caption}"', 1)
        parts.append(f"<figure>{plot}<figcaption>{caption}</figcaption></figure>")
    if section.table is not None:
        parts.append(_html_table(section.table))
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _html_table(table: Table) -> str:
    words = ['class="word"' if at < table.left else "" for at in range(len(table.head))]
    head = "".join(f'<th scope="col" {kind}>{_html(name)}</th>' for name, kind in zip(table.head, words, strict=True))
    rows = []
    for row in table.rows:
        cells = []
        for cell, kind in zip(row, words, strict=True):
            text = f"<b>{_html(cell)}</b>" if isinstance(cell, Strong) else _html(cell)
            shade = f'class="word {CLASSES[cell]}"' if cell in CLASSES else kind
            cells.append(f"<td {shade}>{text}</td>")
        ours = ' class="ours"' if MODEL in row[: table.left] else ""
        rows.append(f"<tr{ours}>{''.join(cells)}</tr>")
    lines = [f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>"]
    return '<div class="scroll" tabindex="0"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _md_table(table: Table) -> list[str]:
    marks = ["---" if at < table.left else "--:" for at in range(len(table.head))]
    rows = [[f"**{_md(cell)}**" if isinstance(cell, Strong) else _md(cell) for cell in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in ([_md(name) for name in table.head], marks, *rows)]


def _line(text: str) -> str:
    """On one line; what does not print is escaped, and what UTF-8 cannot hold."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _html(text: str) -> str:
    return escape(_line(text))


def _md(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", _line(text))
