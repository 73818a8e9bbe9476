"""Weights of 8 and 4 bits."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import hwlang as hw
from hwlang.evaluation.problems import opening
from hwruntime.cache import Block
from hwruntime.cpu.build import CannotBuild
from hwruntime.cpu.linear import GROUP
from hwruntime.errors import DeviceError
from hwruntime.kept import Files, cache_folder
from hwruntime.models import Model
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.quantized import OWN, TORCH, Quantized, check_weights, choose_kind, quantize
from tests.hwruntime.models_for_tests import QWEN, Family, random_model
from tests.hwruntime.own_kernels import needs_products


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch) -> Path:
    """Where conversions are kept: not among the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "hwlang" / "weights"


KINDS = [
    *(pytest.param(kind, id=f"torch {name}") for name, kind in TORCH.items()),
    *(pytest.param(kind, id=f"own {name}", marks=needs_products) for name, kind in OWN.items()),
]
FOUR = (TORCH["int4"], OWN["int4"])
SIZES = [(128, 256), (896, 4864), (64, 48)]  # in, out
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def stands_for(layer: Quantized) -> torch.Tensor:
    """The weights of a layer, [out, in], read off what it does with each input by itself."""
    bias = 0 if layer.bias is None else layer.bias
    return (layer(torch.eye(layer.in_features)) - bias).T


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_each_weight_is_the_nearest_level(kind, size, bias):
    linear = nn.Linear(*size, bias=bias)
    layer = kind(linear)
    four = kind in FOUR
    groups = linear.weight.view(size[1], -1, GROUP if four else size[0])
    span = groups.amax(-1) - groups.amin(-1) if four else 2 * groups.abs().amax(-1)
    error = (stands_for(layer) - linear.weight).view(groups.shape).abs().amax(-1)
    most = span / (15 if four else 254) * 0.5001 + 1e-6
    if kind is OWN["int4"]:  # what its lowest and highest level are worth is rounded to bfloat16
        most += span / 256 + groups.abs().amax(-1) / 256
    assert (error <= most).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_any_number_of_rows_gives_the_product(kind, dtype):
    layer = kind(nn.Linear(128, 64))
    weights, x = stands_for(layer), torch.randn(2, 100, 128)
    expected = x @ weights.T + layer.bias
    layer.to(dtype)
    for rows in (x, x[:, :3], x[0, 0]):
        got = layer(rows.to(dtype)).float()
        close = 3e-4 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(got, expected[: len(rows), : rows.shape[1]] if rows.ndim == 3 else expected[0, 0],
                                   atol=close, rtol=close)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_weights_that_are_all_alike(kind):
    linear = nn.Linear(64, 32, bias=False)
    for value in (0.0, 0.25, -3.0):
        linear.weight.fill_(value)
        torch.testing.assert_close(stands_for(kind(linear)), linear.weight, atol=1e-6, rtol=1e-4)


@needs_products
def test_it_is_our_own_kernels_where_they_run():
    for weights in TORCH:
        kind, how = choose_kind(weights)
        assert kind is OWN[weights]
        assert how.startswith("kernels ")


@pytest.fixture
def no_kernels(monkeypatch) -> None:
    def cannot() -> None:
        raise CannotBuild("its kernels cannot be built: there is no C++ compiler", "install one")

    monkeypatch.setattr("hwruntime.quantized.library", cannot)


def test_it_is_torchs_kernels_where_ours_do_not_run_and_why_is_told(no_kernels):
    model = random_model(Family("llama").config())
    (_, line) = quantize(model, "int4")
    assert line == "weights: torch's kernels: its kernels cannot be built: there is no C++ compiler"
    assert any(isinstance(module, TORCH["int4"]) for module in model.modules())


def test_the_linear_layers_of_a_model_are_converted_and_the_rest_is_not():
    model = random_model(Family("llama").config(tie_word_embeddings=True))
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert quantize(model, "int8")[0] == f"weights: int8, {len(linears)} linear layers"
    converted = [name for name, module in model.named_modules() if isinstance(module, Quantized)]
    assert converted == linears
    assert "lm_head" in converted
    assert isinstance(model.get_input_embeddings(), nn.Embedding)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@needs_products
def test_what_does_not_fit_is_left_as_it_was_and_told():
    model = random_model(Family("llama").config(intermediate_size=72))
    assert quantize(model, "int4")[0] == "weights: int4, 25 linear layers; 4 are as they were"


def test_what_torchs_kernels_cannot_do_is_left_as_it_was_and_told(no_kernels):
    model = random_model(Family("llama").config(intermediate_size=72))
    assert quantize(model, "int4")[0] == "weights: int4, 17 linear layers; 12 are as they were"


@pytest.mark.parametrize(("weights", "most"), [("int8", 1e-3), ("int4", 0.06)])
@torch.no_grad()
def test_what_follows_a_text_is_nearly_as_likely(weights, most):
    """Kullback-Leibler divergence from the model's own distribution, in nats, over a text such as it was made for."""
    text = opening(["47+38", "reverse tapso", "sort 5291", "86-29"])
    whole, few = (Model.load("tiny", dtype="float32", weights=kind) for kind in ("auto", weights))
    solved = hw.Engine("tiny").run(hw.load("programs/sums.hw"), problems=text, n=1)["Alice"]
    tokens = torch.tensor([whole.tokenizer.encode(text + solved)])
    theirs = AutoModelForCausalLM.from_pretrained(str(files("hwruntime.tiny")))
    expected = theirs(input_ids=tokens).logits.log_softmax(-1)
    got = logits(few, tokens[0].tolist()).log_softmax(-1)
    divergence = (expected[0].exp() * (expected[0] - got)).sum(-1).mean()
    assert 0 < divergence < most


