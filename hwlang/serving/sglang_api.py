"""Requests and replies of SGLang's `/generate` (0.5.2), as far as an engine of ours does what they ask for.

A field that is not known, or asks for what is not done here, raises `InputError`: nothing is ignored unless it has the
value that changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from uuid import uuid4

from hwlang.python.values import shown_type
from hwruntime.errors import InputError
from hwruntime.program import Constraint, Json

T = TypeVar("T")
MOST_NEW_TOKENS = 128  # where a request does not say, as in SGLang
PROGRAM = "hw-program"  # the type of a `json_schema` that is a program to run: what `hw.call` sends

# What is understood and not done here: allowed with values that change nothing.
NEUTRAL_SAMPLING: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "ebnf": (),
    "structural_tag": (),
    "custom_params": ({},),
}
NEUTRAL_REQUEST: Mapping[str, tuple[object, ...]] = {
    "top_logprobs_num": (0,),
    "token_ids_logprob": ([],),
    "return_hidden_states": (False,),
    "input_embeds": (),
    "image_data": ([],),
    "video_data": ([],),
    "audio_data": ([],),
    "modalities": ([],),
    "lora_path": (),
    "session_params": ({},),
    "custom_logit_processor": (),
}


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and where a text ends. `top_k` 0: all; `seed` None: the server's."""

    max_new_tokens: int = MOST_NEW_TOKENS
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    no_stop_trim: bool = False
    skip_special_tokens: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        check(self.max_new_tokens >= 0, f"`max_new_tokens` is 0 or more, not {self.max_new_tokens}")
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            most = self.max_new_tokens
            raise InputError(f"`min_new_tokens` is 0 to `max_new_tokens` ({most}), not {self.min_new_tokens}")
        if self.constraint and self.min_new_tokens:
            raise InputError(
                "`min_new_tokens` is not supported with `regex` or `json_schema`: they say where a text ends"
            )
        check(0 < self.top_p <= 1, f"`top_p` is more than 0 and at most 1, not {self.top_p}")
        check(0 <= self.min_p <= 1, f"`min_p` is between 0 and 1, not {self.min_p}")
        check(self.seed is None or self.seed >= 0, f"`sampling_seed` is 0 or more, not {self.seed}")
        check(all(self.stop), "a text of `stop` is empty")


@dataclass(frozen=True)
class ProgramCall:
    """A program to run: its text, which one if there are several, and what a run takes."""

    program: str
    name: str | None = None
    inputs: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    seed: int | None = None
    budget: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Prompt:
    """A text, or its tokens, and what is wanted of it. `logprob_start`: from which of its tokens on log probabilities
    are; None where none are wanted. `program`: run this instead."""

    text: str | None
    tokens: tuple[int, ...]
    sampling: Sampling
    rid: str
    logprob_start: int | None = None
    token_texts: bool = False
    program: ProgramCall | None = None


@dataclass(frozen=True)
class Generate:
    """A request: one prompt, or a list of them whose replies are a list."""

    prompts: tuple[Prompt, ...]
    single: bool
    stream: bool


@dataclass(frozen=True)
class Join:
    """Put what the requests `sources` have written behind what `target` has."""

    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class Finish:
    """Why a text has ended. `matched`: the stop text, or the token."""

    type: Literal["stop", "length"]
    matched: str | int | None = None
    length: int = 0

    def to_json(self) -> dict[str, Json]:
        if self.type == "length":
            return {"type": "length", "length": self.length}
        return {"type": "stop", "matched": self.matched}


@dataclass(frozen=True)
class Score:
    """A token and its log probability: None for one that nothing comes before, or that none was asked for."""

    logprob: float | None
    token: int
    text: str | None = None

    def to_json(self) -> list[Json]:
        return [self.logprob, self.token, self.text]


@dataclass(frozen=True)
class Reply:
    """What there is of a prompt's text by now; `finish` is None while it goes on. `result` is a program's."""

    rid: str
    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    finish: Finish | None = None
    seconds: float = 0.0
    input_scores: tuple[Score, ...] | None = None
    output_scores: tuple[Score, ...] | None = None
    result: Mapping[str, Json] | None = None

    def to_json(self) -> dict[str, Json]:
        info: dict[str, Json] = {
            "id": self.rid,
            "finish_reason": self.finish.to_json() if self.finish else None,
            "prompt_tokens": self.prompt_tokens,
            "weight_version": "default",
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
        }
        if self.input_scores is not None and self.output_scores is not None:
            info["input_token_logprobs"] = [score.to_json() for score in self.input_scores]
            info["output_token_logprobs"] = [score.to_json() for score in self.output_scores]
        if self.finish:
            info["e2e_latency"] = self.seconds
        if self.result is not None:
            info["hw"] = dict(self.result)
        return {"text": self.text, "output_ids": list(self.tokens), "meta_info": info}


