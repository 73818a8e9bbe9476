"""`hw check --sarif`: diagnostics as SARIF 2.1.0, which GitHub and editors read."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from hwlang.diagnostics import Diagnostic
from hwlang.diagnostics.codes import MESSAGES
from hwlang.diagnostics.explanations import EXPLANATIONS
from hwlang.diagnostics.source import Span

Object: TypeAlias = dict[str, object]
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(diagnostics: Sequence[Diagnostic]) -> Object:
    """One run of hw check."""
    codes = sorted({d.code for d in diagnostics})
    driver = {
        "name": "hw",
        "version": version("hwlang"),
        "informationUri": "https://arxiv.org/abs/2504.06261",
        "rules": [rule(code) for code in codes],
    }
    results = [result(d, codes.index(d.code)) for d in diagnostics]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def rule(code: str) -> Object:
    """What a code means."""
    title, text = MESSAGES[code].title, EXPLANATIONS[code].text
    level = "warning" if title.endswith("(warning)") else "error"
    return {
        "id": code,
        "shortDescription": {"text": title.removesuffix(" (warning)") + "."},
        "fullDescription": {"text": text},
        "help": {"text": f"{text}\n\nExamples: hw explain {code}"},
        "defaultConfiguration": {"level": level},
    }


def result(diagnostic: Diagnostic, index: int) -> Object:
    text = diagnostic.message + (f" (help: {diagnostic.help})" if diagnostic.help else "")
    made: Object = {
        "ruleId": diagnostic.code,
        "ruleIndex": index,
        "level": diagnostic.severity,
        "message": {"text": text},
        "locations": [location(diagnostic.span)],
    }
    labels = [location(label.span) | {"message": {"text": label.text}} for label in diagnostic.labels]
    return made | ({"relatedLocations": numbered(labels)} if labels else {})


def numbered(locations: Iterable[Object]) -> list[Object]:
    return [{"id": number, **each} for number, each in enumerate(locations, 1)]


def location(span: Span) -> Object:
    """Where something is. A file as a whole has no region."""
    place: Object = {"artifactLocation": {"uri": uri(span.source.file)}}
    if span:
        region = {"startLine": span.line, "startColumn": span.column}
        place["region"] = region | {"endLine": span.end_line, "endColumn": span.end_column}
    return {"physicalLocation": place}


def uri(file: str) -> str:
    """A file's name as a URI, relative where the name is."""
    path = Path(file)
    return quote(path.as_posix(), safe="/.", errors="replace") if not path.is_absolute() else absolute(path)


def absolute(path: Path) -> str:
    return "file://" + quote(path.as_posix(), errors="replace")
