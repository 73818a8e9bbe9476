"""Finding and loading a model's files: everything that can go wrong before the first forward pass.

Weights are read from safetensors alone, never from pickles; a model's own code runs only where that was asked for.
"""

import socket
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants as hub
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file
from transformers.utils import logging as hf_logging

from hwruntime.errors import DeviceError, ModelError
from hwruntime.families import refuse
from hwruntime.intercept import PLAIN
from hwruntime.tokenizer import ModelTokenizer

TINY = "tiny"  # the embedded model
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# What the loaders of transformers are known to raise over files that are broken or do not fit each other.
LOAD_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, still with its own attention. `context`: its longest view, in tokens; `why`: a line for each choice
    that was made, for `-v`."""

    name: str
    model: PreTrainedModel
    tokenizer: ModelTokenizer
    context: int
    why: list[str]


def open_checkpoint(name: str, *, device: str, dtype: str, trust_remote_code: bool) -> Checkpoint:
    """Load `tiny`, a folder or a model of the Hugging Face hub.

    Raises `ModelError` and, for a device or dtype that is not to be had, `DeviceError`.
    """
    chosen = _device(device)
    asked = _dtype(dtype, chosen)
    with _quiet():
        source = _find(name, trust_remote_code)
        config = source.config()
        refuse(config, own_code=trust_remote_code and hasattr(config, "auto_map"))
        context, context_why = _context(config.get_text_config(decoder=True))
        model, why = source.model(config, chosen, asked)
        tokenizer = source.tokenizer()
    used = str(model.dtype).removeprefix("torch.")
    why = [f"device: {chosen}, {'asked for' if device != 'auto' else 'the best one here'}", f"dtype: {used}", *why]
    ends = _end_tokens(model, tokenizer)
    return Checkpoint(name, model, ModelTokenizer(tokenizer, ends), context, [*why, context_why])


@dataclass(frozen=True)
class _Source:
    """Where a model's files are: `place` is a folder or a hub name; `shown` is what messages call it."""

    place: str
    shown: str
    trust: bool
    local: bool  # nothing is asked of the hub

    def config(self) -> PreTrainedConfig:
        with self._explained("configuration"):
            return AutoConfig.from_pretrained(self.place, trust_remote_code=self.trust, local_files_only=self.local)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        with self._explained("tokenizer"):
            # tokenizer.json says how the model's texts were split. The classes that AutoTokenizer picks by family can
            # put rules of their own over it (Qwen's does), so they serve only where there is no such file.
            exact = cached_file(
                self.place,
                "tokenizer.json",
                local_files_only=self.local,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            kind = PreTrainedTokenizerFast if exact else AutoTokenizer
            tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(
                self.place, trust_remote_code=self.trust, local_files_only=self.local
            )
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes an empty one where there is none
            raise ModelError(
                f"{self.shown} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there",
                help="save the tokenizer beside the model, with `tokenizer.save_pretrained(folder)`",
            )
        return tokenizer

    def model(
        self, config: PreTrainedConfig, device: torch.device, dtype: torch.dtype | None
    ) -> tuple[PreTrainedModel, list[str]]:
        """The model, and what to tell of its weights. Raises `ModelError` where weights are missing or of another shape,
        which transformers would fill with random numbers."""
        self._refuse_pickles()
        with self._explained("weights"):
            model, report = AutoModelForCausalLM.from_pretrained(
                self.place,
                config=config,
                dtype=dtype or "auto",
                attn_implementation=PLAIN,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are refused below, with their names
                output_loading_info=True,
                trust_remote_code=self.trust,
                local_files_only=self.local,
            )
        self._check_weights(report)
        with self._explained("weights"):
            model.eval().to(device)
        unused = len(report["unexpected_keys"])
        return model, [f"weights: {unused} tensors of the files are not used by the model"] if unused else []

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
        raise ModelError(f"{self.shown} has no weights: there is no `*.safetensors` file in it")

    def _check_weights(self, report: dict[str, list[object]]) -> None:
        mismatched = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in report["mismatched_keys"])
        missing = sorted(str(key) for key in report["missing_keys"])
        for keys, what in ((mismatched, "another shape than its configuration says"), (missing, "no values")):
            if keys:
                more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
                raise ModelError(
                    f"the weights of {self.shown} do not fit its configuration: `{keys[0]}`{more} with {what}",
                    help="config.json and the safetensors files must be of the same model, and complete",
                )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn what loading raises into a `ModelError` of one line."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self.shown} does not fit into the device's memory", help="try --dtype bfloat16 or a smaller model"
            ) from error
        except LOAD_ERRORS as error:
            raise ModelError(
                f"cannot load the {what} of {self.shown}: {_first_line(error)}", help=self._help(error)
            ) from error

    def _help(self, error: Exception) -> str | None:
        if "trust_remote_code" in str(error):
            return "the model brings code of its own: read it and, where you trust it, use --trust-remote-code"
        if isinstance(error, SafetensorError):
            return "the file is cut off or no safetensors file (a pointer of git-lfs?): fetch it again"
        if not Path(self.place).is_dir() and isinstance(error, OSError):
            return "check the name and the connection, or give the folder of a model that you have"
        return None


