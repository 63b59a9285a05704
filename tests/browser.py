"""Pages as a person sees them: in a real chromium, with what they complain of."""

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WHY_NOT = None if CHROMIUM else "no browser here: apt-get install chromium"


@contextlib.contextmanager
def opened(url: str | Path, **options) -> Iterator[Page]:
    """A page, with Playwright's options of one (viewport, color_scheme, …). It may not report an error."""
    url = url.resolve().as_uri() if isinstance(url, Path) else url
    with sync_playwright() as playwright:
        # root has no sandbox to put it in; the pages are this repository's own
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(**options)
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
            page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
            page.goto(url)
            yield page
            assert not errors, errors
        finally:
            browser.close()


def colourful(png: bytes) -> int:
    """How many pixels of a picture are neither white, grey nor black."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return int((np.ptp(pixels, axis=-1) > 60).sum())


def brightness(page: Page) -> float:
    """Of what is in sight, from 0 to 255."""
    return float(np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L")).mean())


def cut_off(page: Page) -> list[str]:
    """Texts that reach beyond the page or the box that hides the rest, where no scroll bar helps."""
    return page.evaluate(
        """() => {
          const wide = document.documentElement.clientWidth + 1
          return [...document.querySelectorAll("body *")].filter((element) => {
            if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) return false
            const hides = getComputedStyle(element).overflowX === "hidden" && element.scrollWidth > element.clientWidth
            const box = element.getBoundingClientRect()
            const scrolls = element.closest(".wide")
            return hides || (!scrolls && box.width && (box.right > wide || box.left < 0))
          }).map((element) => element.textContent.trim().slice(0, 60))
        }"""
    )
