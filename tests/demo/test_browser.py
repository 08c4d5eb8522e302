"""The page of the demo in a headless Chromium: digits are drawn and recognised, by mouse, finger and keys.

``pip install playwright`` and a Chromium, ``XPDL_CHROMIUM=/usr/bin/chromium`` by default; with
``XPDL_ONNXRUNTIME_WEB``, the folder ``dist`` of npm's onnxruntime-web, also what the browser computes by itself.
``XPDL_SHOTS=folder`` keeps pictures of the page.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.test_server import serving
from xpdl.demo import network

pytestmark = [pytest.mark.slow, pytest.mark.needs("playwright")]

Stroke = list[tuple[float, float]]
#: digit -> strokes, from the upper left corner (0, 0) to the lower right (1, 1)
STROKES: dict[str, list[Stroke]] = {
    "0": [
        [
            (0.5, 0.15),
            (0.33, 0.25),
            (0.27, 0.5),
            (0.33, 0.75),
            (0.5, 0.85),
            (0.67, 0.75),
            (0.73, 0.5),
            (0.67, 0.25),
            (0.5, 0.15),
        ]
    ],
    "1": [[(0.5, 0.15), (0.5, 0.85)]],
    "2": [[(0.3, 0.3), (0.38, 0.18), (0.55, 0.15), (0.68, 0.25), (0.66, 0.4), (0.5, 0.6), (0.3, 0.82), (0.72, 0.82)]],
    "3": [
        [
            (0.3, 0.2),
            (0.5, 0.14),
            (0.68, 0.22),
            (0.66, 0.4),
            (0.48, 0.48),
            (0.7, 0.6),
            (0.7, 0.76),
            (0.52, 0.87),
            (0.3, 0.8),
        ]
    ],
    "4": [[(0.35, 0.15), (0.28, 0.52), (0.72, 0.52)], [(0.66, 0.2), (0.62, 0.88)]],
    "7": [[(0.28, 0.2), (0.72, 0.2), (0.58, 0.5), (0.45, 0.86)]],
}
_OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def runtime() -> Path | None:
    folder = os.environ.get("XPDL_ONNXRUNTIME_WEB")
    return Path(folder) if folder else None


RUNTIMES = [pytest.param(None, id="server"), pytest.param(runtime(), id="browser")]


@pytest.fixture(scope="module")
def net() -> Any:
    return network.recognizer(None).net


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with importlib.import_module("playwright.sync_api").sync_playwright() as playwright:
        path = os.environ.get("XPDL_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", _OFFLINE])
        yield browser
        browser.close()


def opened(chromium: Any, demo: Any, **options: Any) -> tuple[Any, list[str]]:
    """A page that is ready, and a list of what goes wrong in it and what it asks other hosts for."""
    page = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: None if request.url.startswith((demo.url, "data:", "blob:")) else problems.append(request.url),
    )
    page.goto(demo.url)
    until(page, "document.querySelectorAll('#bars li').length > 1 && !place.textContent.startsWith('Loading')")
    return page, problems


def until(page: Any, condition: str) -> None:
    """Wait for a condition; the page's policy forbids `wait_for_function`, which evaluates text in it."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"waited in vain for {condition}; the page says {page.inner_text('body')[:500]}")


def draw(page: Any, strokes: list[Stroke]) -> None:
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()


def recognised(page: Any) -> str:
    """The digit, once the page says it in a sentence."""
    until(page, "spoken.textContent.startsWith('Recognised as')")
    page.wait_for_timeout(300)
    sentence: str = page.inner_text("#spoken")
    assert page.inner_text("#best") == sentence.split()[2].rstrip(",")
    return sentence.split()[2].rstrip(",")


@pytest.mark.parametrize("folder", RUNTIMES)
def test_digits_are_recognised_while_drawn(folder: Path | None, chromium: Any, net: Any, request: Any) -> None:
    computed = "by xpdl on the server"
    if "browser" in request.node.name:
        assert folder is not None, "set XPDL_ONNXRUNTIME_WEB to the folder dist of npm's onnxruntime-web"
        computed = "by onnxruntime-web"
    with serving(folder, net) as demo:
        page, problems = opened(chromium, demo)
        assert computed in page.inner_text("#place")
        for digit, strokes in STROKES.items():
            page.click("#clear")
            assert page.inner_text("#best") == "?"
            draw(page, strokes)
            assert recognised(page) == digit
            assert page.locator("#maps figure").count() == len(net.layers)
        shares = [float(text.split()[0]) for text in page.locator("#bars .value").all_inner_texts()]
        assert abs(sum(shares) - 100) < 1
        captions = page.locator("#maps figcaption").all_inner_texts()
        assert captions[0] == "Convolution1: 8 maps of 28 × 28" and captions[-1] == "Affine2: 10 values"
        assert page.evaluate(ARE_DRAWN) and problems == []
        page.context.close()


def test_keys_draw_and_clear(chromium: Any, net: Any) -> None:
    with serving(None, net) as demo:
        page, problems = opened(chromium, demo)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "pad"
        for _ in range(9):
            page.keyboard.press("ArrowUp")
        page.keyboard.press("Space")
        for _ in range(18):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        until(page, "best.textContent === '1'")
        page.keyboard.press("c")
        assert page.inner_text("#best") == "?"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "clear" and problems == []
        page.context.close()


def test_fingers_draw(chromium: Any, net: Any) -> None:
    with serving(None, net) as demo:
        page, problems = opened(chromium, demo, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        session, box = page.context.new_cdp_session(page), page.locator("#pad").bounding_box()
        points = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in STROKES["7"][0]]
        for kind, point in [
            ("touchStart", points[0]),
            *(("touchMove", point) for point in points[1:]),
            ("touchEnd", None),
        ]:
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if point is None else [point]})
        assert recognised(page) == "7" and problems == []
        assert page.evaluate("scrollY") == 0
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_its_window_and_can_be_read(width: int, scheme: str, chromium: Any, net: Any) -> None:
    with serving(None, net) as demo:
        page, problems = opened(chromium, demo, viewport={"width": width, "height": 900}, color_scheme=scheme)
        draw(page, STROKES["3"])
        assert recognised(page) == "3"
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        if folder := os.environ.get("XPDL_SHOTS"):
            page.screenshot(path=f"{folder}/demo_{width}_{scheme}.png", full_page=True)
        light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 253)"
        assert light == (scheme == "light")
        for selector in ("body", ".quiet", "#best", "figcaption", "button", ".value"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector
        assert problems == []
        page.context.close()


#: each picture of a layer has more than one shade
ARE_DRAWN = """() => [...document.querySelectorAll('#maps canvas')].every((canvas) => {
  const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return new Set(image.data).size > 5;
})"""
#: ratio of the luminances of text and ground, by WCAG 2.1
CONTRAST = """(selector) => {
  const element = document.querySelector(selector);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  let at = element, ground = [0, 0, 0, 0];
  while (at && (ground.length > 3 && ground[3] === 0)) {
    ground = parse(getComputedStyle(at).backgroundColor);
    at = at.parentElement;
  }
  const luminance = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const value = c[i] / 255;
    return sum + weight * (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""
