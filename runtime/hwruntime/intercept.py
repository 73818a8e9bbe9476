"""Between transformers and our attention: unmodified models call `_attention` where they would attend.

Registering an attention function is process-wide, models are not: so the function finds its state on the module that
calls it, where `Tap` has left it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from hwruntime.errors import ModelError

PLAIN = "eager"  # transformers' name for a model's own attention
_RUN = "hogwild"  # our attention; no masks are made
_PROBE = "hogwild_probe"  # the same, and the model makes its masks, for us to see what they say
_TAP = "hogwild_tap"  # attribute of a tapped model's modules
_MEANING = "hogwild_meaning"  # attribute of a mask: the function that it was made from

Visible = Callable[[int, int, Tensor, Tensor], Tensor]  # (batch, head, query positions, key positions) -> bool tensor


@dataclass(frozen=True)
class Call:
    """One attention call of a model. q [T, heads, D], k [T, kv heads, D], v [T, kv heads, Dv]; `options` are the other
    keywords that the module gave. In a probe, `masked` says whether there is a mask, and `visible` is the function that
    it was made from, None where it was changed on the way.
    """

    module: nn.Module
    q: Tensor
    k: Tensor
    v: Tensor
    options: dict[str, object]
    masked: bool
    visible: Visible | None


class Attention(Protocol):
    def __call__(self, call: Call) -> Tensor:
        """The attention's output [T, heads, Dv]."""


class Tap:
    """Diverts one model's attention to functions of ours."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises `ModelError` for a model that goes on with its own attention."""
        _register()
        self._model = model
        self._target: Attention | None = None
        for module in model.modules():
            setattr(module, _TAP, self)
        for implementation in (_PROBE, _RUN):
            self._set(implementation)
        self._set(PLAIN)

    @contextmanager
    def to(self, target: Attention, probe: bool = False) -> Iterator[None]:
        """Attention goes to `target` inside, and is the model's own outside."""
        self._set(_PROBE if probe else _RUN)
        self._target = target
        try:
            yield
        finally:
            self._target = None
            self._set(PLAIN)

    def divert(self, target: Attention) -> None:
        """Attention goes to `target` from now on."""
        self._set(_RUN)
        self._target = target

    def attend(self, call: Call) -> Tensor:
        assert self._target is not None
        return self._target(call)

    def _set(self, implementation: str) -> None:
        self._model.set_attn_implementation(implementation)
        for module in self._model.modules():  # some families ignore the call without a word
            if isinstance(module, PreTrainedModel) and module.config._attn_implementation != implementation:
                raise ModelError(f"transformers cannot replace the attention of {type(module).__name__}")


def _register() -> None:
    AttentionInterface.register(_RUN, _attention)
    AttentionInterface.register(_PROBE, _attention)
    AttentionMaskInterface.register(_PROBE, _mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """What transformers calls: query [1, heads, T, D], key and value likewise; returns [1, T, heads, Dv]."""
    assert query.shape[0] == 1, "a pass is one row of tokens"
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    tap = cast(Tap, getattr(module, _TAP))
    visible = getattr(attention_mask, _MEANING, None)
    out = tap.attend(Call(module, q, k, v, options, attention_mask is not None, visible))
    return out[None], None


def _mask(**arguments: Any) -> Tensor:
    """A real mask, for models that look into it, which remembers the function that it was made from."""
    arguments["allow_is_bidirectional_skip"] = False  # always a mask
    mask: Tensor = eager_mask(**arguments)
    setattr(mask, _MEANING, arguments["mask_function"])
    return mask
