"""Draws the plot of ``docs/waiting.md`` from the table there: ``python -m tools.draw_waiting``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

PAGE = Path(__file__).parents[1] / "docs" / "waiting.md"
INK = {"light": ("#202124", "#5f6368"), "dark": ("#e8eaed", "#9aa0a6")}
OURS, OTHERS = "#4285f4", "#9aa0a6"
PANELS = ((1, "CPU, % of a core", 300), (2, "memory per task, KB", 520), (3, "requests per minute each", 740))
LABELS, LINE, BAR, WIDTH = 285, 26, 130, 960


def rows(text: str) -> list[list[str]]:
    """The cells of the table, without its head."""
    table = text.partition("| CPU, % of a core |")[2].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table if line.startswith("|")]


def draw(table: Sequence[Sequence[str]], scheme: str) -> str:
    """The plot, for a light or a dark page: a bar for each number, as long as it is beside the largest of its kind."""
    ink, faint = INK[scheme]
    parts = []
    for column, title, left in PANELS:
        parts.append(f'<text x="{left}" y="18" fill="{faint}">{escape(title)}</text>')
        most = max(float(row[column]) for row in table)
        for line, row in enumerate(table):
            y, long = 32 + LINE * line, max(BAR * float(row[column]) / most, 1)
            colour = OURS if "poller" in row[0] or "max_in_flight" in row[0] else OTHERS
            parts.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="14" fill="{colour}"/>')
            parts.append(f'<text x="{left + long + 5:.1f}" y="{y + 11}" fill="{ink}">{escape(row[column])}</text>')
    for line, row in enumerate(table):
        label = re.sub("^the shared poller, ", "shared poller, ", row[0]).replace("`", "")
        parts.append(f'<text x="{LABELS}" y="{43 + LINE * line}" fill="{ink}" text-anchor="end">{escape(label)}</text>')
    size = f'viewBox="0 0 {WIDTH} {40 + LINE * len(table)}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'


def main() -> None:
    """Draw both."""
    table = rows(PAGE.read_text(encoding="utf-8"))
    for scheme in INK:
        (PAGE.parent / "images" / f"waiting-{scheme}.svg").write_text(draw(table, scheme), encoding="utf-8")


if __name__ == "__main__":
    main()
