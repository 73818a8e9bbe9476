"""Reading files: every way in which they can be wrong is an error that stands alone."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

import hwruntime.tiny
from hwruntime.errors import ModelError
from hwruntime.kept import Files
from hwruntime.models import Model
from hwruntime.source import find_source
from tests.hwruntime.models_for_tests import QWEN, configure

WEIGHTS = "model.safetensors"


def refusal(name: Path | str, **options: object) -> ModelError:
    """The error of loading `name`: one line, and one of help."""
    with pytest.raises(ModelError) as failure:
        Model.load(str(name), **options)
    assert "\n" not in failure.value.message
    assert failure.value.help
    assert "\n" not in failure.value.help
    return failure.value


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    weights: dict[str, torch.Tensor | None] = {**load_file(folder / WEIGHTS), **change}
    save_file({k: v for k, v in weights.items() if v is not None}, folder / WEIGHTS, metadata={"format": "pt"})


def test_loading_is_quiet_and_leaves_the_settings(capfd, folder):
    rewrite(folder, {"more": torch.zeros(3)})
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    model = Model.load(str(folder))
    assert "weights: 1 tensors of the files are not used by the model" in model.why
    rewrite(folder, {"model.norm.weight": None})
    refusal(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_folder_that_does_not_exist(tmp_path):
    error = refusal(tmp_path / "none")
    assert error.message == f"there is no folder `{tmp_path / 'none'}`"
    assert "tiny" in str(error.help)


def test_a_file(folder):
    assert refusal(folder / WEIGHTS).message == f"`{folder / WEIGHTS}` is a file"


def test_a_folder_without_a_configuration(folder):
    (folder / "config.json").unlink()
    assert refusal(folder).message == f"`{folder}` is no model: there is no config.json in it"


@pytest.mark.parametrize("text", ["{", "[]", "", '"text"'])
def test_a_configuration_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    assert refusal(folder).message.startswith(f"cannot load the configuration of `{folder}`: ")


def test_a_configuration_without_a_type(folder):
    configure(folder, model_type=None)
    assert "model_type" in refusal(folder).message


def test_an_unknown_type(folder):
    configure(folder, model_type="nobodys")
    error = refusal(folder)
    assert "`nobodys`" in error.message


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 7},
        {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1.0}},
        {"hidden_act": "jump"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_configuration_that_is_wrong(folder, settings):
    configure(folder, **settings)
    assert f"of `{folder}`" in refusal(folder).message


def test_a_refused_family_needs_no_weights(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    error = refusal(tmp_path)
    assert error.message.startswith("models of type `mamba` cannot run here: it mixes tokens through a recurrent state")
    assert error.help


def test_no_weights(folder):
    (folder / WEIGHTS).unlink()
    assert refusal(folder).message == f"`{folder}` has no weights: there is no `*.safetensors` file in it"


def test_pickles_are_not_read(folder):
    class Danger:
        def __reduce__(self):
            return (Path.touch, (folder / "it ran",))

    (folder / WEIGHTS).unlink()
    torch.save({"x": Danger()}, folder / "pytorch_model.bin")
    error = refusal(folder)
    assert "pickle files (pytorch_model.bin)" in error.message
    assert "save_pretrained" in str(error.help)
    assert not (folder / "it ran").exists()


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_broken_safetensors(folder, damage):
    path = folder / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    error = refusal(folder)
    assert error.message.startswith(f"cannot load the weights of `{folder}`: ")
    assert "cut off" in str(error.help)


def test_a_shard_that_is_missing(folder):
    weights = load_file(folder / WEIGHTS)
    half = dict(list(weights.items())[:20])
    save_file(half, folder / "one.safetensors", metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": {k: "one.safetensors" if k in half else "two.safetensors" for k in weights}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "two.safetensors" in refusal(folder).message


def test_missing_weights_are_not_made_up(folder):
    rewrite(folder, {"model.norm.weight": None, "model.layers.0.self_attn.q_proj.weight": None})
    error = refusal(folder)
    assert error.message == (
        f"the weights of `{folder}` do not fit its configuration: `model.layers.0.self_attn.q_proj.weight` and 1 more "
        "with no values"
    )
    assert error.help


def test_more_layers_than_weights(folder):
    configure(folder, num_hidden_layers=4, layer_types=["full_attention"] * 4)
    assert "`model.layers.3.input_layernorm.weight` and 11 more" in refusal(folder).message


def test_weights_of_another_shape(folder):
    rewrite(folder, {"model.norm.weight": torch.ones(3)})
    assert refusal(folder).message.endswith("`model.norm.weight` with another shape than its configuration says")


def test_tied_weights_may_be_missing(folder):
    configure(folder, tie_word_embeddings=True)
    rewrite(folder, {"lm_head.weight": None})
    assert Model.load(str(folder)).vocab_size == 320


def test_a_folder_without_a_tokenizer(folder):
    for path in folder.glob("*token*"):
        path.unlink()
    error = refusal(folder)
    assert f"`{folder}`" in error.message
    assert "tokenizer" in error.message


def test_a_tokenizer_whose_words_are_gone(folder):
    (folder / "tokenizer.json").unlink()
    assert refusal(folder).message.startswith(f"`{folder}` has no tokenizer: ")


def test_another_models_tokenizer(folder):
    configure(folder, vocab_size=100)
    weights = load_file(folder / WEIGHTS)
    rewrite(folder, {name: weights[name][:100].clone() for name in ("lm_head.weight", "model.embed_tokens.weight")})
    assert refusal(folder).message.endswith("is another model's: it has 320 tokens, the model knows 100")


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    assert refusal(folder).message.startswith(f"cannot load the tokenizer of `{folder}`: ")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "a b"])
def test_a_hub_that_cannot_be_reached(name, monkeypatch):
    monkeypatch.setattr("hwruntime.source._offline", lambda: True)
    error = refusal(name)
    assert error.message.startswith(f"cannot load the configuration of `{name}` of the Hugging Face hub: ")
    assert "folder" in str(error.help)


def test_files_of_a_model_of_the_hub_are_those_of_the_snapshot_that_is_here(folder, tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "models--ann--small"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0123abcd")
    (hub / "snapshots").mkdir()
    folder.rename(hub / "snapshots" / "0123abcd")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("hwruntime.source._offline", lambda: True)
    files = find_source("ann/small", False).files()
    assert files == Files(hub / "snapshots" / "0123abcd")
    assert files.digest == Files(QWEN).digest
    assert find_source("ann/other", False).files() is None
    assert find_source("tiny", False).files() == Files(Path(hwruntime.tiny.__file__).parent)


@pytest.mark.parametrize("name", ["./none", "../none", "/none/there", "~/none-there", "a/b/c"])
def test_names_that_are_paths_do_not_ask_the_hub(name):
    assert refusal(name).message.startswith("there is no folder")


CODE = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM

pathlib.Path({sentinel!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_models_own_code_runs_only_when_asked(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(QWEN.with_name("llama3"), tmp_path / "own"))
    ran = tmp_path / "it ran"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / "own.py").write_text(CODE.format(sentinel=str(ran)))
    configure(
        folder,
        model_type="own_llama",
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    )
    error = refusal(folder)
    assert "code" in error.message
    assert "--trust-remote-code" in str(error.help)
    assert not ran.exists()
    assert Model.load(str(folder), trust_remote_code=True).vocab_size == 320
    assert ran.exists()
