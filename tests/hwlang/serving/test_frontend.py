"""Functions of SGLang's own frontend, of the version that needs no torch, on `hw serve`."""

import json
import re
import warnings
from pathlib import Path

import pytest

import hwlang as hw

sgl = pytest.importorskip("sglang", reason="the frontend of sglang 0.5.2 is not installed")
if sgl.__version__ != "0.5.2":
    pytest.skip(f"sglang {sgl.__version__} is installed: these are for 0.5.2", allow_module_level=True)

ROOT = Path(__file__).parents[3]
PROBLEMS = "1) reverse lemon\n2) 47+38\n"


@pytest.fixture(scope="module", autouse=True)
def backend(served):
    endpoint = sgl.RuntimeEndpoint(served.url)
    sgl.set_default_backend(endpoint)
    yield endpoint
    sgl.set_default_backend(None)


def ran(state):
    assert state.error() is None
    return state


@sgl.function
def two_steps(s, problems):
    s += problems + "Alice: "
    s += sgl.gen("first", max_tokens=30, stop=".", temperature=0)
    s += ".\nAlice: "
    s += sgl.gen("second", max_tokens=30, stop=".", temperature=0)


@sgl.function
def choice(s, choices):
    s += PROBLEMS + "Alice: 2) 47+3"
    s += sgl.select("digit", choices)


@sgl.function
def branches(s, mode):
    s += PROBLEMS
    forks = s.fork(2)
    forks += ["Alice: 1) ", "Bob: 2) "]
    forks += sgl.gen("step", max_tokens=40, stop=".", temperature=0)
    forks += [".\n", ".\n"]
    forks.join(mode)
    s += "Alice: "
    s += sgl.gen("then", max_tokens=3, temperature=0)


@sgl.function
def held(s):
    s += "1) 47+38\nAlice: "
    s += sgl.gen("code", max_tokens=20, regex=r"[0-9]{2}-[a-z]{3}", temperature=0)
    s += " "
    s += sgl.gen("number", dtype=int, max_tokens=4, temperature=0)


def test_gen(served):
    before = served.encoded
    s = ran(two_steps.run(problems=PROBLEMS))
    first, second = s.get_meta_info("first"), s.get_meta_info("second")
    assert s.text() == f"{PROBLEMS}Alice: {s['first']}.\nAlice: {s['second']}"
    assert second["cached_tokens"] >= first["prompt_tokens"] + first["completion_tokens"] - 2
    # Every token once: those of the prompts that were not there, and all sampled ones but each last one.
    assert served.encoded - before <= second["prompt_tokens"] + second["completion_tokens"]


def test_select(served):
    text = PROBLEMS + "Alice: 2) 47+3"
    s = ran(choice.run(choices=["8", "1", "9"]))
    assert s["digit"] == "8"
    assert s.text() == text + "8"
    assert len(s.get_meta_info("digit")["input_token_logprobs"]) == 3
    before = served.encoded
    ran(choice.run(choices=["8:", "1:"]))
    assert served.encoded - before <= 2 * 4  # of each choice: its tokens, and two before them


def length(served, text):
    return len(served.generator.tokenizer.encode(text))


def once(served, steps):
    """How many tokens are encoded where the opening is once: with it the branches, but for the tokens sampled last."""
    starts = ("Alice: 1) ", "Bob: 2) ")
    branches = [start + step for start, step in zip(starts, steps, strict=True)]
    return sum(length(served, text) for text in (PROBLEMS, *branches))


def test_fork_shares_its_opening(served):
    served.post_text("/flush_cache")
    before = served.encoded
    s = ran(branches.run(mode="gather_variable"))
    assert s.text() == PROBLEMS + "Alice: " + s["then"]
    again, tokens = 1, 2  # the last token of `Alice: `, which the first branch has too; two of the three that follow
    assert served.encoded - before == once(served, s["step"]) + again + tokens


