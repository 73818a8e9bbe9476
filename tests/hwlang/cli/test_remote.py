"""`hw run --engine http://...`: programs on a stub of an SGLang server that has our `tiny`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hwlang as hw
from hwlang.cli import main
from hwruntime.errors import HwError, InputError, RunError
from hwruntime.models import Model
from tests.hwruntime.remote.own_engine import TINY, served
from tests.hwruntime.remote.stub import Stub

ROOT = Path(__file__).parents[3]
SUMS = str(ROOT / "programs" / "sums.hw")
FIGURES = re.compile(
    r"approximate: workers see each other's text every 16 tokens; (?P<url>\S+): (?P<requests>\d+) requests, "
    r"(?P<prompt>[\d,]+) prompt tokens, (?P<cached>[\d,]+) of them cached \(\d+%\); \d+ tokens generated, "
    r"\d+ of them unused"
)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.load("tiny", device="cpu", dtype="float32", attention="torch")


@pytest.fixture
def stub(tiny: Model) -> Iterator[Stub]:
    with Stub(served(tiny)).serving() as running:
        yield running


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(["run", *arguments])
    except SystemExit as exit:  # argparse's way to end
        code = int(exit.code or 0)
    return code, *capsys.readouterr()


def test_sums_runs_on_a_server_and_says_that_it_is_approximate(capsys, stub):
    code, out, err = run(capsys, SUMS, "--engine", stub.url)
    assert (code, err) == (0, "")
    *_, ending, figures = out.splitlines()
    assert ending.startswith("all workers ended after ")
    told = FIGURES.fullmatch(figures)
    assert told is not None, figures
    assert told["url"] == stub.url
    assert int(told["requests"]) == len(stub.seen) - 1  # one is to try the tokenizer
    assert 0 < int(told["cached"].replace(",", "")) < int(told["prompt"].replace(",", ""))


@pytest.mark.parametrize("interval", [1, 5, 16])
def test_one_worker_writes_what_it_does_on_the_exact_engine(stub, interval):
    program = hw.load(SUMS)
    exact = hw.Engine("tiny", device="cpu", dtype="float32", attention="torch").run(program, n=1)
    remote = hw.Engine(engine=stub.url, sync_interval=interval).run(program, n=1)
    assert remote.workers == exact.workers
    assert (remote.answer, remote.passes, remote.reason) == (exact.answer, exact.passes, exact.reason)
    assert exact.result.remote is None
    assert remote.result.remote is not None
    assert remote.result.remote.sync_interval == interval


def test_json_says_what_it_has_cost(capsys, stub):
    code, out, _ = run(capsys, SUMS, "--engine", stub.url, "--sync-interval", "4", "--json")
    data = json.loads(out)
    remote = data["remote"]
    assert (code, data["model"], list(data)[-1]) == (0, TINY, "remote")
    assert (remote["approximate"], remote["server"], remote["sync_interval"]) == (True, stub.url, 4)
    assert remote["prompt_tokens"] == sum(len(body["input_ids"]) for body in stub.seen[1:])
    assert {body["sampling_params"]["max_new_tokens"] for body in stub.seen[1:]} <= {1, 2, 3, 4}


def test_a_trace_says_that_it_is_approximate_and_is_shown_again(capsys, stub, tmp_path):
    trace = str(tmp_path / "run.jsonl")
    _, out, _ = run(capsys, SUMS, "--engine", stub.url, "--json", "--trace", trace)
    head = json.loads(Path(trace).read_text().splitlines()[0])
    assert (head["engine"]["approximate"], head["engine"]["engine"], head["engine"]["sync_interval"]) == (
        True,
        stub.url,
        16,
    )
    assert main(["replay", trace, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out)
    assert main(["replay", trace, "--model"]) == 2
    assert "the runs of this trace are approximate" in capsys.readouterr().err


def test_a_trace_that_was_cut_is_carried_on_with(capsys, stub, tmp_path):
    trace = tmp_path / "run.jsonl"
    run(capsys, SUMS, "--engine", stub.url, "-p", "n=1", "--json", "--trace", str(trace))
    whole = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(whole[: len(whole) // 2]))
    assert main(["resume", str(trace), "--json"]) == 0
    resumed, first = json.loads(capsys.readouterr().out), json.loads(whole[-1])["result"]
    assert resumed["workers"] == first["workers"]
    assert resumed["remote"]["requests"] < first["remote"]["requests"]


def test_inputs_run_side_by_side(capsys, stub, tmp_path):
    inputs = tmp_path / "in.jsonl"
    inputs.write_text("".join(json.dumps({"problems": f"1) {n}+1\n", "n": 1}) + "\n" for n in (1, 2, 3)))
    code, out, _ = run(capsys, SUMS, "--engine", stub.url, "--inputs", str(inputs), "--max-concurrency", "2")
    results = [json.loads(line) for line in out.splitlines()]
    assert (code, len(results)) == (0, 3)
    assert all(each["remote"]["requests"] > 0 for each in results)
    exact = hw.Engine("tiny", device="cpu", dtype="float32", attention="torch")
    expected = exact.run_batch(hw.load(SUMS), [{"problems": f"1) {n}+1\n", "n": 1} for n in (1, 2, 3)])
    assert [each["answer"] for each in results] == [state.answer for state in expected]


def test_a_server_that_goes_in_the_middle_fails_the_run_and_the_trace_keeps_what_there_was(capsys, stub, tmp_path):
    trace = tmp_path / "run.jsonl"
    stub.before = lambda body: (500, b'{"error": {"message": "out of memory"}}') if len(stub.seen) > 4 else None
    code, out, err = run(capsys, SUMS, "--engine", stub.url, "--trace", str(trace))
    assert code == 1
    assert err.startswith(f"error[HW560]: the server at {stub.url} answers /generate with 500: out of memory")
    *lines, last = [json.loads(line) for line in trace.read_text().splitlines()]
    assert last["error"]["code"] == "HW560"
    assert any(line.get("pass") for line in lines)
    assert "Alice" in out


def test_nobody_there_is_an_error_with_a_way_out(capsys):
    code, out, err = run(capsys, SUMS, "--engine", "http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert "error[HW560]: the server at http://127.0.0.1:9 cannot be reached" in err
    assert "is it running" in err


def test_what_a_server_cannot_do_is_shown_at_its_place(capsys, stub, tmp_path):
    file = tmp_path / "held.hw"
    file.write_text('program p {\n  worker Ann { sees "x", self step until "." match /[a-z]+/ }\n}\n')
    code, out, err = run(capsys, str(file), "--engine", stub.url)
    assert (code, out, len(stub.seen)) == (1, "", 1)  # nothing but the try of the tokenizer
    assert "`match` holds every token of a step to a form" in err
    assert f"{file}:2:46" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--engine", "URL", "--dtype", "float32"], 2, "`dtype` is said of a model that is loaded here"),
        (["--engine", "URL", "--attention", "torch"], 2, "`attention` is said of a model that is loaded here"),
        (["--engine", "URL", "--kv-tokens", "99"], 2, "`kv_tokens` is said of a model that is loaded here"),
        (["--engine", "URL", "--opening-cache", "d"], 2, "`opening_cache` is said of a model that is loaded here"),
        (["--engine", "URL/?a"], 2, "is not the address of a server"),
        (["--engine", "vllm"], 2, "there is no engine `vllm`"),
        (["--sync-interval", "4"], 2, "a sync interval is of an engine that is a server"),
        (["--engine", "URL", "--sync-interval", "0"], 2, "must be at least 1"),
        (["--engine", "URL", "--model", "/nowhere/at/all"], 1, "there is no folder `/nowhere/at/all`"),
    ],
)
def test_options_that_make_no_sense_are_told(capsys, stub, arguments, code, message):
    came, out, err = run(capsys, SUMS, *(each.replace("URL", stub.url) for each in arguments))
    assert (came, out) == (code, "")
    assert message in err


def test_the_key_is_taken_from_the_environment(stub, monkeypatch):
    stub.key = "secret"
    with pytest.raises(HwError, match="401"):
        hw.Engine(engine=stub.url)
    monkeypatch.setenv("HW_API_KEY", "secret")
    assert "secret" not in json.dumps({**hw.Engine(engine=stub.url).options, **hw.Engine(engine=stub.url).identity})


def test_python_refuses_what_is_no_program(stub):
    engine = hw.Engine(engine=stub.url)

    async def talk() -> None:
        engine.block()

    import asyncio

    with pytest.raises(RunError, match="blocks and coroutines"):
        asyncio.run(talk())
    with pytest.raises(InputError, match="there is no engine"):
        hw.Engine("tiny", engine="nothing")


@pytest.mark.parametrize("page", [ROOT / "docs" / "remote.md"])
def test_the_commands_of_the_page_print_what_is_written_there(capsys, stub, page, tmp_path, monkeypatch):
    """They name a server at localhost:30000; here it is the stub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "programs").symlink_to(ROOT / "programs")
    text = page.read_text()
    for name, source in re.findall(r"^```hw\n# (\w+\.hw)\b(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(f"# {name}{source}")
    shown = re.findall(r"^```text\n\$ hw (.+)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    assert len(shown) >= 2
    for command, expected in shown:
        main(command.replace("http://localhost:30000", stub.url).split())
        out, err = capsys.readouterr()
        printed = (out + err).replace(stub.url, "http://localhost:30000")
        pattern = "".join(re.escape(each) if each != "..." else ".*" for each in re.split(r"(\.\.\.)", expected))
        assert re.fullmatch(pattern, printed, re.DOTALL), printed
