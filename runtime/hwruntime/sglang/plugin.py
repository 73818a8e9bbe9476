"""Tells SGLang of our attention backend. SGLang calls `register` in all of its processes where hwlang is installed
(entry point `sglang.srt.plugins`), our ranks do so themselves."""

NAME = "hogwild"


def register() -> None:
    """Once or more often."""
    from sglang.srt.arg_groups.choices import ATTENTION_BACKEND_CHOICES, add_attention_backend_choices
    from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS, register_attention_backend

    if NAME not in ATTENTION_BACKEND_CHOICES:
        add_attention_backend_choices([NAME])
    if NAME not in ATTENTION_BACKENDS:
        register_attention_backend(NAME)(_make)


def _make(runner: object) -> object:
    from hwruntime.sglang.backend import HogwildBackend

    return HogwildBackend(runner)
