"""Draws the README's picture: ``python -m tools.draw_fates``."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "fates.svg"
TASK, OPERATION, LOST, GOOD, INK, FAINT = "#1a73e8", "#80868b", "#d93025", "#188038", "#202124", "#5f6368"
PAPER = "#ffffff"
LEFT, TOP, LANE, BAR = 250, 64, 84, 20
# Of each lane: title, subtitle; tries of the task; what happens, and when; operations, each with its end; a remark.
LANES = (
    (
        "An operator that only waits",
        "without this package",
        [(0, 250)],
        (250, "marked failed"),
        [(10, 600, "", OPERATION)],
        "",
    ),
    (
        "Marked failed",
        "timed out, failed for good, Ctrl-C",
        [(0, 250)],
        (250, "marked failed"),
        [(10, 262, "cancelled", LOST)],
        "",
    ),
    (
        "Cleared",
        "running or deferred",
        [(0, 170), (230, 600)],
        (170, "cleared"),
        [(10, 182, "cancelled", LOST), (270, 560, "succeeded", GOOD)],
        "",
    ),
    (
        "Its worker is lost",
        "or drained, evicted, out of memory",
        [(0, 200), (260, 600)],
        (200, "SIGKILL"),
        [(10, 560, "succeeded", GOOD)],
        "adopted",
    ),
)


def text(
    x: float, y: float, words: str, *, size: int = 13, colour: str = INK, anchor: str = "start", weight: int = 400
) -> str:
    """A line of text."""
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


def bar(x1: float, x2: float, y: float, colour: str) -> str:
    """What lasts from one moment to another."""
    return f'<rect x="{LEFT + x1}" y="{y}" width="{x2 - x1}" height="{BAR}" rx="4" fill="{colour}"/>'


def lane(index: int) -> list[str]:
    """One way in which a task ends."""
    title, subtitle, tries, (moment, event), operations, remark = LANES[index]
    y = TOP + index * LANE
    drawn = [text(20, y + 20, title, weight=600), text(20, y + 38, subtitle, size=11, colour=FAINT)]
    for number, (begin, end) in enumerate(tries, 1):
        drawn.append(bar(begin, end, y, TASK))
        drawn.append(
            text(LEFT + begin + 8, y + 14, f"try {number}" if len(tries) > 1 else "task", size=11, colour=PAPER)
        )
    for begin, end, outcome, colour in operations:
        drawn.append(bar(begin, end, y + 28, OPERATION))
        drawn.append(text(LEFT + begin + 8, y + 42, "operation", size=11, colour=PAPER))
        if outcome:
            drawn.append(f'<circle cx="{LEFT + end}" cy="{y + 38}" r="6" fill="{colour}"/>')
            drawn.append(text(LEFT + end + 11, y + 42, outcome, size=11, colour=colour, weight=600))
        else:
            drawn.append(
                text(
                    LEFT + end - 8, y + 42, "runs on, and is paid for", size=11, colour=PAPER, anchor="end", weight=600
                )
            )
    if remark:
        drawn.append(text(LEFT + tries[-1][0] + 8, y + 42, remark, size=11, colour=PAPER, weight=600))
    x = LEFT + moment
    drawn.append(
        f'<line x1="{x}" y1="{y - 6}" x2="{x}" y2="{y + 54}" stroke="{LOST}" stroke-width="2" stroke-dasharray="3 3"/>'
    )
    drawn.append(text(x + 6, y - 4, event, size=11, colour=LOST))
    return drawn


def picture() -> str:
    """The whole of it, as SVG; on a ground of its own, so that it can be read on any page."""
    height = TOP + LANE * len(LANES)
    drawn = [line for index in range(len(LANES)) for line in lane(index)]
    head = text(20, 32, "What becomes of an operation when its task dies", size=16, weight=600)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 910 {height}" role="img"'
            ' font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">',
            "<title>What becomes of an operation when its task dies</title>",
            f'<rect width="910" height="{height}" rx="12" fill="{PAPER}" stroke="#dadce0"/>',
            head,
            *drawn,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(), "utf-8")