def logits(model: Model, tokens: list[int]) -> torch.Tensor:
    """What follows each token, with our own cache."""
    block = Block()
    slots = model.pool.slots(block, model.pool.extend(block, len(tokens)))
    plan = build_plan([Row((Piece(0, len(tokens)),), len(tokens))], {0: PlanBlock(block.length, block.pages)}, 16)
    return model.forward(tokens, plan, slots, range(len(tokens)))


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_a_model_runs_with_few_bits_and_says_so(weights):
    model = Model.load(str(QWEN), weights=weights)
    assert any(line.startswith(f"weights: {weights}, ") for line in model.why)


def test_unknown_weights_are_told_before_anything_is_loaded():
    with pytest.raises(DeviceError, match="there are no weights `int3`") as failure:
        Model.load("/no/such/folder", weights="int3")
    assert "int8" in str(failure.value.help)


def test_weights_of_few_bits_are_for_a_cpu():
    with pytest.raises(DeviceError, match="are for a CPU, the model is on cuda"):
        check_weights("int4", torch.device("cuda"))


# --- What is kept of conversions ---


def told(model: Model) -> list[str]:
    """What is said of the weights, but for how many layers there are."""
    return [line.removeprefix("weights: ") for line in model.why if line.startswith("weights: ")][2:]


def buffers(model: Model) -> dict[str, torch.Tensor]:
    return {name: buffer for name, buffer in model.hf.named_buffers() if "inv_freq" not in name}


def alike(model: Model, other: Model) -> bool:
    """Bit by bit."""
    mine, its = buffers(model), buffers(other)
    tokens = list(range(3, 40))
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine) and torch.equal(
        logits(model, tokens), logits(other, tokens)
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_a_conversion_is_kept_and_read_from_there(weights, dtype, caches, monkeypatch):
    first = Model.load(str(QWEN), weights=weights, dtype=dtype)
    (path,) = caches.iterdir()
    assert told(first) == [f"converted once, kept in {path}"]
    monkeypatch.setattr(choose_kind(weights)[0], "converted", None)
    second = Model.load(str(QWEN), weights=weights, dtype=dtype)
    assert told(second) == [f"from {path}"]
    path.unlink()
    assert alike(first, second)


def test_another_kind_dtype_model_or_machine_is_kept_by_itself(caches, folder, monkeypatch):
    for options in ({"weights": "int8"}, {"weights": "int4"}, {"weights": "int8", "dtype": "bfloat16"}):
        Model.load(str(QWEN), **{"dtype": "float32", **options})
    assert len(list(caches.iterdir())) == 3
    Model.load(str(folder), weights="int8", dtype="float32")  # a copy of the same files
    assert len(list(caches.iterdir())) == 3
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    changed = Model.load(str(folder), weights="int8", dtype="float32")
    assert told(changed)[0].startswith("converted once")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX1024")
    assert told(Model.load(str(folder), weights="int8", dtype="float32"))[0].startswith("converted once")
    assert len(list(caches.iterdir())) == 5


@pytest.mark.parametrize("how", ["cut off", "another's"])
def test_a_file_that_cannot_be_used_is_told_and_replaced(how, caches):
    first = Model.load(str(QWEN), weights="int8", dtype="float32")
    (path,) = caches.iterdir()
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        Model.load(str(QWEN), weights="int4", dtype="float32")
        next(each for each in caches.iterdir() if each != path).rename(path)
    again = Model.load(str(QWEN), weights="int8", dtype="float32")
    reason = "cannot be read: " if how == "cut off" else "is of something else: it has another weights"
    assert told(again)[0].startswith(f"`{path}` {reason}")
    assert told(again)[1:] == [f"converted once, kept in {path}"]
    assert told(Model.load(str(QWEN), weights="int8", dtype="float32")) == [f"from {path}"]
    assert alike(first, again)


def test_a_cache_folder_that_cannot_be_written_is_told(caches):
    caches.parent.parent.mkdir()
    caches.parent.touch()  # a file
    model = Model.load(str(QWEN), weights="int8", dtype="float32")
    (line,) = told(model)
    assert line.startswith(f"converted, and not kept: `{caches}")
    assert "cannot be written" in line


def test_a_model_in_memory_is_not_kept(caches):
    quantize(random_model(Family("llama").config()), "int8")
    assert not caches.exists()


def test_a_model_with_nothing_to_convert_is_not_kept(caches):
    model = random_model(Family("llama").config(hidden_size=72, intermediate_size=72, head_dim=18))
    assert quantize(model, "int4", Files(QWEN)) == ["weights: int4, 0 linear layers; 29 are as they were"]
    assert not caches.exists()


@pytest.mark.parametrize("value", [None, "", "not/absolute"])
def test_without_a_folder_for_caches_it_is_the_users(value, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder("weights") == tmp_path / ".cache" / "hwlang" / "weights"