def test_join_moves_what_branches_wrote(served):
    apart = ran(branches.run(mode="gather_variable"))
    served.post_text("/flush_cache")
    before = served.encoded
    steps = [f"{name}{text}.\n" for name, text in zip(("Alice: 1) ", "Bob: 2) "), apart["step"], strict=True)]
    s = ran(branches.run(mode="concate_and_append"))
    assert s.text() == PROBLEMS + "".join(steps) + "Alice: " + s["then"]
    info = s.get_meta_info("then")
    assert info["prompt_tokens"] == length(served, PROBLEMS + "".join(steps) + "Alice: ")
    assert info["cached_tokens"] == info["prompt_tokens"] - length(served, "Alice: ")
    ends, tokens = 2 * length(served, ".\n"), 2
    assert served.encoded - before == once(served, apart["step"]) + ends + length(served, "Alice: ") + tokens


def test_regex(served):
    s = ran(held.run())
    assert re.fullmatch(r"[0-9]{2}-[a-z]{3}", s["code"])
    assert re.fullmatch(r"[-+]?[0-9]*", s["number"])
    assert s.get_meta_info("code")["finish_reason"]["type"] == "stop"


def test_stream(served):
    s = two_steps.run(problems=PROBLEMS, stream=True)
    pieces = list(s.text_iter("first"))
    assert len(pieces) > 5
    whole = ran(two_steps.run(problems=PROBLEMS))
    assert "".join(pieces) == whole["first"]
    assert s["second"] == whole["second"]
    assert s.error() is None


def test_many_at_once_share_passes(served):
    counters = served.generator.engine.runtime.counters
    rows, passes = counters.rows, counters.passes
    states = two_steps.run_batch([{"problems": f"1) {n}+38\n2) reverse lemon\n"} for n in range(20, 28)], num_threads=8)
    assert all(state.error() is None for state in states)
    assert len({state.text() for state in states}) == 8
    assert counters.rows - rows > 2 * (counters.passes - passes)


def test_call(served, backend):
    program = hw.load("programs/sums.hw")

    @sgl.function
    def report(s):
        s += "All results:\n"
        s += hw.call(program, name="sums", problems="1) 47+38\n2) reverse lemon\n", n=2, budget=60)
        s += "\n"

    s = ran(report.run())
    alone = program.run(problems="1) 47+38\n2) reverse lemon\n", n=2, budget=60, engine=served.generator.engine)
    assert s.text() == f"All results:\n{alone.answer}\n"
    assert s.get_meta_info("sums")["hw"]["passes"] == alone.passes
    assert "".join(report.run(stream=True).text_iter()) == s.text()


def test_a_call_that_cannot_be_answered_is_an_error_of_the_state(backend):
    program = hw.parse('program p { worker A { sees "1) 47+38 A:", self max 2 tokens } }')

    @sgl.function
    def asked(s):
        s += hw.call(program)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the frontend's, with its traceback
        error = asked.run().error()
    assert "ended without an answer" in str(error)


def test_a_server_info_and_a_flush(backend, served):
    assert sgl.get_server_info(backend)["model_path"] == "tiny"
    sgl.flush_cache(backend)
    assert served.generate(PROBLEMS, 0)["meta_info"]["cached_tokens"] == 0


PAGE = (ROOT / "docs" / "serving.md").read_text()
WRITTEN = re.findall(r"^```python\n(# \w+\.py: .*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CURLED = re.findall(r"^\$ curl \S+/generate -d '([^\n]*)'\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("code", "printed"), WRITTEN, ids=lambda text: text.split()[1] if text[0] == "#" else "")
def test_what_the_page_shows_is_what_comes(code, printed, served, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    served.post_text("/flush_cache")
    exec(compile(code.replace("http://127.0.0.1:30000", served.url), "page", "exec"), {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(("data", "shown"), CURLED, ids=lambda text: text[:12])
def test_what_curl_gets_is_what_the_page_shows(data, shown, served):
    served.post_text("/flush_cache")
    _, came = served.post("/generate", data.encode())
    text = json.dumps(came, separators=(",", ":"), ensure_ascii=False)
    assert re.fullmatch(".*".join(map(re.escape, shown.replace("\n", "").split("..."))), text), text


def test_the_page_has_examples():
    assert (len(WRITTEN), len(CURLED)) == (2, 2)
