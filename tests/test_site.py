"""The site: it builds without a warning, it has every page, and the pictures are those that the script draws."""

import logging
import runpy
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with warnings as errors: a link or an anchor that leads nowhere is one."""
    folder = tmp_path_factory.mktemp("site")
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("mkdocs")
    logger.addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logger.removeHandler(handler)
    assert said == []
    return folder


def test_every_page_of_the_folder_is_on_the_site(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    built = {path.parent.name for path in site.glob("*/index.html")} - {"assets", "search"}
    assert built == pages | {"reference", "programs", "changes"}
    assert not list(site.rglob("*.py"))


def test_the_reference_is_that_of_the_grammar(site: Path) -> None:
    page = (site / "reference" / "index.html").read_text()
    for heading in ("Lexical rules", "Static checks", "fails: HW201"):
        assert heading in page
    assert "hw-fails" not in page
    assert 'href="../diagnostics/"' in page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert 'src="http' not in text, path
        assert 'rel="stylesheet" href="http' not in text, path


def test_programs_are_on_the_site_as_they_are(site: Path) -> None:
    page = (site / "programs" / "index.html").read_text()
    for path in (ROOT / "programs").glob("*.hw"):
        assert f"programs/{path.name}" in page


def test_pictures_are_those_of_the_script() -> None:
    pictures = runpy.run_path(str(ROOT / "docs" / "pictures.py"))["PICTURES"]
    for name, draw in pictures.items():
        assert (ROOT / "docs" / name).read_text() == draw(), f"python docs/pictures.py writes {name}"
    assert {path.name for path in (ROOT / "docs").glob("*.svg")} == {*pictures, "cache.svg"}
