"""`runs.jsonl`: what is written is read again, a torn line is cut off, another evaluation's runs are refused."""

import json

import pytest

from hwlang.evaluation.attempts import Attempt, Check, Work
from hwlang.evaluation.records import FILE, Record, open_runs, write_whole
from hwruntime.errors import InputError

HEADER = {"suite": "sums", "seed": 1, "configurations": {"a": "1"}}
WORK = Work((Attempt("Ann", 1, 2, 9, "85", 7),), (Check("Ann", 3, reply="no", obeyed=True),))
RECORD = Record("a", 10, 0, 1, "done", 9, answer="85\u2028", texts={"Ann": "\nAnn: ü"}, work=WORK)


def test_what_is_written_is_read_again(tmp_path):
    runs = open_runs(tmp_path / "new", HEADER)
    runs.add(RECORD)
    again = open_runs(tmp_path / "new", HEADER)
    assert (again.records, again.mended) == ({RECORD.key: RECORD}, "")


@pytest.mark.parametrize("keep", [1, 60])
def test_a_torn_line_is_cut_off_and_told(tmp_path, keep):
    runs = open_runs(tmp_path, HEADER)
    runs.add(RECORD)
    whole = runs.path.read_bytes()
    runs.path.write_bytes(whole + whole.splitlines()[1][:keep])
    again = open_runs(tmp_path, HEADER)
    assert again.records == {RECORD.key: RECORD}
    assert again.mended.endswith(f"was torn ({keep} bytes) and has been cut off")
    assert runs.path.read_bytes() == whole


def test_a_torn_header_begins_anew(tmp_path):
    (tmp_path / FILE).write_text('{"suite": "su')
    assert open_runs(tmp_path, HEADER).records == {}
    assert json.loads((tmp_path / FILE).read_text()) == HEADER


def test_other_settings_are_refused_by_name(tmp_path):
    open_runs(tmp_path, HEADER).add(RECORD)
    with pytest.raises(InputError) as told:
        open_runs(tmp_path, {**HEADER, "seed": 2, "model": "tiny"})
    assert 'were made with other settings (seed: 1 there, 2 here; model: null there, "tiny" here)' in told.value.message
    assert told.value.help == "choose another --out, or delete that file"


@pytest.mark.parametrize("line", ["{}", "[]", "no JSON", '{"configuration": "a", "work": 3}'])
def test_a_line_that_is_no_record_is_told_with_its_number(tmp_path, line):
    runs = open_runs(tmp_path, HEADER)
    with runs.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"runs.jsonl:2: the line is no record"):
        open_runs(tmp_path, HEADER)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / FILE).write_text("hello\n")
    with pytest.raises(InputError, match="does not begin with the header"):
        open_runs(tmp_path, HEADER)


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot use"):
        open_runs(tmp_path / "file", HEADER)
    with pytest.raises(InputError, match="cannot use"):
        write_whole(tmp_path / "file" / "table.md", b"x")


def test_a_file_is_written_whole(tmp_path):
    write_whole(tmp_path / "a" / "table.md", b"new")
    write_whole(tmp_path / "a" / "table.md", b"newer")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "a").iterdir()] == [("table.md", b"newer")]