def _find(name: str, trust: bool) -> _Source:
    if name == TINY:
        return _Source(_folder(str(files("hwruntime") / TINY), "the embedded model"), "the embedded model", False, True)
    if Path(name).expanduser().exists() or name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name:
        return _Source(_folder(str(Path(name).expanduser()), f"`{name}`"), f"`{name}`", trust, True)
    return _Source(name, f"`{name}` of the Hugging Face hub", trust, _offline())


def _folder(place: str, shown: str) -> str:
    path = Path(place)
    if not path.exists():
        raise ModelError(f"there is no folder {shown}", help="give a folder, a name of the Hugging Face hub, or `tiny`")
    if not path.is_dir():
        raise ModelError(f"{shown} is a file", help="give the folder that holds config.json and the safetensors files")
    if not (path / "config.json").is_file():
        raise ModelError(f"{shown} is no model: there is no config.json in it")
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


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"there is no device `{name}`", help="use auto, cpu, cuda, cuda:1, mps, ...") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        here = ", ".join(kind for kind, count in counts.items() if count)
        raise DeviceError(f"device `{name}` is not to be had on this machine", help=f"it has: {here}")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype | None:
    """None: the checkpoint's. On a CPU, auto is float32."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else None
    if name not in DTYPES:
        raise DeviceError(f"there is no dtype `{name}`", help=f"one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _context(config: PreTrainedConfig) -> tuple[int, str]:
    """The longest view, and why.

    Most configs count an extension of the context into max_position_embeddings; YaRN's of the Qwen kind do not, so there
    it is what the extension comes to where that is more. Dynamic NTK stays within max_position_embeddings, where it is
    the plain rotation.
    """
    told = getattr(config, "max_position_embeddings", None)
    if not isinstance(told, int) or told <= 0:
        raise ModelError("the model's configuration does not say how long a text it can read (max_position_embeddings)")
    parameters = getattr(config, "rope_parameters", None) or {}
    if parameters.get("rope_type") == "yarn":
        extended = int(parameters.get("original_max_position_embeddings", told) * parameters.get("factor", 1.0))
        if extended > told:
            return extended, f"context: {extended} tokens, as YaRN extends it"
    return told, f"context: {told} tokens, as its configuration says"


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    settings = model.generation_config
    sources = (settings and settings.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id)
    ends = next((source for source in sources if source is not None), [])
    return frozenset([ends] if isinstance(ends, int) else ends)


def _first_line(error: Exception) -> str:
    text = str(error) if not isinstance(error, LookupError) else f"{type(error).__name__} {error}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".:") if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, reports or advice of the libraries on stderr: what matters is an error or a line of `why`."""
    before = hf_logging.get_verbosity(), hub_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(before[0])
        hub_logging.set_verbosity(before[1])
        if before[2]:
            hf_logging.enable_progress_bar()
