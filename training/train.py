"""Make the embedded model `tiny`: tokenizer, model, training and export, from one seed.

    python training/train.py --out runtime/hwruntime/tiny

Ordinary causal-LM training on flat text from `generator.py`; it never sees a concurrent cache.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))
from hwlang.evaluation.problems import MOST
from training.generator import PIECE, SPECIAL, VOCABULARY, Mix, View, views

UNK, PAD, EOS = SPECIAL
IDS = {piece: index for index, piece in enumerate(VOCABULARY)}


@dataclass(frozen=True)
class Stage:
    """A part of the training, with optimizers of its own. Shares are of this part."""

    tokens: int
    mix: Mix
    warm_up: float = 0.01  # by here the rate is the full one
    curriculum: float = 0.0  # by here the texts have as many problems as they may
    decay: float = 0.0  # the rate falls to nothing over this last share
    rate: float = 1.0  # share of the full one
    keeps: float = 0.0  # share of the weights that it began with, in the mean of those and its own that it ends with


# In the second part there is more of where long lists end, and of questions where a step begins; in the others of what
# is seldom asked, and of what was got wrong behind the parts before.
FIRST = 26_407_000
SELDOM = Mix(ends=4.0, last=4.0, starts=(0.4, 0.8), drills=0.2, hard=0.5)
SYNCED = replace(SELDOM, ends=6.0, busy=3.0, last=8.0, long=0.4, synced=0.6)
STAGES = (
    Stage(FIRST, Mix(drills=0.3), warm_up=360_000 / FIRST, curriculum=10_800_000 / FIRST),
    Stage(24_000_000, Mix(ends=4.0, starts=(0.4, 0.8), drills=0.3), decay=1.0),
    Stage(8_000_000, SELDOM, decay=1.0, rate=0.4),
    Stage(12_000_000, SELDOM, decay=1.0, rate=0.5),
    Stage(5_000_000, replace(SELDOM, ends=16.0, long=0.4), decay=1.0, rate=0.3, keeps=0.5),
    Stage(3_000_000, replace(SELDOM, ends=12.0, last=12.0, long=0.4), decay=1.0, rate=0.3, keeps=0.5),
    Stage(4_000_000, SYNCED, decay=1.0, rate=0.3, keeps=0.5),
    Stage(4_000_000, SYNCED, decay=1.0, rate=0.3, keeps=0.5),
)


@dataclass(frozen=True)
class Settings:
    """How to train. Training ends after `tokens` tokens or `minutes` minutes, whichever comes first."""

    out: Path
    start: Path | None = None  # weights to go on from with the last stage; else from scratch
    seed: int = 1
    tokens: int | None = None  # of all stages; None for theirs, else each has its part of it, as of the minutes
    minutes: float = float("inf")
    device: str = "cpu"
    processes: int = 2  # on a CPU: of one thread each, which share every batch
    batch_tokens: int = 3072
    matrix_rate: float = 0.01
    rate: float = 4e-3
    log_every: int = 100
    export_every: int = 500

    @property
    def shares(self) -> int:
        """Processes that share every batch."""
        return self.processes if self.device == "cpu" else 1

    def parts(self) -> list[Part]:
        """The stages to go through."""
        stages = list(enumerate(STAGES, self.seed))[len(STAGES) - 1 if self.start else 0 :]
        whole = sum(stage.tokens for _, stage in stages)
        tokens, minutes = (self.tokens or whole) / whole, self.minutes / whole
        return [Part(stage, seed, stage.tokens * tokens, stage.tokens * minutes) for seed, stage in stages]


@dataclass(frozen=True)
class Part:
    """A stage, the seed of its texts, and when it ends: after so many tokens, or minutes."""

    stage: Stage
    seed: int
    tokens: float
    minutes: float


class Progress:
    """How far a part of the training has come, and what follows from that."""

    def __init__(self, part: Part) -> None:
        self.part, self.start = part, time.monotonic()
        self.tokens, self.done = 0, 0.0

    def minutes(self) -> float:
        """Since the start."""
        return (time.monotonic() - self.start) / 60

    def advance(self, tokens: int, minutes: float) -> None:
        """Count one more batch of `tokens`, at `minutes` since the start."""
        self.tokens += tokens
        self.done = max(self.tokens / self.part.tokens, minutes / self.part.minutes)

    @property
    def problems(self) -> int:
        """The most problems that a text may have now."""
        curriculum = self.part.stage.curriculum
        return min(MOST, 2 + int((MOST - 1) * self.done / curriculum)) if curriculum else MOST

    @property
    def scale(self) -> float:
        """The share of the full rate to use now: up quickly, then level, then down to nothing."""
        stage = self.part.stage
        left = (1 - self.done) / stage.decay if stage.decay else 1.0
        return stage.rate * max(0.0, min(1.0, self.done / stage.warm_up, left))

    def __str__(self) -> str:
        minutes = self.minutes()
        pace = f"{minutes:.1f} minutes, {self.tokens / minutes / 60:.0f} tokens/s"
        return f"{self.tokens / 1e6:.2f}M tokens, up to {self.problems} problems, {pace}"


@dataclass(frozen=True)
class Batch:
    """ids and weights: (rows, length); weights[:, i] is the weight of predicting ids[:, i]."""

    ids: Tensor
    weights: Tensor


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the vocabulary, else one per character: decoding gives back the very text."""
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=UNK,
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def make_model() -> LlamaForCausalLM:
    """A Llama of 1.0 million parameters."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=IDS[EOS],
        pad_token_id=IDS[PAD],
    )
    return LlamaForCausalLM(config)


def export(model: LlamaForCausalLM, out: Path) -> None:
    """Write everything that `from_pretrained` needs."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=IDS[EOS], pad_token_id=IDS[PAD]
    )
    model.save_pretrained(out)
    make_tokenizer().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone


