"""What we hand to FlashInfer, against FlashInfer itself as far as it goes without a GPU: the signatures of what we
call, and its own references in plain torch."""

import inspect
import math
import random
import tomllib
from pathlib import Path

import flashinfer
import pytest
import torch
from flashinfer.trace.templates.attention import gqa_paged_prefill_trace
from flashinfer.trace.templates.cascade import merge_states_trace
from flashinfer.trace.templates.page import append_paged_kv_cache_trace
from flashinfer.trace.templates.rope import apply_rope_pos_ids_trace, apply_rope_with_cos_sin_cache_trace
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwruntime.attention import Heads, Layer, ModelShape
from hwruntime.attention.flashinfer import FlashInferExecutor
from hwruntime.attention.kernels import TorchKernels
from hwruntime.attention.prefill import STATIC_WORKSPACE, FlashInferPrefill, Prefill, Rope, paged, turned
from hwruntime.cache import Block, Pool, Storage
from hwruntime.rotary import Rotary
from tests.hwruntime.passes import flat, random_pass, run

DIM = 64
ROTARY = Rotary(10000.0 ** (-torch.arange(0, DIM, 2) / DIM))
REAL = flashinfer.BatchPrefillWithPagedKVCacheWrapper
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_it_is_the_version_that_the_extra_asks_for():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert f"flashinfer-python=={flashinfer.__version__}" in extras["flashinfer"]


class StandIn:
    """FlashInfer's wrapper on a CPU: its signatures, what it demands of its arguments, and its own reference."""

    def __init__(self, *arguments, **keywords) -> None:
        bound = inspect.signature(REAL.__init__).bind(None, *arguments, **keywords).arguments
        assert bound["kv_layout"] == "HND"
        assert bound["backend"] == "fa2"
        self._buffers = {name: buffer for name, buffer in bound.items() if name.endswith("_buf")}
        self._captured = bound.get("use_cuda_graph", False)
        assert len(self._buffers) == (4 if self._captured else 0)
        self._rows: int | None = None

    def reset_workspace_buffer(self, *arguments, **keywords) -> None:
        bound = inspect.signature(REAL.reset_workspace_buffer).bind(None, *arguments, **keywords).arguments
        assert bound["int_workspace_buffer"].numel() == STATIC_WORKSPACE

    def plan(self, *arguments, **keywords) -> None:
        bound = inspect.signature(REAL.plan).bind(None, *arguments, **keywords)
        bound.apply_defaults()
        self.planned = planned = bound.arguments
        for name in ("qo_indptr", "paged_kv_indptr", "paged_kv_indices", "paged_kv_last_page_len"):
            assert planned[name].dtype == torch.int32
            if self._captured and name != "paged_kv_indices":
                assert len(planned[name]) == len(self._buffers[f"{name}_buf"]), "the batch size stays"
        pages = planned["paged_kv_indptr"].diff()
        assert torch.equal(planned["seq_lens"], (pages - 1) * planned["page_size"] + planned["paged_kv_last_page_len"])
        lengths = planned["qo_indptr"].diff()
        assert not planned["causal"] or (lengths <= planned["seq_lens"]).all(), "FA2's mask is wrong else"
        if self._captured:
            assert len(planned["paged_kv_indices"]) <= len(self._buffers["paged_kv_indices_buf"])
            assert (lengths == planned["uniform_q_len"]).all()
            assert self._rows in (None, int(lengths.sum())), "so does the number of rows"
            self._rows = int(lengths.sum())
        assert planned["num_qo_heads"] % planned["num_kv_heads"] == 0
        assert planned["paged_kv_last_page_len"].min() >= 1
        assert planned["paged_kv_last_page_len"].max() <= planned["page_size"]

    def run(self, *arguments, **keywords) -> None:
        bound = inspect.signature(inspect.unwrap(REAL.run)).bind(None, *arguments, **keywords).arguments
        planned, q = self.planned, bound["q"]
        pages_k, pages_v = bound["paged_kv_cache"]
        assert pages_k.shape[1:] == (planned["num_kv_heads"], planned["page_size"], planned["head_dim_qk"])
        assert pages_k.stride() == pages_v.stride(), "equal strides take the kernels that are built first"
        assert (bound["out"].shape, bound["lse"].shape) == (q.shape, q.shape[:2])
        assert bound["lse"].dtype == torch.float32
        for request in range(len(planned["paged_kv_last_page_len"])):
            rows = slice(*planned["qo_indptr"][request : request + 2].tolist())
            slots = self._slots(request)
            for each in [rows] if planned["causal"] else [slice(i, i + 1) for i in range(rows.start, rows.stop)]:
                bound["out"][each], bound["lse"][each] = self._reference(q[each], pages_k, pages_v, slots)

    def _slots(self, request: int) -> Tensor:
        """A request's keys as pages of one token: the reference knows of no last page that is not full."""
        planned, size = self.planned, self.planned["page_size"]
        first, end = planned["paged_kv_indptr"][request : request + 2].tolist()
        slots = (planned["paged_kv_indices"][first:end, None] * size + torch.arange(size)).flatten()
        return slots[: (end - first - 1) * size + int(planned["paged_kv_last_page_len"][request])]

    def _reference(self, q: Tensor, pages_k: Tensor, pages_v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (x.transpose(1, 2).flatten(0, 1)[:, None] for x in (pages_k, pages_v))  # NHD, pages of one token
        indptrs = torch.tensor([0, len(q)]), torch.tensor([0, len(slots)])
        return gqa_paged_prefill_trace.reference(q, k, v, *indptrs, slots, self.planned["sm_scale"])


class FlashInferOnCpu:
    """`FlashInferPrefills` without a GPU's memory."""

    def make(self, shape: object) -> Prefill:
        return FlashInferPrefill(torch.empty(0, dtype=torch.uint8), shape)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([(1, 1), (4, 2), (6, 1)]), st.booleans())
