"""What the site takes from outside of docs/: pages that live elsewhere, and links that are right in both places.

In the repository a page links to files (`../grammar/README.md`); on the site these are pages (`reference.md`).
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"grammar/README.md": "reference.md", "CHANGELOG.md": "changes.md", "README.md": "index.md"}
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
NOWHERE = "not-on-the-site"
UNLINK = re.compile(rf"\[([^\]]+)\]\(#{NOWHERE}\)")
ROW, CODE = re.compile(r"^\|.*\|$", re.MULTILINE), re.compile(r"`[^`]+`")  # in a table's code GitHub wants `\|` for |
FAILS = re.compile(r"^```hw-fails (HW\d{3})$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        if page != "index.md":
            files.append(File.generated(config, page, content=relink((ROOT / source).read_text(), Path(source).parent)))
    files.append(File.generated(config, "programs.md", content=programs()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    own = page.file.abs_src_path is not None
    markdown = FAILS.sub(r'```hw title="fails: \1"', relink(markdown, Path("docs")) if own else markdown)
    return ROW.sub(lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown)


def relink(markdown: str, folder: Path) -> str:
    """Links of a file in `folder` as links of a page of the site; those to files that are no pages become text."""

    def page_of(target: str) -> str | None:
        path = (ROOT / folder / target).resolve()
        inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else target
        if inside.startswith("docs/"):
            return inside.removeprefix("docs/")
        return "programs.md" if inside.split("/")[0] == "programs" else PAGES.get(inside)

    def replace(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if re.match(r"\w+:", target):
            return found[0]
        page = page_of(target)
        return f"]({page}{anchor})" if page else f"](#{NOWHERE})"

    return UNLINK.sub(r"\1", LINK.sub(replace, markdown))


def programs() -> str:
    """A page with every program of the repository."""
    text = "# Programs\n\nOne idea each. All of them are in the folder `programs`, and the tests run every one.\n"
    for path in sorted((ROOT / "programs").glob("*.hw")):
        first, _, rest = path.read_text().partition("\n")
        text += f'\n## {path.stem}\n\n{first.removeprefix("# ")}\n\n```hw title="programs/{path.name}"\n{rest}```\n'
    return text
