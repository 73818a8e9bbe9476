"""Where a model's files are, and reading them: whatever is wrong with them is a `ModelError` that stands alone.

Weights are read from safetensors alone, never from pickles; a model's own code runs only where that was asked for.
"""

import socket
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants as hub
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers import __version__ as transformers_version
from transformers.utils.hub import cached_file
from transformers.utils.import_utils import is_accelerate_available

from hwruntime.errors import ModelError
from hwruntime.intercept import PLAIN
from hwruntime.kept import Files

TINY = "tiny"  # the embedded model
HELP = {
    "generation settings": "generation_config.json must be the model's own",
    "configuration": f"config.json must be the model's own, of a type that transformers {transformers_version} knows",
    "weights": "the safetensors files must be complete, and of the same model as config.json",
    "tokenizer": "tokenizer.json and tokenizer_config.json must be the model's own",
}
FOLDER = "give the folder that holds config.json, the safetensors files and the tokenizer"
LONGEST_REASON = 150  # characters of what a library says; of more, the first sentence is shown
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


@dataclass(frozen=True)
class Source:
    """Where a model's files are: `place` is a folder or a hub name; `shown` is what messages call it."""

    place: str
    shown: str
    trust: bool
    local: bool  # nothing is asked of the hub

    def config(self) -> PreTrainedConfig:
        with self._explained("configuration"):
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                self.place, trust_remote_code=self.trust, local_files_only=self.local
            )
        return config

    def generation_config(self) -> GenerationConfig | None:
        """The model's settings for writing, where it has any."""
        if not self._has("generation_config.json"):
            return None
        with self._explained("generation settings"):
            return GenerationConfig.from_pretrained(self.place, local_files_only=self.local)

    def tokenizer(self, embeddings: int) -> PreTrainedTokenizerBase:
        """The tokenizer of a model that knows this many tokens."""
        with self._explained("tokenizer"):
            # tokenizer.json says how the model's texts were split. The classes that AutoTokenizer picks by family can
            # put rules of their own over it (Qwen's does), so they serve only where there is no such file.
            kind = PreTrainedTokenizerFast if self._has("tokenizer.json") else AutoTokenizer
            tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(
                self.place, trust_remote_code=self.trust, local_files_only=self.local
            )
        if tokenizer.vocab_size < 2:  # transformers makes an empty one where there is none
            raise ModelError(
                f"{self.shown} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there",
                help="save the tokenizer beside the model, with `tokenizer.save_pretrained(folder)`",
            )
        if tokenizer.vocab_size > embeddings:  # added tokens, which this does not count, may go beyond (Gemma 3)
            raise ModelError(
                f"the tokenizer of {self.shown} is another model's: it has {tokenizer.vocab_size} tokens, the model "
                f"knows {embeddings}",
                help=HELP["tokenizer"],
            )
        return tokenizer

    def model(
        self, config: PreTrainedConfig, device: torch.device, dtype: torch.dtype | None
    ) -> tuple[PreTrainedModel, list[str]]:
        """The model, and lines to tell of its weights.

        Raises `ModelError` where weights are missing or of another shape: transformers would put random numbers there.
        """
        self._refuse_pickles()
        placed = device.type != "cpu" and is_accelerate_available()  # straight there: else by way of the main memory
        with self._explained("weights"):
            loaded = AutoModelForCausalLM.from_pretrained(
                self.place,
                config=config,
                dtype=dtype or "auto",
                device_map=device if placed else None,
                attn_implementation=PLAIN,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are refused below, with their names
                output_loading_info=True,
                trust_remote_code=self.trust,
                local_files_only=self.local,
            )
        model, report = cast("tuple[PreTrainedModel, dict[str, Collection[object]]]", loaded)
        self._check_weights(report)
        if not placed:
            with self._explained("weights"):
                cast(torch.nn.Module, model).to(device)
        unused = len(report["unexpected_keys"])
        return model, [f"weights: {unused} tensors of the files are not used by the model"] if unused else []

    def files(self) -> Files | None:
        """The files of a model that has been loaded; None where the hub's client has kept none."""
        if Path(self.place).is_dir():
            return Files(Path(self.place))
        found = cached_file(
            self.place,
            "config.json",
            local_files_only=True,  # of what is here, the last that was loaded
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return Files(Path(found).parent) if found else None

    def _refuse_pickles(self) -> None:
        folder = Path(self.place)
        if not folder.is_dir() or any(folder.glob("*.safetensors")):
            return
        pickles = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(kind))
        if pickles:
            raise ModelError(
                f"{self.shown} has its weights in pickle files ({', '.join(pickles[:3])}), which can run any code: "
                "only safetensors are read",
                help="convert it where you trust it: `model.save_pretrained(folder)` writes safetensors",
            )
        raise ModelError(f"{self.shown} has no weights: there is no `*.safetensors` file in it", help=HELP["weights"])

    def _check_weights(self, report: dict[str, Collection[object]]) -> None:
        mismatched = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in report["mismatched_keys"])
        missing = sorted(str(key) for key in report["missing_keys"])
        for keys, what in ((mismatched, "another shape than its configuration says"), (missing, "no values")):
            if keys:
                more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
                raise ModelError(
                    f"the weights of {self.shown} do not fit its configuration: `{keys[0]}`{more} with {what}",
                    help=HELP["weights"],
                )

    def _has(self, file: str) -> bool:
        """Whether the model comes with this file."""
        found = cached_file(
            self.place,
            file,
            local_files_only=self.local,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return found is not None

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn what loading raises into a `ModelError` of one line; only calls of the libraries belong inside.

        Over broken files, and files that do not fit together, they raise errors of every kind (tokenizers: Exception).
        """
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise ModelError(
                f"{self.shown} does not fit into the device's memory", help="try --dtype bfloat16 or a smaller model"
            ) from error
        except Exception as error:
            raise ModelError(
                f"cannot load the {what} of {self.shown}: {_first_line(error, self.place)}",
                help=self._help(what, error),
            ) from error

    def _help(self, what: str, error: Exception) -> str:
        if "trust_remote_code" in str(error):
            return "the model brings code of its own: read it and, where you trust it, use --trust-remote-code"
        if isinstance(error, SafetensorError):
            return "the file is cut off or no safetensors file (a pointer of git-lfs?): fetch it again"
        if not Path(self.place).is_dir() and isinstance(error, OSError):
            return "check the name and the connection, or give the folder of a model that you have"
        if isinstance(error, LookupError | AttributeError | TypeError):
            return f"config.json says something that transformers {transformers_version} does not understand"
        if isinstance(error, ImportError):
            return "install the package that the message names, or use a checkpoint that does without it"
        return HELP[what]


def find_source(name: str, trust: bool) -> Source:
    """`tiny`, a folder, or else a name of the Hugging Face hub. Raises `ModelError` for a folder that is no model's."""
    if name == TINY:
        return Source(_folder(str(files("hwruntime") / TINY), "the embedded model"), "the embedded model", False, True)
    if Path(name).expanduser().exists() or name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name:
        return Source(_folder(str(Path(name).expanduser()), f"`{name}`"), f"`{name}`", trust, True)
    return Source(name, f"`{name}` of the Hugging Face hub", trust, _offline())


def _folder(place: str, shown: str) -> str:
    path = Path(place)
    if not path.exists():
        raise ModelError(f"there is no folder {shown}", help="give a folder, a name of the Hugging Face hub, or `tiny`")
    if not path.is_dir():
        raise ModelError(f"{shown} is a file", help=FOLDER)
    if not (path / "config.json").is_file():
        raise ModelError(f"{shown} is no model: there is no config.json in it", help=FOLDER)
    return place


def _offline() -> bool:
    """Whether the hub cannot be reached: its client would try for half a minute before it looks at its cache."""
    if urllib.request.getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(hub.ENDPOINT).hostname, 443)
    except OSError:
        return True
    return False


def _first_line(error: Exception, place: str) -> str:
    """What an error says, without the advice that follows in some. How long `place` is makes no difference."""
    text = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    short = len(said.replace(place, "")) <= LONGEST_REASON
    return (said if short else said.split(". ")[0]).rstrip(".:")
