"""Takes the pictures of ``docs/images`` that show Airflow, the demo and the local server, from a real browser.

``pip install playwright pillow``, have a Chromium, and call ``python -m tools.take_screenshots --browser PATH``. It
runs ``airflow-lro demo --keep`` and looks at what that leaves running. Look at the pictures before they are committed.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[1] / "docs" / "images"
TERMINAL = """<body style="margin:0;background:#1e1e1e"><pre style="margin:0;padding:20px 24px;width:max-content;
color:#e8eaed;font:14px/1.45 'DejaVu Sans Mono',monospace">{text}</pre>"""
FORM = "Google long-running operations"
NAMES = ("demo", "log", "link", "form", "emulator")


def start_demo() -> tuple[subprocess.Popen[str], str, dict[str, str]]:
    """Start the demo, and read until it says that it keeps running.

    :return: its process, the table that it has printed, and its pages.
    """
    command = [sys.executable, "-m", "airflow_lro_provider.cli", "demo", "--keep"]
    home = tempfile.mkdtemp(prefix="airflow-")  # not the user's own: Airflow would warn of what is in there
    environment = {**os.environ, "AIRFLOW_HOME": home}
    demo = subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    assert demo.stdout is not None
    shown, pages = "", {}
    for line in demo.stdout:
        print(line, end="", flush=True)
        if found := re.match(r"  (the run of the demo|a run to try yourself|what the server sees) +(http\S+)", line):
            pages[found[1].split()[-1]] = found[2]
        elif not pages:
            shown += line
        if len(pages) == 3:
            return demo, re.sub(r"(?s).*(?=\nSYSTEM )|Everything keeps running.*", "", shown).strip(), pages
    raise SystemExit("the demo has ended")


def take(browser: Any, shown: str, pages: dict[str, str]) -> None:
    """Take all pictures."""

    def page(address: str, width: int, height: int) -> Any:
        one = browser.new_page(viewport={"width": width, "height": height})
        one.goto(address)
        one.wait_for_load_state("networkidle")
        return one

    terminal = browser.new_page(viewport={"width": 1280, "height": 400})
    terminal.set_content(TERMINAL.format(text=html.escape(shown)))
    terminal.locator("pre").screenshot(path=IMAGES / "demo.png")

    site = pages["demo"].partition("/dags/")[0]
    log = page(f"{pages['demo']}/tasks/datafusion.poke", 1400, 620)
    log.get_by_text("Task exited").first.wait_for()
    log.screenshot(path=IMAGES / "log.png")

    runs = page(pages["yourself"], 1400, 620)
    runs.goto(f"{pages['yourself']}/runs")
    runs.locator("a[href*='/runs/manual']").first.click()
    run = runs.url.partition("?")[0].rstrip("/")
    link = page(f"{run}/tasks/deferred/details", 1400, 620)
    link.get_by_text("Google Console").first.wait_for()
    link.screenshot(path=IMAGES / "link.png")

    form = page(f"{site}/connections", 1100, 1150)
    form.get_by_role("button", name="Add Connection").click()
    form.get_by_role("combobox").last.click()
    form.keyboard.type(FORM)
    form.get_by_role("option", name=FORM).click()
    form.get_by_role("button", name="Project and account").click()
    form.get_by_text("Key file path").wait_for()
    form.wait_for_timeout(500)  # it unfolds
    form.screenshot(path=IMAGES / "form.png")

    page(pages["sees"], 1400, 620).screenshot(path=IMAGES / "emulator.png")


def shrink(picture: Path) -> None:
    """Reduce it to 64 colours, which it hardly has more of."""
    from PIL import Image

    Image.open(picture).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> None:
    """Start the demo, take the pictures, stop it."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", metavar="PATH", help="a Chromium; else the one that playwright has installed")
    given = parser.parse_args()
    demo, shown, pages = start_demo()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=given.browser, args=["--no-sandbox"])
            take(browser, shown, pages)
        for name in NAMES:
            shrink(IMAGES / f"{name}.png")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


if __name__ == "__main__":
    main()
