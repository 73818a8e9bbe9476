"""SGLang's ModelRunner, made as SGLang's own one-batch benchmark makes it, without scheduler and server; and batches
for it, built by hand: any tokens at any positions, written to any slots."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from sglang.benchmark.one_batch import _init_process_global_configs
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.distributed import bootstrap
from sglang.srt.entrypoints.engine import _set_envs_and_config
from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS
from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch, ForwardMode
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.runtime_context import SpawnRanks, publish, spawn_world_rank
from sglang.srt.server_args import PortArgs, ServerArgs
from torch import Tensor

from hwruntime.errors import DeviceError, ModelError, RunError
from hwruntime.sglang import plugin

MOST_SEQUENCES = 512  # of a pass: SGLang's buffers have room for so many tokens that logits are wanted of


@dataclass(frozen=True)
class Settings:
    """What a rank is made from; the same for all of them but `rank` and `local`, its number on its node.

    `place`: a folder or a hub name; `slots`: of the cache, without SGLang's own; None for as many as there is room for.
    `address`: HOST:PORT of the process group; `context`: the longest view, in tokens.
    """

    place: str
    device: str
    dtype: str
    context: int
    slots: int | None
    trust: bool
    ranks: int
    nodes: int
    address: str
    rank: int = 0
    local: int = 0


def make_runner(settings: Settings) -> ModelRunner:
    """A runner with weights, cache and our attention backend. Raises what SGLang raises."""
    plugin.register()
    args = ServerArgs(
        model_path=settings.place,
        tokenizer_path=settings.place,
        skip_tokenizer_init=True,
        load_format="safetensors",  # never pickles
        trust_remote_code=settings.trust,
        device=settings.device,
        dtype=settings.dtype,
        attention_backend=plugin.NAME,
        context_length=settings.context,
        max_total_tokens=settings.slots,
        max_running_requests=MOST_SEQUENCES,
        page_size=1,
        tp_size=settings.ranks,
        nnodes=settings.nodes,
        node_rank=settings.rank * settings.nodes // settings.ranks,
        dist_init_addr=settings.address,
        disable_cuda_graph=True,
        disable_radix_cache=True,
        disable_hybrid_swa_memory=True,  # all layers keep all tokens, at the same slots
        random_seed=0,
        log_level="warning",
    )
    args.resolve_once()
    _set_envs_and_config(args)
    ports = PortArgs.init_new(args)
    world_rank = spawn_world_rank(args, tp_rank=settings.rank, pp_rank=0)
    publish(args, role="scheduler", ranks=SpawnRanks(world_rank=world_rank, gpu_id=settings.local))
    _init_process_global_configs()
    config = ModelConfig.from_server_args(args)
    bootstrap.init_parallel_runtime(server_args=args, device=settings.device, dist_port=ports.nccl_port)
    bootstrap.init_layer_runtime(model_config=config)
    runner = ModelRunner(
        model_config=config,
        mem_fraction_static=args.mem_fraction_static,
        gpu_id=settings.local,
        nccl_port=ports.nccl_port,
        server_args=args,
    )
    runner.alloc_memory_pool()
    runner.init_attention_backends()
    runner.init_cuda_graphs()  # none: but it makes what runs passes without them
    return runner


def take_slots(runner: ModelRunner, count: int | None) -> range:
    """All slots that we work with, from SGLang's allocator, next to each other; as many as there are without a count.

    Raises `DeviceError` where there are not so many, `ModelError` for a cache that is not one of keys and values.
    """
    if type(runner.token_to_kv_pool).__name__ != "MHATokenToKVPool":
        kind = type(runner.token_to_kv_pool).__name__
        raise ModelError(
            f"the model keeps something else than keys and values of its heads in SGLang's cache ({kind})",
            help="models with latent attention (MLA) or recurrent layers cannot run on SGLang here",
        )
    allocator = runner.token_to_kv_pool_allocator
    free = allocator.available_size()
    taken = None if count is not None and count > free else allocator.alloc(free if count is None else count)
    if taken is None:
        raise DeviceError(
            f"the cache was to hold {count} tokens, and SGLang found room for {free}", help="lower --kv-tokens"
        )
    slots = taken.tolist()
    assert all(b == a + 1 for a, b in pairwise(slots)), "a fresh allocator gives slots in a row"
    return range(slots[0], slots[-1] + 1)


def make_batch(
    runner: ModelRunner, tokens: Sequence[int], positions: Sequence[int], slots: Sequence[int], lengths: Sequence[int]
) -> ForwardBatch:
    """A pass of tokens [T], in sequences of these lengths: SGLang makes logits for the last token of each.

    Raises `RunError` for more of them than there is room for.
    """
    if len(lengths) > MOST_SEQUENCES:
        raise RunError(
            f"a pass on SGLang draws at most {MOST_SEQUENCES} tokens, this one {len(lengths)}",
            help="run fewer workers at the same time: lower --max-concurrency",
        )
    assert len(tokens) == len(positions) == len(slots) == sum(lengths), "every token has a position, slot and sequence"
    device = runner.device
    whole = torch.tensor(lengths, dtype=torch.int64)
    starts = [0, *accumulate(lengths)][:-1]
    count = len(lengths)
    batch = ForwardBatch(
        forward_mode=ForwardMode.EXTEND,
        batch_size=count,
        input_ids=torch.tensor(tokens, device=device),
        req_pool_indices=torch.arange(1, count + 1, device=device),
        seq_lens=whole.to(device),
        out_cache_loc=torch.tensor(slots, device=device),
        seq_lens_sum=sum(lengths),
        seq_lens_cpu=whole,
        positions=torch.tensor(positions, device=device),
        capture_hidden_mode=CaptureHiddenMode.NULL,
        extend_num_tokens=len(tokens),
        extend_seq_lens=whole.to(device, torch.int32),
        extend_prefix_lens=torch.zeros(count, dtype=torch.int32, device=device),
        extend_start_loc=torch.tensor(starts, dtype=torch.int32, device=device),
        extend_prefix_lens_cpu=[0] * count,
        extend_seq_lens_cpu=list(lengths),
    )
    batch.global_num_token_non_padded_cpu = len(tokens)
    return batch


def run_batch(runner: ModelRunner, batch: ForwardBatch) -> Tensor:
    """Logits behind the last token of each sequence, float32 [sequences, vocabulary]: all of it, on every rank."""
    logits: Tensor = runner.forward(batch).logits_output.next_token_logits
    return logits.float()


def plain_logits(runner: ModelRunner, tokens: Sequence[int], slots: Sequence[int]) -> Tensor:
    """Logits of a text [T, vocabulary] by an attention backend of SGLang's own: every beginning of it is a sequence.

    `slots`: T * (T + 1) / 2 of them at least; what they hold is overwritten.
    """
    lengths = range(1, len(tokens) + 1)
    flat = [token for n in lengths for token in tokens[:n]]
    positions = [position for n in lengths for position in range(n)]
    ours = runner.attn_backend
    runner.attn_backend = ATTENTION_BACKENDS["torch_native" if runner.device == "cpu" else "triton"](runner)
    batch = make_batch(runner, flat, positions, slots[: len(flat)], lengths)
    for n, end in zip(lengths, accumulate(lengths), strict=True):
        runner.req_to_token_pool.req_to_token[n, :n] = batch.out_cache_loc[end - n : end].to(torch.int32)
    try:
        return run_batch(runner, batch)
    finally:
        runner.attn_backend = ours
