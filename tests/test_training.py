"""The training text of `tiny` is what programs/sums.hw shows its workers, pass by pass, token by token."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hwlang as hw
from hwlang.evaluation.problems import MOST, make_chains, make_sums, opening
from hwruntime.checkpoint import open_checkpoint
from hwruntime.rows import Outcome
from hwruntime.session import Session
from training import generator
from training.train import STAGES, Progress, Settings, average, export, make_model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """That of a model as the script makes it, before any training."""
    folder = tmp_path_factory.mktemp("made")
    export(make_model(), folder)
    return open_checkpoint(str(folder), device="cpu", dtype="float32", trust_remote_code=False).tokenizer


def scripts(run: list[generator.Moment], workers: int) -> list[list[str]]:
    """What each worker samples in an ideal run, token by token."""
    last = run[-1]
    lines: list[list[str]] = [[] for _ in range(workers)]
    for step in last.done:
        lines[step.worker] += [*sampled(step), generator.END]
    for step in last.steps:
        lines[step.worker] += sampled(step)
    return [line if line[-1] == generator.TAKEN else [*line, generator.TAKEN] for line in lines]


def sampled(step: generator.Step) -> list[str]:
    return [token.text for token in step.tokens if token.part is not generator.Part.GIVEN]


def text(*steps: generator.Step) -> str:
    return "".join(token.text for step in steps for token in step.tokens)


@pytest.mark.parametrize("make", [make_sums, make_chains])
@pytest.mark.parametrize(("program", "every"), [("sums", 0), ("chains", 64)])
@pytest.mark.parametrize("seed", range(6))
def test_an_ideal_run_is_a_run_of_the_program(make, program, every, seed, tokenizer):
    rng = random.Random(seed)
    workers = rng.randint(1, 4)
    asked = generator.List.of(make(rng, rng.randint(1, 8)))
    run = list(generator.simulate(rng, asked, workers, generator.Manner(every=every)))
    lines = [iter(line) for line in scripts(run, workers)]
    program = hw.load(ROOT / "programs" / f"{program}.hw").compiled
    assert [sync.every for sync in program.syncs] == [every] * bool(every)
    session = Session(program, {"problems": opening(asked.problems), "n": workers}, tokenizer)
    for moment in run:
        rows = session.next_pass().rows
        writing = {row.writer: [*row.block.tokens, *row.tokens] for row in rows}
        for worker, step in enumerate(moment.steps):
            state = session._workers[worker]
            own = writing.get(state.name, state.block.tokens)
            assert tokenizer.decode(own) == text(step)
        done = session._views.pads["done"]
        assert tokenizer.decode(done.tokens) == text(*moment.done)
        drawn = [next(lines[generator.NAMES.index(row.writer)]) if row.draw else "" for row in rows]
        session.advance([Outcome(*tokenizer.encode(token)) for token in drawn])
    assert not session.next_pass().rows
    assert session.reason == "done"
    found = [result for step in run[-1].done for result in generator.stated(text(step))]
    assert sorted(found) == [(str(number), result) for number, result in enumerate(asked.results, 1)]


def test_training_text_is_reproducible_and_in_the_vocabulary(tokenizer):
    first, second = (generator.views(random.Random(5), 8) for _ in range(2))
    assert first == second
    for view in first:
        whole = "".join(view.tokens)
        assert tokenizer.decode(tokenizer.encode(whole)) == whole
        assert len(tokenizer.encode(whole)) == len(view.tokens)


def test_work():
    assert generator.work("47+38") == "7+8=15, 4+3+1=8"
    assert generator.work("86-29") == "16-9=7, 8-2-1=5"
    assert generator.work("reverse tapso") == "o, s, p, a, t"
    assert generator.work("sort 5291") == "1, 2, 5, 9"
    assert generator.work("largest 42 87 63") == "42<87, 87>63"
    assert generator.work("count a in banana") == "b0 a1 n1 a2 n2 a3"


def test_one_that_needs_a_result_asks_for_it_until_it_is_being_written():
    asked = generator.List.of(["11+11", "#1+10"])
    manner = generator.Manner(begins=(1, 2))
    *_, last = generator.simulate(random.Random(0), asked, 2, manner)
    one, two = last.done
    assert text(one).endswith("1) 11+11: 1+1=2, 1+1=2 (#1=22)")
    assert re.fullmatch(r"\nBob: 2\) #1\+10: (#1\? )+#1=22, 2\+0=2, 2\+1=3 \(#2=32\)", text(two))


def ask(asked: generator.List, numbers: tuple[int, ...], who: int, done: tuple[generator.Step, ...] = ()) -> str:
    """What worker `who` goes on to write after the question, where each is in the middle of a problem."""
    steps, scripts = [], []
    for worker, number in enumerate(numbers):
        script = generator.solving(asked, number)
        head = [*generator.prefix(generator.NAMES[worker]), *script[:8]]
        asks = generator.given(generator.pieces("\n" + generator.PROMPT)) if worker == who else []
        steps.append(generator.Step(worker, [*head, *asks], number, choosing=False, asked=worker == who))
        scripts.append(tuple(script[8:]))
    none: tuple[None, ...] = (None,) * len(numbers)
    moment = generator.Moment(asked, done, tuple(steps), tuple(scripts), none, (False,) * len(numbers))
    return "".join(token.text for token in generator.carried_on(moment, who, moment.seen(who)))


def test_the_answer_to_the_sync_prompt_is_true_and_is_followed():
    asked = generator.List.of(["47+38", "86-29", "sort 5291"])
    assert ask(asked, (1, 1), who=1) == "yes\n2) 86-29: 16-9=7, 8-2-1=5 (#2=57)."
    assert ask(asked, (1, 1), who=0) == "yes\n2) 86-29: 16-9=7, 8-2-1=5 (#2=57)."
    assert ask(asked, (1, 2), who=1) == "no\n16-9=7, 8-2-1=5 (#2=57)."
    finished = generator.Step(0, number=2, choosing=False)
    assert ask(asked, (1, 2), who=1, done=(finished,)).startswith("yes\n3) ")


def test_weights_ask_only_for_what_can_be_told():
    rng = random.Random(3)
    for view in (view for _ in range(60) for view in generator.views(rng, 6)):
        assert len(view.weights) == len(view.tokens)
        weighted = {token for token, weight in zip(view.tokens, view.weights, strict=True) if weight}
        assert not {*generator.NAMES, "Quick check: ", "(yes/no): "} & weighted
        head = view.tokens.index("\n", next(i for i, token in enumerate(view.tokens) if token in generator.NAMES) - 1)
        assert not any(view.weights[:head])  # the list of problems


def test_the_training_script_makes_a_model_that_loads(tmp_path):
    command = [sys.executable, "training/train.py", "--tokens", "4000", "--out", str(tmp_path / "made")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert hw.Engine(str(tmp_path / "made")).runtime.model.vocab_size > 100


def test_at_the_start_a_worker_takes_its_place_whoever_of_the_others_is_seen():
    asked = generator.List.of(["47+38", "86-29", "sort 5291", "11+11"])
    start = next(generator.simulate(random.Random(0), asked, 4))
    for own, step in enumerate(start.steps):
        for seed in range(8):
            seen = start.seen(own, rng=random.Random(seed))
            assert 1 <= len(seen) <= 3
            assert generator.ideal_choice(asked, seen, step) == own + 1
        assert generator.ideal_choice(asked, start.seen(own), step) == own + 1
        assert generator.ideal_choice(asked, [], step) == 1  # one that sees nobody


def when(asked: generator.List, workers: int, passes: int) -> generator.Moment:
    """An ideal run after so many passes."""
    return list(generator.simulate(random.Random(0), asked, workers))[passes]


def test_a_step_is_shown_behind_the_others_as_it_found_them():
    asked = generator.List.of(["47+38", "86-29", "sort 5291", "reverse abcd", "sort 1243"])
    now = when(asked, 2, 40)  # both are in their second step
    seen = now.seen(1)
    once = generator.flatten(now, 1, seen)
    texts = set()
    for seed in range(20):
        view = generator.flatten(now, 1, seen, recalls=random.Random(seed))
        rest = iter(zip(view.tokens, view.weights, strict=True))
        assert all(token in (other for other, _ in rest) for token in once.tokens)  # in this order
        glimpsed = len(view.tokens) - len(once.tokens)
        assert sum(not weight for weight in view.weights) >= glimpsed
        texts.add("".join(view.tokens).removeprefix(opening(asked.problems)))
    assert any(text.startswith("\nBob: \nAlice: 1) ") for text in texts)  # both chose at once
    assert any(text.startswith("\nAlice: 1) 4") for text in texts)  # this step has no glimpses here
    stale = re.compile(r"\nAlice: 3\) [^.]*\nBob: 2\) |\nBob: 2\) [^.]*\.?\nAlice: 3\) ")
    assert any(stale.search(text) for text in texts)


def test_a_worker_that_chooses_has_no_glimpses_of_what_is_in_front_of_it_anyway():
    asked = generator.List.of(["47+38", "86-29"])
    now = when(asked, 2, 0)
    for seed in range(10):
        view = generator.flatten(now, 1, now.seen(1), recalls=random.Random(seed))
        alone = "".join(view.tokens).removeprefix(opening(asked.problems))
        assert re.match(r"(\nBob: )*\nAlice: \nBob: 2\) ", alone)


def test_a_decision_that_was_right_has_weight_where_it_was_written():
    asked = generator.List.of(["47+38", "86-29", "sort 5291"])
    now = when(asked, 1, 60)
    view = generator.flatten(now, 0, now.seen(0))
    chosen = [weight for token, weight in zip(view.tokens, view.weights, strict=True) if weight > 2]
    assert len(chosen) == 3  # one for each problem, and nothing else
    taken = generator.Step(1, [*generator.prefix("Bob"), *generator.solving(asked, 1)], 1, choosing=False)
    weights = generator._weights(asked, [generator.Step(0, number=1)], [], taken)
    assert weights[3] == 0  # a problem that another has taken before
    assert generator._weights(asked, [], [], taken)[3] > 2


def test_one_that_leaves_too_early_is_not_to_be_followed():
    asked = generator.List.of(["47+38", "86-29", "sort 5291"])
    runs = (generator.simulate(random.Random(seed), asked, 2, generator.Manner(leaves=0.5)) for seed in range(50))
    now = next(now for run in runs for now in run if [step.number for step in now.steps] == [0, 2])
    left = now.steps[0]
    assert generator.preferred(asked, now.steps) == [1, 3]
    weights = dict(
        zip((token.text for token in left.tokens), generator._weights(asked, now.done, [], left), strict=True)
    )
    assert weights[generator.TAKEN] == 0
    other = generator.Step(1 - left.worker, generator.prefix(generator.NAMES[1 - left.worker]))
    assert generator.ideal_choice(asked, [*now.done, left], other) > 0


def test_the_end_of_a_list_is_shown_more_often_where_another_is_still_at_work():
    asked = generator.List.of(["47+38", "sort 111111"])
    mix, run = generator.Mix(ends=2.0, busy=3.0), list(generator.simulate(random.Random(0), asked, 2))
    first = next(now for now in run if any(step.choosing for step in now.steps) and len(now.done) == 1)
    last = next(now for now in run if any(step.number == 0 for step in now.steps) and len(now.done) == 2)
    for now, rarity in ((first, 6.0), (last, 2.0)):
        (own,) = (step.worker for step in now.steps if step.choosing)
        assert generator._rarity(now, own, mix) == rarity


def test_an_answer_has_weight_where_the_text_in_front_tells_it():
    asked = generator.List.of(["47+38", "86-29", "sort 5291"])
    answer = generator.Token("y", generator.Part.ANSWER, about=1)
    step = generator.Step(1, [answer], 2, choosing=False)
    assert generator._weights(asked, [generator.Step(0, number=1)], [], step) == [generator.WRITTEN]
    assert generator._weights(asked, [generator.Step(0, number=3)], [], step) == [0]
    assert generator._weights(asked, [], [generator.Step(0, number=1)], step) == [0]  # only a glimpse of it


def test_a_run_ends_where_all_wait_for_one_another():
    asked = generator.List.of(["11+11", "#1+10", "#2+10"])
    run = list(generator.simulate(random.Random(0), asked, 2, generator.Manner(begins=(2, 3))))
    assert len(run) < 20
    assert not run[-1].done


def test_in_any_order_a_workers_own_steps_stay_in_theirs():
    asked = generator.List.of(make_sums(random.Random(1), 8))
    now = when(asked, 2, 95)
    owns = [step.number for step in now.done if step.worker == 0]
    assert len(owns) > 2
    orders = set()
    for seed in range(20):
        seen = now.seen(0, "shuffled", random.Random(seed))
        assert [step.number for step in seen if step.worker == 0] == owns
        orders.add(tuple((step.worker, step.number) for step in seen))
    assert len(orders) > 10


def test_a_drill_asks_and_answers_truly():
    rng = random.Random(4)
    answers = []
    for _ in range(200):
        view = generator.drill(rng, generator.List.of(make_chains(rng, rng.randint(1, 9))))
        _, *said = re.split(r"\n(Alice|Bob|Carol|Dave): ", "".join(view.tokens))
        begun: list[tuple[str, str]] = []
        last: dict[str, str] = {}
        for name, step in zip(said[::2], said[1::2], strict=True):
            new = re.match(r"\d", step)
            number = last[name] = new[0] if new else last[name]
            expected = any(other != name and theirs == number for other, theirs in begun)
            if answer := re.search(r"\(yes/no\): (yes|no)\n$", step):
                assert answer[1] == ("yes" if expected else "no")
                answers.append(answer[1])
            if new and not (answer and expected):
                begun.append((name, number))
        asked = [token for token, weight in zip(view.tokens, view.weights, strict=True) if weight]
        assert all(token in "yn" for token in asked)
    assert 0.35 < answers.count("yes") / len(answers) < 0.65


def test_a_stage_may_end_with_the_mean_of_its_weights_and_those_it_began_with():
    before, model = make_model(), make_model()
    own = [parameter.detach().clone() for parameter in model.parameters()]
    average(model, list(before.parameters()), 0.25)
    for mean, mine, other in zip(model.parameters(), own, before.parameters(), strict=True):
        torch.testing.assert_close(mean, 0.75 * mine + 0.25 * other)
    average(model, list(before.parameters()), 0.0)
    assert all(torch.allclose(mean, 0.75 * mine + 0.25 * other) for mean, mine, other in
               zip(model.parameters(), own, before.parameters(), strict=True))  # fmt: skip


def test_harder_problems_are_of_the_same_kinds_and_length_and_leave_those_that_others_use():
    rng = random.Random(5)
    changed = 0
    for _ in range(200):
        problems = make_chains(rng, 9)
        made = generator.harder(rng, problems, 0.5)
        found = generator.List.of(made).results  # every problem still has one
        for number, (before, after) in enumerate(zip(problems, made, strict=True), 1):
            if before == after:
                continue
            changed += 1
            verb, _, rest = after.partition(" ")
            assert before.startswith(verb)
            assert not any(f"#{number}" in problem for problem in problems)
            if verb == "sort":
                assert len(after) == len(before)
                assert len(set(rest)) <= 3
            else:
                numbers = [int(number) for number in rest.split()]
                assert len(set(numbers)) == 3
                assert max(numbers) - min(numbers) < 12
                assert found[number - 1] == str((max if verb == "largest" else min)(numbers))
    assert changed > 50
    state = rng.getstate()
    assert generator.harder(rng, problems, 0) == list(problems)
    assert rng.getstate() == state  # what was made without stays as it is


def test_the_stages_of_the_training_share_its_tokens(tmp_path):
    parts = Settings(tmp_path, tokens=1000, minutes=10).parts()
    assert [part.stage for part in parts] == list(STAGES)
    assert sum(part.tokens for part in parts) == pytest.approx(1000)
    assert sum(part.minutes for part in parts) == pytest.approx(10)
    assert len({part.seed for part in parts}) == len(parts)
    (last,) = Settings(tmp_path, start=tmp_path).parts()
    assert last.stage == STAGES[-1]
    assert last.tokens == last.stage.tokens
    progress = Progress(parts[0])
    assert progress.problems == 2
    progress.advance(int(parts[0].tokens), 0)
    assert progress.problems == MOST
    assert progress.done == pytest.approx(1, abs=0.01)
    assert progress.scale == 1  # the rate falls in the second stage alone
    progress = Progress(parts[1])
    assert progress.problems == MOST
    progress.advance(int(parts[1].tokens / 2), 0)
    assert progress.scale == pytest.approx(0.5, abs=0.01)
    progress.advance(int(parts[1].tokens / 2), 0)
    assert progress.scale == pytest.approx(0, abs=0.02)
    progress = Progress(parts[2])
    progress.advance(int(parts[2].tokens / 4), 0)
    assert progress.scale == pytest.approx(0.75 * parts[2].stage.rate, abs=0.01)