def pack(rows: list[View], device: str) -> Batch:
    """Pad views to one length. Padding is on the right, where causal attention never looks."""
    length = max(len(row.tokens) for row in rows)
    ids = torch.full((len(rows), length), IDS[PAD])
    weights = torch.zeros(len(rows), length)
    for index, row in enumerate(rows):
        ids[index, : len(row.tokens)] = torch.tensor([IDS[token] for token in row.tokens])
        weights[index, : len(row.tokens)] = torch.tensor(row.weights)
    return Batch(ids.to(device), weights.to(device))


def batches(rng: random.Random, progress: Progress, size: int, device: str) -> Iterator[Batch]:
    """Batches of about `size` tokens without end; views of like lengths go together, in random order."""
    while True:
        pool: list[View] = []
        while sum(len(view.tokens) for view in pool) < 16 * size:
            pool += views(rng, progress.problems, progress.part.stage.mix)
        pool.sort(key=lambda view: len(view.tokens))
        groups: list[list[View]] = [[]]
        for view in pool:
            if len(view.tokens) * (len(groups[-1]) + 1) > size:
                groups.append([])
            groups[-1].append(view)
        rng.shuffle(groups)
        yield from (pack(group, device) for group in groups if group)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrix to each of (n, rows, columns), roughly: five Newton-Schulz steps."""
    tall = matrices.size(1) > matrices.size(2)
    x: Tensor = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        square: Tensor = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class Muon:
    """Muon (momentum, made orthogonal) for the weight matrices inside the layers; in fp32, which is quick on a CPU."""

    def __init__(
        self, parameters: list[nn.Parameter], rate: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        shapes = sorted({tuple(parameter.shape) for parameter in parameters})
        self.groups = [[p for p in parameters if tuple(p.shape) == shape] for shape in shapes]
        self.averages = [group[0].new_zeros(len(group), *group[0].shape) for group in self.groups]
        self.rate, self.momentum, self.decay = rate, momentum, decay

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update every matrix at `scale` times the full rate."""
        for group, average in zip(self.groups, self.averages, strict=True):
            gradient = torch.stack([parameter.grad for parameter in group if parameter.grad is not None])
            average.lerp_(gradient, 1 - self.momentum)
            rows, columns = group[0].shape
            update = orthogonal(gradient.lerp(average, self.momentum)) * max(1.0, rows / columns) ** 0.5
            for parameter, change in zip(group, update, strict=True):
                parameter.mul_(1 - scale * self.rate * self.decay).sub_(change, alpha=scale * self.rate)