def test_flashinfers_reference_gives_flat_attention(rng, heads, pads):
    made = random_pass(random.Random(rng.randrange(2**31)), *heads, rotary=ROTARY, value_dim=DIM, padded=DIM)
    layer = Layer(0, Heads(*heads, DIM, DIM), 0.5 * DIM**-0.5, ROTARY)
    model = ModelShape(torch.device("cpu"), torch.float32, [layer])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flashinfer, "BatchPrefillWithPagedKVCacheWrapper", StandIn)
        executor = FlashInferExecutor(model, made.pool, made.storage, FlashInferOnCpu(), TorchKernels(), pads)
        got = run(made, layer, executor)
    torch.testing.assert_close(got.double(), flat(made, layer), atol=2e-2, rtol=1e-2)  # its results are bfloat16


def test_merging_is_flashinfers():
    outs, lses = torch.randn(5, 3, 4, DIM), torch.randn(5, 3, 4) * 8  # [tokens, partial results, heads, D], base 2
    expected, _ = merge_states_trace.reference(outs, lses)
    got = torch.empty_like(expected)
    indptr, indices = torch.arange(0, 16, 3, dtype=torch.int32), torch.arange(15, dtype=torch.int32)
    TorchKernels().merge(outs.flatten(0, 1), lses.flatten(0, 1), indptr, indices, None, got)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotating_is_flashinfers(interleaved):
    rotary = Rotary(ROTARY.frequencies, interleaved=interleaved)
    x, positions = torch.randn(6, 2, DIM), torch.tensor([0, 1, 5, 100, 1000, 40])
    cache = torch.cat(rotary.tables(torch.arange(1001)), -1)
    arguments = (positions, x.flatten(1), x.flatten(1), DIM, cache, not interleaved)
    expected, _ = apply_rope_with_cos_sin_cache_trace.reference(*arguments)
    got = torch.empty_like(x)
    TorchKernels().gather(x, torch.arange(6, dtype=torch.int32), rotary, rotary.tables(positions), got)
    torch.testing.assert_close(got.flatten(1), expected)


def test_flashinfers_own_rotation_is_what_the_page_tables_ask_for():
    x, positions, rope = torch.randn(4, 2, DIM), torch.tensor([0, 1, 7, 90]), Rope(scale=4.0, theta=500000.0)
    arguments = {"rope_scale": rope.scale, "rope_theta": rope.theta}
    expected, _ = apply_rope_pos_ids_trace.reference(x, x, positions, **arguments)
    torch.testing.assert_close(turned(x, positions, rope), expected, atol=1e-5, rtol=1e-5)


def test_storing_is_flashinfers_append():
    """A block's tokens at our slots are that block's tokens on FlashInfer's pages."""
    pool, block = Pool(page_size=4), Block()
    storage = Storage(pool)
    pool.extend(block, 7)
    slots = torch.tensor(pool.slots(block, pool.extend(block, 6)))
    keys, values = storage.sized(0, 2, DIM, DIM, torch.float32, torch.device("cpu"))
    k, v = torch.randn(6, 2, DIM), torch.randn(6, 2, DIM)
    mine = [x.clone() for x in (keys, values)]
    TorchKernels().store(k, v, slots, *mine)
    its = tuple(paged(x, 4).transpose(1, 2).contiguous() for x in (keys, values))  # NHD
    append_paged_kv_cache_trace.reference(
        k, v, torch.zeros(6, dtype=torch.int32), torch.arange(7, 13), its, torch.tensor(block.pages),
        torch.tensor([0, len(block.pages)]), torch.tensor([(13 - 1) % 4 + 1]),
    )  # fmt: skip
    for got, expected in zip(mine, its, strict=True):
        torch.testing.assert_close(paged(got, 4).transpose(1, 2), expected)


def test_lse_is_in_base_2():
    """FlashInfer's convention, which `Kernels.merge` takes."""
    q, k = torch.randn(1, 1, DIM), torch.randn(3, 1, 1, DIM)
    _, lse = gqa_paged_prefill_trace.reference(
        q, k, k, torch.tensor([0, 1]), torch.tensor([0, 3]), torch.arange(3), 1.0
    )
    natural = (k[:, 0, 0] @ q[0, 0]).logsumexp(0)
    assert lse.item() == pytest.approx(natural.item() / math.log(2), rel=1e-4)
