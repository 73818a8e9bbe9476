"""How well the embedded model does the work: solved problems, passes and collisions for 1 to 4 workers.

    python training/evaluate.py --model runtime/hwruntime/tiny --prompts 100

Workers are simulated with plain forwards: in every pass, each worker's view is encoded anew as flat text. That is what
the model was trained on; the runtime's concurrent cache is close to it, but not the same.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).parents[1]))
from training.generator import END, KINDS, NAMES, TAKEN, make_problems, opening, pieces, prefix, result, solution

BUDGET = 400


@dataclass
class Worker:
    """One worker of a simulated run; tokens are pieces of text."""

    name: str
    block: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    step: str = ""
    stopped: bool = False


@dataclass
class Run:
    """One prompt, worked on by a few workers."""

    problems: tuple[str, ...]
    workers: list[Worker]
    done: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    passes: int = 0

    @property
    def live(self) -> list[Worker]:
        """The workers that have not stopped."""
        return [worker for worker in self.workers if not worker.stopped]

    def view(self, own: Worker) -> list[str]:
        """What `own` sees: the opening, what is done, the others' blocks, and last its own."""
        others = [token for worker in self.workers if worker is not own for token in worker.block]
        return [*pieces(opening(self.problems)), *self.done, *others, *own.block]

    def take(self, worker: Worker, token: str) -> None:
        """Follow the program's rules after `worker` has sampled `token`."""
        worker.step += token
        worker.pending = [token]
        if worker.step.endswith(TAKEN):
            worker.stopped = True
            worker.block.append(token)
        elif token == END:
            self.steps.append(worker.step)
            self.done += worker.block
            worker.block, worker.step, worker.pending = [], "", [END, *prefix(worker.name)]


@dataclass(frozen=True)
class Figures:
    """What `evaluate` measures for one number of workers."""

    workers: int
    prompts: int
    problems: int
    solved: float  # share of the problems with a right result
    perfect: float  # share of the prompts with all problems solved
    stopped: float  # share of the prompts where all workers stopped by themselves
    passes: float  # mean
    collisions: int  # problems taken again by somebody, in all prompts together
    kinds: dict[str, float]  # solved, by kind


def sample(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, views: Sequence[list[str]]) -> list[str]:
    """The most likely next token of every view; views of like lengths are run together."""
    order = sorted(range(len(views)), key=lambda index: len(views[index]))
    tokens = [""] * len(views)
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        ids = [torch.tensor(tokenizer.convert_tokens_to_ids(views[row])) for row in rows]
        batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
        hidden = model.base_model(input_ids=batch, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in ids])]
        best = model.lm_head(last).argmax(-1).tolist()
        for row, token in zip(rows, tokenizer.convert_ids_to_tokens(best), strict=True):
            tokens[row] = token
    return tokens


@torch.inference_mode()
def play(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, runs: Sequence[Run]) -> None:
    """Play all runs to their ends, all together, a pass at a time."""
    while live := [run for run in runs if run.live and run.passes < BUDGET]:
        rows = [(run, worker) for run in live for worker in run.live]
        for _, worker in rows:
            worker.block += worker.pending
            worker.pending = []
        tokens = sample(model, tokenizer, [run.view(worker) for run, worker in rows])
        for (run, worker), token in zip(rows, tokens, strict=True):
            run.take(worker, token)
        for run in live:
            run.passes += 1


def new_run(problems: tuple[str, ...], workers: int) -> Run:
    """A run that has not begun."""
    return Run(problems, [Worker(name, pending=prefix(name)) for name in NAMES[:workers]])


def kind(problem: str) -> str:
    """Which kind of problem this is."""
    if match := re.match(r"\d+([+-])", problem):
        return "sum" if match[1] == "+" else "difference"
    verb = problem.split()[0]
    return verb if verb in KINDS else "extreme"


def solved(run: Run) -> list[bool]:
    """For every problem, whether some finished step states it and its right result."""
    right = set()
    for step in run.steps:
        number, _, rest = step.removesuffix(END).partition(") ")
        problem, _, work = rest.partition(": ")
        right.add((number, problem, result(work)))
    return [
        (str(number), problem, result(solution(problem))) in right for number, problem in enumerate(run.problems, 1)
    ]


def measure(runs: Sequence[Run]) -> Figures:
    """Add up finished runs."""
    marks = [(kind(problem), ok) for run in runs for problem, ok in zip(run.problems, solved(run), strict=True)]
    asked, right = Counter(name for name, _ in marks), Counter(name for name, ok in marks if ok)
    taken = [Counter(step.partition(")")[0] for step in run.steps) for run in runs]
    return Figures(
        workers=len(runs[0].workers),
        prompts=len(runs),
        problems=len(runs[0].problems),
        solved=right.total() / asked.total(),
        perfect=sum(all(solved(run)) for run in runs) / len(runs),
        stopped=sum(not run.live for run in runs) / len(runs),
        passes=sum(run.passes for run in runs) / len(runs),
        collisions=sum(count - 1 for counter in taken for count in counter.values()),
        kinds={name: round(right[name] / asked[name], 4) for name in KINDS if asked[name]},
    )


def main() -> None:
    """Read the command line, and print one line of figures for every number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--problems", type=int, default=6)
    parser.add_argument("--seed", type=int, default=12345, help="of the prompts; keep it apart from the training seed")
    parser.add_argument("--show", type=int, default=0, help="print so many runs that went wrong")
    options = parser.parse_args()
    model = LlamaForCausalLM.from_pretrained(options.model)  # comes in evaluation mode
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    for workers in range(1, len(NAMES) + 1):
        rng = random.Random(options.seed)
        runs = [new_run(make_problems(rng, options.problems), workers) for _ in range(options.prompts)]
        play(model, tokenizer, runs)
        print(json.dumps(asdict(measure(runs))), flush=True)
        for run in [run for run in runs if not all(solved(run))][: options.show]:
            print(opening(run.problems), *run.steps, sep="  \n")


if __name__ == "__main__":
    main()
