"""The page: one file, that loads nothing and in which a trace's text is text."""

import json
import re
import tomllib
from pathlib import Path

from hwlang.viewing.page import digest, part, render

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028\ud800 [[SCRIPT]] & \x00 é"


def embedded(page: str) -> str:
    (text,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', page, re.DOTALL)
    return text


def test_the_facts_come_out_as_they_went_in():
    known = {"about": {"program": HOSTILE}, "blocks": [["é", 1, 0.5, None, True]]}
    assert json.loads(embedded(render(known))) == known


def test_no_text_of_a_trace_can_end_the_script_or_begin_a_tag():
    page = render({"text": HOSTILE})
    assert "<" not in embedded(page)
    assert not re.search("[\u2028\u2029\ud800-\udfff]", page)
    assert "<img" not in page
    assert page.encode()


def test_the_page_loads_nothing():
    page = render({})
    assert not re.search(r"""(src|href|url)\s*[=(]""", page)
    assert set(re.findall(r"\w+://[^\s\"'`]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|eval|fetch|document\.write|import)\b *[(=]", page)


def test_only_the_pages_own_script_and_style_may_run():
    page = render({})
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert policy.startswith("default-src 'none'; ")
    assert digest(style) in policy
    assert digest(script) in policy
    assert "unsafe" not in policy
    assert not re.search(r" (style|on\w+)=", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL))


def test_a_wheel_holds_the_pages_parts():
    root = Path(__file__).parents[3]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = root / "hwlang" / "viewing"
    packed = {path for pattern in data["hwlang.viewing"] for path in folder.glob(pattern)}
    assert {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"} == packed


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG."""

    def light(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_read_in_both_themes():
    style = part("view.css")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    for theme in (light, dark):
        colours = dict(re.findall(r"--(\w[\w-]*): (#\w{6})", theme))
        for name in ("text", "muted", "accent", "other", *(f"w{number}" for number in range(6))):
            for ground in ("card", "page", "soft"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        assert contrast(colours["text"], colours["mark"]) >= 4.5
        assert contrast(colours["warn"], colours["warn-back"]) >= 4.5
