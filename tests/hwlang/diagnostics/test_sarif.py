"""`hw check --sarif`: what SARIF 2.1.0 asks for, and what readers of it use."""

import json
from pathlib import Path

from hwlang.checker import check_file, check_text
from hwlang.diagnostics import Diagnostic
from hwlang.diagnostics.sarif import sarif, uri

BROKEN = sorted((Path(__file__).parents[1] / "broken").glob("*.hw"))
LEVELS = {"error", "warning", "note", "none"}


def all_found() -> list[Diagnostic]:
    return [d for path in BROKEN for d in check_file(path).diagnostics]


def test_a_log_has_a_tool_with_rules_and_results_that_point_at_them() -> None:
    log = json.loads(json.dumps(sarif(all_found())))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "hw"
    rules = driver["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
        assert rule["defaultConfiguration"]["level"] in LEVELS
    assert len(run["results"]) == len(all_found())
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in LEVELS
        assert result["message"]["text"]
        for location in result["locations"] + result.get("relatedLocations", []):
            check_location(location["physicalLocation"])


def check_location(place: dict[str, dict[str, object]]) -> None:
    assert place["artifactLocation"]["uri"]
    region = place["region"]
    start, end = (region["startLine"], region["startColumn"]), (region["endLine"], region["endColumn"])
    assert all(isinstance(each, int) and each >= 1 for each in (*start, *end))
    assert start <= end  # type: ignore[operator]


def test_labels_are_related_locations() -> None:
    found = check_text('program p { text a = "x" scratchpad a = "y" worker A { sees a, self } }').diagnostics
    (result,) = sarif(found)["runs"][0]["results"]  # type: ignore[index]
    (related,) = result["relatedLocations"]
    assert related["message"] == {"text": "first written here"}
    assert related["physicalLocation"]["region"]["startColumn"] == 18


def test_a_file_as_a_whole_has_no_region() -> None:
    (result,) = sarif(check_file("no/such file.hw").diagnostics)["runs"][0]["results"]  # type: ignore[index]
    assert result["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "no/such%20file.hw"}}}]


def test_files_are_uris() -> None:
    assert uri("a b/c#.hw") == "a%20b/c%23.hw"
    assert uri("/a/漢.hw") == "file:///a/%E6%BC%A2.hw"
    assert uri("a:b.hw") == "a%3Ab.hw"
    assert uri("x\udcff.hw")
