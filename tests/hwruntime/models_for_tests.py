"""Tiny random models of many families, made on the spot, and blocks to run them on."""

import json
from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from hwruntime.attention import Choice, Executor, ModelShape
from hwruntime.attention.flashinfer import FlashInferExecutor
from hwruntime.attention.kernels import TorchKernels
from hwruntime.attention.prefill import TorchPrefills
from hwruntime.cache import Block, Pool, Storage
from hwruntime.checkpoint import Checkpoint
from hwruntime.graphs import Recorder
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.models import Model
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan

QWEN = Path(__file__).parents[1] / "parity" / "qwen2"  # a model's folder
VOCABULARY = 128
STD = 0.15  # of weights: large enough for attention to be far from uniform, so that a wrong rotation shows
BASE: dict[str, object] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 8,  # another head dim for values than for keys
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 2,
}


def rope(kind: str, **parameters: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=128)
SCALED = rope("yarn", factor=4.0, original_max_position_embeddings=128, llama_4_scaling_beta=0.1)
MSCALE = rope("yarn", factor=4.0, original_max_position_embeddings=128, mscale=1.0, mscale_all_dim=0.5)
DYNAMIC = {"max_position_embeddings": 80, **rope("dynamic", factor=4.0)}
LONGROPE = {
    "original_max_position_embeddings": 16,  # shorter than the tests' texts
    **rope(
        "longrope",
        short_factor=[1.0] * 8,
        long_factor=[1.0 + 0.5 * i for i in range(8)],
        original_max_position_embeddings=16,
    ),
}
WINDOW = {"sliding_window": 8}
BY_LAYER = {
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 2.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
LONGCAT = {**DEEPSEEK, "num_layers": 2, "zero_expert_num": 1, "moe_topk": 2, "expert_ffn_hidden_size": 32}


@dataclass(frozen=True)
class Family:
    """A kind of model, as transformers calls it, and what is special about this one."""

    name: str  # its kind and, behind a `+`, a note
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.name.split("+")[0]

    def config(self, **settings: object) -> PreTrainedConfig:
        return AutoConfig.for_model(self.kind, **deepcopy({**BASE, **self.settings, **settings}))  # it writes to them


WORKING = [
    Family("llama"),
    Family("llama+llama3", LLAMA3),
    Family("llama+yarn", YARN),
    Family("llama+linear", rope("linear", factor=2.0)),
    Family("llama+dynamic", DYNAMIC),
    Family("qwen2"),
    Family("qwen2+windows", {**WINDOW, "use_sliding_window": True, "max_window_layers": 2}),
    Family("qwen3"),
    Family("qwen3_moe", EXPERTS),
    Family("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 32}),
    Family("mistral", {"sliding_window": None}),
    Family("mistral+window", WINDOW),
    Family("mixtral", LOCAL_EXPERTS),
    Family("ministral", WINDOW),
    Family("gemma"),
    Family("gemma2", {**WINDOW, "query_pre_attn_scalar": 16}),
    Family("gemma3_text", {**WINDOW, "query_pre_attn_scalar": 16, **BY_LAYER}),
    Family("vaultgemma", WINDOW),
    Family("gpt_oss", {**LOCAL_EXPERTS, **WINDOW}),
    Family("gpt_oss+yarn", {**LOCAL_EXPERTS, **WINDOW, **YARN}),
    Family("smollm3", {"no_rope_layers": [1, 1, 1, 0]}),
    Family("phi", {"partial_rotary_factor": 0.5}),
    Family("phi3", {"partial_rotary_factor": 0.75}),
    Family("phi3+longrope", LONGROPE),
    Family("phimoe+window", {**LOCAL_EXPERTS, **WINDOW}),  # the window is in its mask alone
    Family("olmo2"),
    Family("olmo3+yarn", {**WINDOW, **YARN}),
    Family("olmoe+no window", {**EXPERTS, **WINDOW}),  # names a window that it does not use
    Family("cohere"),
    Family("cohere2", WINDOW),
    Family("granite", {"attention_multiplier": 0.2}),
    Family("granite_swa", WINDOW),
    Family("exaone4", {**WINDOW, "sliding_window_pattern": 4}),
    Family("glm", {"partial_rotary_factor": 0.5}),
    Family("glm4", {"partial_rotary_factor": 0.5}),
    Family("glm4_moe", {**DEEPSEEK, "num_key_value_heads": 2, "partial_rotary_factor": 0.5}),
    Family("deepseek_v2", DEEPSEEK),
    Family("deepseek_v3", DEEPSEEK),
    Family("deepseek_v3+yarn", {**DEEPSEEK, **MSCALE}),
    Family("longcat_flash", LONGCAT),
    Family("mimo_v2_flash", {**WINDOW, **LOCAL_EXPERTS, "n_routed_experts": 4}),
    Family("minimax_m2", {**LOCAL_EXPERTS, "rotary_dim": 8}),
    Family("nanochat"),  # turns the other way
    Family("nemotron", {"partial_rotary_factor": 0.5}),
    Family("stablelm", {"partial_rotary_factor": 0.25}),
    Family("starcoder2", {"sliding_window": None}),
    Family("gpt_neox", {"rotary_pct": 0.25}),
    Family("helium"),
    Family("ernie4_5"),
    Family("seed_oss"),
    Family("apertus"),
    Family("arcee"),
    Family("dots1", DEEPSEEK | {"num_key_value_heads": 2, "n_shared_experts": 1}),
    Family("modernbert-decoder", {"local_attention": 16}),
]
BY_NAME = {family.name: family for family in WORKING}

# Rounding sends a token to other experts in random models, whose experts are all alike to it.
DENSE = [family for family in WORKING if not any("expert" in name for name in family.config().to_dict())]


def random_model(config: PreTrainedConfig, std: float = STD) -> PreTrainedModel:
    """A model with random weights, always the same; norms and biases too, as ones and zeros would hide mistakes."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                parameter.add_(noise * 0.2)
            else:
                parameter.copy_(noise * std)
    return model


def loaded(model: PreTrainedModel, attention: str | Choice = "auto", recorder: Recorder | None = None) -> Model:
    """`Model.load` without files."""
    config = model.config.get_text_config()
    tokenizer = object.__new__(ModelTokenizer)  # none of these tests has a text
    checkpoint = Checkpoint(config.model_type, model, tokenizer, config.max_position_embeddings, [])
    return Model(checkpoint, attention, recorder=recorder)


def flashinfer_on_cpu(model: ModelShape, pool: Pool, storage: Storage) -> Executor:
    """The FlashInfer executor without FlashInfer: attention and kernels in plain torch."""
    return FlashInferExecutor(model, pool, storage, TorchPrefills(), TorchKernels())


FLASHINFER_ON_CPU = Choice("flashinfer", "for a test", flashinfer_on_cpu)


def random_tokens(count: int, seed: int = 0) -> list[int]:
    return torch.randint(3, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def flat_logits(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """What the model's own attention makes of a text, [tokens, vocabulary]: only before it is loaded."""
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


class Blocks:
    """Blocks of a model's pool, by number; made as they are first written."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.blocks: defaultdict[int, Block] = defaultdict(Block)

    def write(self, view: Sequence[int], tokens: list[int]) -> Tensor:
        """Write `tokens` to the last block of `view` in one pass; their logits [tokens, vocabulary]."""
        return self.write_all([(view, tokens)])

    def write_all(self, rows: Sequence[tuple[Sequence[int], list[int]]], wanted: Sequence[int] | None = None) -> Tensor:
        """One pass of several rows, each a view and new tokens for its last block."""
        pool = self.model.pool
        slots: list[int] = []
        ends = []
        for view, tokens in rows:
            block = self.blocks[view[-1]]
            slots += pool.slots(block, pool.extend(block, len(tokens)))
            ends.append(block.length)
        planned = [
            Row((*(Piece(b, self.blocks[b].length) for b in view[:-1]), Piece(view[-1], end)), len(tokens))
            for (view, tokens), end in zip(rows, ends, strict=True)
        ]
        blocks = {number: PlanBlock(block.length, block.pages) for number, block in self.blocks.items()}
        flat = [token for _, tokens in rows for token in tokens]
        plan = build_plan(planned, blocks, pool.page_size)
        return self.model.forward(flat, plan, slots, range(len(flat)) if wanted is None else wanted)

    def move(self, source: int, pad: int) -> None:
        """Append a block to another as a program's `move` does, and empty it."""
        pool, by = self.model.pool, self.blocks[pad].length
        moved = self.blocks[source]
        target = pool.extend(self.blocks[pad], moved.length)
        self.model.move(pool.slots(moved, range(moved.length)), pool.slots(self.blocks[pad], target), by)
        pool.clear(moved)


def configure(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