# --- Reading ---


class Fields:
    """The fields of a JSON object, taken one by one; what is None counts as not given."""

    def __init__(self, data: object, what: str) -> None:
        if not isinstance(data, dict):
            raise InputError(f"{what} is an object, not {told(data)}")
        self._left: dict[str, object] = {name: value for name, value in data.items() if value is not None}
        self._names = list(data)
        self._known: list[str] = []
        self._what = what

    def take(self, name: str, kind: type[T], default: T) -> T:
        """A value of a type; an int is a float, too."""
        value = self.maybe(name, kind)
        return default if value is None else value

    def maybe(self, name: str, kind: type[T]) -> T | None:
        """A value of a type, or None where there is none."""
        value = self.raw(name)
        if kind is float and type(value) is int:
            value = float(value)
        if value is None or (isinstance(value, kind) and type(value) is kind):
            return value
        raise InputError(f"`{name}` is {NAMES[kind]}, not {told(value)}")

    def raw(self, name: str) -> object:
        """A value of any type; None where there is none."""
        self._known.append(name)
        return self._left.pop(name, None)

    def refuse(self, neutral: Mapping[str, tuple[object, ...]]) -> None:
        """Raises `InputError` where one of these has a value that would change something."""
        for name, values in neutral.items():
            value = self.raw(name)
            if value is not None and value not in values:
                allowed = f": leave it out, or give {values[0]!r}" if values else ": leave it out"
                raise InputError(f"`{name}` is not supported here", help=f"`{name}`{allowed}")

    def end(self) -> None:
        """Raises `InputError` where there are others."""
        others = [name for name in self._names if name not in self._known]
        if others:
            known = ", ".join(sorted(self._known))
            raise InputError(f"{self._what} has no field `{others[0]}`", help=f"it can have {known}")


NAMES: Mapping[type, str] = {str: "a text", int: "an int", float: "a number", bool: "true or false", dict: "an object"}


def read_generate(data: object) -> Generate:
    """A request of `/generate`. Raises `InputError`."""
    fields = Fields(data, "the request")
    text, ids = fields.raw("text"), fields.raw("input_ids")
    if (text is None) == (ids is None):
        raise InputError("give either `text` or `input_ids`")
    name = "text" if ids is None else "input_ids"
    given = text if ids is None else ids
    single = isinstance(given, str) or (isinstance(given, list) and ids is not None and not nested(given))
    inputs = [given] if single else given
    if not isinstance(inputs, list) or not inputs:
        kind = "a text or a list of texts" if ids is None else "a list of ints, or a list of such lists"
        raise InputError(f"`{name}` is {kind}, not {told(given)}")
    count = len(inputs)
    samplings = each(fields.raw("sampling_params"), count, "sampling_params", list)
    rids = each(fields.raw("rid"), count, "rid", list)
    wanted = each(fields.raw("return_logprob"), count, "return_logprob", list)
    starts = each(fields.raw("logprob_start_len"), count, "logprob_start_len", list)
    texts = fields.take("return_text_in_logprobs", bool, False)
    stream = fields.take("stream", bool, False)
    fields.take("log_metrics", bool, True)
    fields.refuse(NEUTRAL_REQUEST)
    fields.end()
    if stream and not single:
        raise InputError("a list of texts cannot be streamed", help="send a request for each of them")
    prompts = [
        read_prompt(each_input, sampling, rid, score, start, texts)
        for each_input, sampling, rid, score, start in zip(inputs, samplings, rids, wanted, starts, strict=True)
    ]
    return Generate(tuple(prompts), single, stream)


def read_prompt(given: object, sampling: object, rid: object, wanted: object, start: object, texts: bool) -> Prompt:
    if not isinstance(given, str):
        given = list_of(given, int, "input_ids")
        check(min(given, default=0) >= 0, "`input_ids` has a negative token")
    if not isinstance(wanted, bool | None):
        raise InputError(f"`return_logprob` is true or false, not {told(wanted)}")
    if start is not None and (type(start) is not int or start < -1):
        raise InputError(f"`logprob_start_len` is a number of tokens, or -1, not {told(start)}")
    if not isinstance(rid, str | None):
        raise InputError(f"`rid` is a text, not {told(rid)}")
    made, program = read_sampling(sampling)
    return Prompt(
        text=given if isinstance(given, str) else None,
        tokens=() if isinstance(given, str) else tuple(given),
        sampling=made,
        rid=rid or uuid4().hex,
        logprob_start=None if not wanted else -1 if start is None else start,
        token_texts=texts,
        program=program,
    )


