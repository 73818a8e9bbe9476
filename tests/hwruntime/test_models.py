"""Unmodified transformers models over our pool: the same logits as their own attention gives."""

import pytest
import torch

from hwruntime.errors import ModelError
from hwruntime.graphs import TorchRecorder
from tests.hwruntime.models_for_tests import (
    BY_NAME,
    DENSE,
    FLASHINFER_ON_CPU,
    WORKING,
    Blocks,
    flat_logits,
    loaded,
    random_model,
    random_tokens,
)
from tests.hwruntime.own_kernels import CPU


@pytest.mark.parametrize("attention", ["torch", CPU, FLASHINFER_ON_CPU], ids=["torch", "cpu", "flashinfer"])
@pytest.mark.parametrize("family", WORKING, ids=lambda family: family.name)
def test_blocks_in_a_row_are_one_text(family, attention):
    """Prefilled, decoded, moved and decoded on: the logits of the flat text throughout."""
    hf = random_model(family.config())
    tokens = random_tokens(60)
    expected = flat_logits(hf, tokens)
    blocks = Blocks(loaded(hf, attention, TorchRecorder()))
    got = [blocks.write([0], tokens[:19]), blocks.write([0, 1], tokens[19:33]), blocks.write([0, 1], tokens[33:40])]
    got += [blocks.write([0, 1, 2], [token]) for token in tokens[40:46]]
    blocks.move(1, 0)
    got += [blocks.write([0, 2], [token]) for token in tokens[46:50]]
    blocks.move(2, 0)
    got += [blocks.write_all([([0, 3], tokens[50:])], wanted=[9, 2])]
    torch.testing.assert_close(torch.cat(got), expected[[*range(50), 59, 52]], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", DENSE, ids=lambda family: family.name)
def test_families_in_bfloat16_pass_the_self_test(family):
    """With all that a CPU does in bfloat16: attention, products and norms in our kernels, where they can be built."""
    loaded(random_model(family.config()).bfloat16())


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2"])
def test_one_worker_writes_what_transformers_generates(family):
    config = BY_NAME[family].config()
    prompt, count = random_tokens(11), 20
    hf = random_model(config)
    hf.generation_config.eos_token_id = None
    ids = torch.tensor([prompt])
    expected = hf.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )

    blocks = Blocks(loaded(random_model(config)))
    blocks.write_all([([0], prompt[:-1])], wanted=())
    token, written = prompt[-1], []
    for _ in range(count):
        token = int(blocks.write([0, 1], [token])[0].argmax())
        written.append(token)
    assert prompt + written == expected[0].tolist()


@pytest.mark.parametrize("family", ["llama", "gemma2", "deepseek_v3"])
def test_workers_see_each_other_in_the_pass_of_writing(family):
    """Two rows of one pass: the second reads what the first writes in it, at every layer."""
    hf = random_model(BY_NAME[family].config())
    tokens = random_tokens(30)
    expected = flat_logits(hf, tokens)
    blocks = Blocks(loaded(hf))
    got = blocks.write_all([([0], tokens[:12]), ([0, 1], tokens[12:25])])
    more = blocks.write_all([([0, 1, 2], tokens[25:])], wanted=[4, 0])
    torch.testing.assert_close(got, expected[:25], atol=1e-4, rtol=0)
    torch.testing.assert_close(more, expected[[29, 25]], atol=1e-4, rtol=0)


def test_wanted_may_be_empty():
    hf = random_model(BY_NAME["qwen3"].config())
    tokens = random_tokens(20)
    expected = flat_logits(hf, tokens)
    model = loaded(hf)
    blocks = Blocks(model)
    assert blocks.write_all([([0], tokens[:19])], wanted=()).shape == (0, model.vocab_size)
    last = blocks.write([0], tokens[19:])
    assert last.dtype == torch.float32
    torch.testing.assert_close(last, expected[19:], atol=1e-4, rtol=0)


def test_two_models_in_one_process_do_not_mix():
    small, large = (random_model(BY_NAME["llama"].config(num_hidden_layers=n)) for n in (2, 4))
    tokens = random_tokens(12)
    expected = [flat_logits(hf, tokens) for hf in (small, large)]
    blocks = [Blocks(loaded(hf)) for hf in (small, large)]
    for half in (slice(0, 6), slice(6, 12)):
        for mine, logits in zip(blocks, expected, strict=True):
            torch.testing.assert_close(mine.write([0], tokens[half]), logits[half], atol=1e-4, rtol=0)


def test_code_that_fails_is_no_traceback():
    hf = random_model(BY_NAME["llama"].config())
    hf.model.layers[1].mlp.down_proj = torch.nn.Linear(5, 5)
    with pytest.raises(ModelError, match="`llama` fails in its first forward pass") as failure:
        loaded(hf)
    assert "\n" not in str(failure.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama+llama3", "gpt_oss", "deepseek_v3"])
def test_a_gpu_gives_what_the_cpu_gives(family, dtype):
    tokens = random_tokens(40)
    expected = flat_logits(random_model(BY_NAME[family].config()), tokens)
    blocks = Blocks(loaded(random_model(BY_NAME[family].config()).to("cuda", dtype)))
    got = torch.cat(
        [blocks.write([0], tokens[:20]), blocks.write([0, 1], tokens[20:39]), blocks.write([0, 1], tokens[39:])]
    )
    assert got.device.type == "cuda"
    loose = {torch.float32: 1e-3, torch.bfloat16: 0.5}
    torch.testing.assert_close(got.cpu(), expected, atol=loose[dtype], rtol=0)
