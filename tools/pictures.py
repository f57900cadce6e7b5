"""Pictures for the docs: take them from a running platform, and make all of a folder small.

``make pictures`` lets the browser tests take most of them (they start a platform and do the main job) and then calls
this for the size. To take the pages of a platform that runs already::

    python tools/pictures.py --link "$(cupola status --link)" docs/pictures
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

LARGEST = 200_000
"""Bytes of a picture: the repository and the docs carry them all."""
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PAGES = {"catalogue": "", "sessions": "sessions", "data": "data", "jobs": "jobs", "design": "design"}
LOOKS: dict[str, dict[str, Any]] = {
    "": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "-phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


def take(link: str, folder: Path) -> None:
    """Sign in with `link` and keep a picture of each page in each look."""
    from playwright.sync_api import sync_playwright

    parts = urlsplit(link)
    root = f"{parts.scheme}://{parts.netloc}/services/cupola/"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        first = browser.new_context()
        page = first.new_page()
        page.goto(link)
        page.wait_for_url(f"{root}**")
        # The link works once; its cookies serve all looks.
        state = first.storage_state()
        for suffix, look in LOOKS.items():
            page = browser.new_context(storage_state=state, **look).new_page()
            for name, path in PAGES.items():
                page.goto(root + path)
                page.evaluate("document.fonts.ready")
                page.screenshot(path=folder / f"{name}{suffix}.png")
        browser.close()


def shrink(file: Path) -> int:
    """Write a PNG anew, with fewer colours or pixels if need be; return its bytes.

    What has few colours stays as it is: each time would take something away.
    """
    with Image.open(file) as opened:
        if opened.mode == "P" and file.stat().st_size < LARGEST:
            return file.stat().st_size
        image = opened.convert("RGB")
    for scale in (1, 0.8, 0.65, 0.5):
        size = (round(image.width * scale), round(image.height * scale))
        scaled = image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)
        # Most pages are small enough in all their colours.
        for colours in (None, 256, 128):
            content = io.BytesIO()
            _in_colours(scaled, colours).save(content, "PNG", optimize=True)
            if content.tell() < LARGEST:
                file.write_bytes(content.getvalue())
                return content.tell()
    raise ValueError(f"{file} cannot be made smaller than {LARGEST:,} bytes: show less on it")


def _in_colours(image: Image.Image, colours: int | None) -> Image.Image:
    if colours is None:
        return image
    # The sky has more colours than that: unless they are scattered, it shows steps.
    return image.quantize(palette=image.quantize(colours), dither=Image.Dither.FLOYDSTEINBERG)


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/pictures"))
    parser.add_argument("--link", help="a sign-in link of a running platform")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.link:
        take(options.link, options.folder)
    for file in sorted(options.folder.glob("*.png")):
        print(f"{shrink(file):>8,} {file}")


if __name__ == "__main__":
    main()
