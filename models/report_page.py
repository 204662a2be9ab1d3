"""The frame of a report as one page: style for screens of any width, light and dark, and for paper; no script."""

from typing import Final

#: Nothing is fetched and nothing runs, whatever a name in a report may hold.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"

STYLE: Final = """
:root {
  color-scheme: light dark;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --page: #f6f6f4; --card: #ffffff; --ink: #1c1f23; --muted: #5d6670; --line: #d9dce0; --stripe: #f3f4f5;
  --ours: #d9480f; --plain: #f2a37e; --daily: #2b6cb0; --other: #9aa3ac;
  --good: #1e7b3a; --bad: #b3261e; --unsure: #8a5a00;
  --good-soft: #e6f4ea; --bad-soft: #fce8e6; --unsure-soft: #fdf3dc;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1d2125; --ink: #e8eaed; --muted: #a3acb5; --line: #3a4047; --stripe: #24292e;
    --ours: #ff8a4c; --plain: #b8623a; --daily: #6aa9f0; --other: #7d8790;
    --good: #6fcf8a; --bad: #ff8f85; --unsure: #f0b84a;
    --good-soft: #16301f; --bad-soft: #3a1b19; --unsure-soft: #35290f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.55 var(--font); }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 0 0 .6rem; font-size: 1.15rem; line-height: 1.3; }
p { margin: 0 0 .5rem; max-width: 68ch; }
header p { margin: .35rem 0 0; max-width: none; color: var(--muted); overflow-wrap: anywhere; }
section { margin-top: 1rem; padding: 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
.verdict { margin: 1.25rem 0 0; padding: 1rem 1.25rem; border-radius: .6rem; border-left: .4rem solid;
  max-width: none; }
.verdict b { display: block; font-size: 1.3rem; line-height: 1.3; }
.verdict b::before { margin-right: .4em; font-size: .8em; }
.better { color: var(--good); } .worse { color: var(--bad); } .alike { color: var(--unsure); }
.verdict.better { background: var(--good-soft); } .verdict.worse { background: var(--bad-soft); }
.verdict.alike { background: var(--unsure-soft); }
.verdict.better b::before { content: "▲"; } .verdict.worse b::before { content: "▼"; }
.verdict.alike b::before { content: "●"; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin-top: 1rem; }
.tiles div { padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { font-size: .82rem; color: var(--muted); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0 0 .75rem; }
dt { font-weight: 600; } dd { margin: 0; color: var(--muted); max-width: 68ch; overflow-wrap: anywhere; }
pre { margin: 0; padding: .7rem .9rem; background: var(--stripe); border-radius: .4rem; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: .5rem auto 1rem; max-width: 34rem; }
.plot { display: block; width: 100%; height: auto; }
figcaption { margin-top: .4rem; font-size: .85rem; color: var(--muted); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; font-size: .82rem; }
.word { text-align: left; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr.ours { background: var(--stripe); }
td b { font-weight: 700; }
@media (max-width: 40rem) {
  main { padding: 1rem .6rem 2rem; } section { padding: 1rem .8rem; } h1 { font-size: 1.35rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .45rem; }
  table { font-size: .82rem; } th, td { padding: .35rem .4rem; } .word { white-space: normal; }
}
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; --muted: #444; --line: #bbb; --stripe: #f0f0f0;
    --ours: #d9480f; --plain: #f2a37e; --daily: #2b6cb0; --other: #9aa3ac;
    --good: #1e7b3a; --bad: #b3261e; --unsure: #8a5a00;
    --good-soft: #e6f4ea; --bad-soft: #fce8e6; --unsure-soft: #fdf3dc; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10pt; } main { max-width: none; padding: 0; }
  section { padding: .4rem 0; border: 0; border-top: 1px solid var(--line); border-radius: 0; }
  figure, tr, .verdict, .tiles { break-inside: avoid; } h2, section p, dl { break-after: avoid; }
  figure { max-width: 22rem; } .tiles b { font-size: 1.1rem; } .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .4rem; } th { white-space: normal; }
}
"""


def page(title: str, body: str) -> str:
    """The document; `title` and `body` are escaped already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