def loss_of(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy over the weighted tokens."""
    logits = model(input_ids=batch.ids, use_cache=False).logits
    weights = batch.weights[:, 1:].flatten()
    kept = weights.nonzero().squeeze(1)
    losses = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1)[kept], batch.ids[:, 1:].flatten()[kept], reduction="none"
    )
    return (losses * weights[kept]).sum() / weights[kept].sum()


def share(model: LlamaForCausalLM, progress: Progress, tokens: int) -> None:
    """Average the gradients of all processes, and agree on how far training has come."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    clock = progress.minutes() if dist.get_rank() == 0 else 0.0
    told = torch.tensor([float(tokens), clock], device=gradients[0].device)
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), told])
    dist.all_reduce(flat)
    flat, (tokens_now, minutes_now) = flat[:-2] / dist.get_world_size(), flat[-2:].tolist()
    for gradient, mean in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
    progress.advance(int(tokens_now), minutes_now)


def train(rank: int, settings: Settings, meeting: str) -> None:
    """Train as process `rank` of `settings.processes`; the first one logs and exports now and then."""
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=settings.shares)
    model = LlamaForCausalLM.from_pretrained(settings.start) if settings.start else make_model()
    model.to(settings.device).train()  # type: ignore[arg-type]
    for part in settings.parts():
        if rank == 0:
            print(f"stage of {part.tokens / 1e6:.2f}M tokens: {part.stage.mix}", flush=True)
        go_through(part, model, rank, settings)
    dist.destroy_process_group()


def go_through(part: Part, model: LlamaForCausalLM, rank: int, settings: Settings) -> None:
    """Train for one stage."""
    inner = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    rest = [p for name, p in model.named_parameters() if not ("layers" in name and p.ndim == 2)]
    muon = Muon(inner, settings.matrix_rate)
    adam = torch.optim.AdamW(rest, lr=settings.rate, betas=(0.9, 0.95), weight_decay=0.0)
    progress = Progress(part)
    began = [p.detach().clone() for p in model.parameters()]
    rng = random.Random(f"{part.seed} {rank}")
    recent = 0.0
    for step, batch in enumerate(batches(rng, progress, settings.batch_tokens // settings.shares, settings.device), 1):
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        share(model, progress, batch.ids.numel())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = progress.scale * settings.rate
        adam.step()
        muon.step(progress.scale)
        model.zero_grad()
        recent += loss.item() / settings.log_every
        if rank == 0 and step % settings.log_every == 0:
            print(f"step {step} loss {recent:.4f} {progress}", flush=True)
        if step % settings.log_every == 0:
            recent = 0.0
        if progress.done >= 1:
            average(model, began, part.stage.keeps)
        if rank == 0 and (step % settings.export_every == 0 or progress.done >= 1):
            export(model, settings.out)
        if progress.done >= 1:
            return


@torch.no_grad()
def average(model: LlamaForCausalLM, began: list[Tensor], keeps: float) -> None:
    """Take the mean of a model's weights and those that it began a stage with, of which it `keeps` a share."""
    for parameter, before in zip(model.parameters(), began, strict=True):
        parameter.lerp_(before, keeps)


def main() -> None:
    """Read the command line and train."""
    defaults = Settings(Path("tiny"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and the tokenizer")
    parser.add_argument("--start", type=Path, help="folder with weights to go on from, with the last stage")
    parser.add_argument("--tokens", type=int, default=defaults.tokens, help="of all stages together")
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    options = parser.parse_args()
    settings = Settings(options.out, options.start, options.seed, options.tokens, options.minutes, options.device)
    with tempfile.TemporaryDirectory() as folder:
        spawn(train, (settings, f"{folder}/meeting"), settings.shares)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