def read_sampling(data: object) -> tuple[Sampling, ProgramCall | None]:
    """`sampling_params`. Raises `InputError`."""
    fields = Fields({} if data is None else data, "`sampling_params`")
    stop = fields.raw("stop")
    top_k = fields.take("top_k", int, -1)
    check(top_k == -1 or top_k >= 1, f"`top_k` is 1 or more, or -1 for all tokens, not {top_k}")
    temperature = fields.take("temperature", float, 1.0)
    check(temperature >= 0, f"`temperature` is 0 or more, not {temperature}")
    constraint, program = read_constraint(fields.raw("regex"), fields.raw("json_schema"))
    fields.take("spaces_between_special_tokens", bool, True)  # our tokenizers put none there either way
    made = Sampling(
        max_new_tokens=fields.take("max_new_tokens", int, MOST_NEW_TOKENS),
        min_new_tokens=fields.take("min_new_tokens", int, 0),
        stop=(stop,) if isinstance(stop, str) else tuple(list_of(stop or [], str, "stop")),
        stop_token_ids=frozenset(list_of(fields.raw("stop_token_ids") or [], int, "stop_token_ids")),
        ignore_eos=fields.take("ignore_eos", bool, False),
        no_stop_trim=fields.take("no_stop_trim", bool, False),
        skip_special_tokens=fields.take("skip_special_tokens", bool, True),
        temperature=temperature if top_k != 1 else 0.0,
        top_p=fields.take("top_p", float, 1.0),
        top_k=0 if top_k == -1 else top_k,
        min_p=fields.take("min_p", float, 0.0),
        seed=fields.maybe("sampling_seed", int),
        constraint=constraint,
    )
    fields.refuse(NEUTRAL_SAMPLING)
    fields.end()
    return made, program


def read_constraint(regex: object, schema: object) -> tuple[Constraint | None, ProgramCall | None]:
    """What the text is held to; a schema can also be a program that is to be run."""
    if regex is not None and schema is not None:
        raise InputError("give `regex` or `json_schema`, not both")
    if regex is not None:
        if not isinstance(regex, str):
            raise InputError(f"`regex` is a text, not {told(regex)}")
        return Constraint("regex", regex.replace("\n", "\\n")), None
    if schema is None:
        return None, None
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else schema
    except (ValueError, RecursionError) as error:
        raise InputError(f"`json_schema` is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InputError(f"`json_schema` is an object, not {told(parsed)}")
    if parsed.get("type") == PROGRAM:
        return None, read_call({name: value for name, value in parsed.items() if name != "type"})
    return Constraint("json", json.dumps(parsed)), None


def read_call(data: object) -> ProgramCall:
    """A request of `/hw/run`. Raises `InputError`."""
    fields = Fields(data, "the request")
    program = fields.take("program", str, "")
    check(bool(program), "`program` is the text of a .hw file")
    inputs = fields.take("inputs", dict, {})
    for name, value in inputs.items():
        if not isinstance(value, str | int | float | bool):
            raise InputError(f"the input `{name}` is a text, a number, true or false, not {told(value)}")
    call = ProgramCall(
        program,
        name=fields.maybe("name", str),
        inputs=inputs,
        seed=fields.maybe("seed", int),
        budget=fields.maybe("budget", int),
        workers=fields.maybe("workers", int),
    )
    fields.end()
    return call


def read_join(data: object) -> Join:
    """A request of `/concate_and_append_request`. Raises `InputError`."""
    fields = Fields(data, "the request")
    join = Join(tuple(list_of(fields.raw("src_rids"), str, "src_rids")), fields.take("dst_rid", str, ""))
    fields.end()
    check(bool(join.sources and join.target), "give `src_rids`, one or more, and `dst_rid`")
    return join


def check(holds: bool, message: str) -> None:
    """Raises `InputError`."""
    if not holds:
        raise InputError(message)


def each(value: object, count: int, name: str, many: type[list[object]]) -> Sequence[object]:
    """A value for each of `count` prompts: a list of them, or one for all. Raises `InputError`."""
    if not isinstance(value, many):
        return [value] * count
    check(len(value) == count, f"`{name}` has {len(value)} entries for {count} prompts")
    return value


def list_of(value: object, kind: type[T], name: str) -> list[T]:
    """Raises `InputError`."""
    if not isinstance(value, list) or any(type(each) is not kind for each in value):
        raise InputError(f"`{name}` is a list, each {NAMES[kind]}, not {told(value)}")
    return value


def nested(value: Sequence[object]) -> bool:
    return bool(value) and isinstance(value[0], list)


def told(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else shown_type(value)
