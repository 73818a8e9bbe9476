"""Requests are checked field by field: what is wrong is told, and nothing is ignored that would change a text."""

import json

import pytest

from hwlang.serving.sglang_api import Finish, Reply, Score, read_call, read_generate, read_join
from hwruntime.errors import InputError
from hwruntime.program import Constraint


def sampling(**params: object):
    return read_generate({"text": "Go.", "sampling_params": params}).prompts[0].sampling


def test_what_the_frontend_sends():
    """The parameters of `sgl.gen("x")`, as `SglSamplingParams.to_srt_kwargs` of 0.5.2 writes them."""
    params = {
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "max_new_tokens": 128,
        "min_new_tokens": 0,
        "n": 1,
        "stop": [],
        "stop_token_ids": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "ignore_eos": False,
        "regex": None,
        "json_schema": None,
    }
    asked = read_generate({"text": "Go.", "sampling_params": params})
    assert asked.single
    assert not asked.stream
    assert asked.prompts[0].sampling == sampling()
    assert (asked.prompts[0].text, asked.prompts[0].logprob_start) == ("Go.", None)


def test_a_list_has_values_of_its_own_or_shares_one():
    asked = read_generate(
        {
            "text": ["a", "b"],
            "sampling_params": [{"stop": "."}, {"stop": ["!", "?"]}],
            "return_logprob": True,
            "logprob_start_len": [3, -1],
            "rid": ["x", "y"],
        }
    )
    assert [(p.text, p.sampling.stop, p.logprob_start, p.rid) for p in asked.prompts] == [
        ("a", (".",), 3, "x"),
        ("b", ("!", "?"), -1, "y"),
    ]
    assert [p.tokens for p in read_generate({"input_ids": [[1, 2], [3]]}).prompts] == [(1, 2), (3,)]
    assert read_generate({"input_ids": [1, 2]}).single


def test_what_is_held_to_something():
    assert sampling(regex="a\n/b").constraint == Constraint("regex", "a\\n/b")
    assert sampling(json_schema='{"type": "object"}').constraint == Constraint("json", '{"type": "object"}')
    assert sampling(top_k=1, temperature=0.8).temperature == 0
    assert sampling(top_k=5).top_k == 5
    assert sampling(sampling_seed=3).seed == 3


def test_a_schema_can_be_a_program():
    schema = {"type": "hw-program", "program": "program p { }", "inputs": {"n": 2}, "seed": 4}
    for given in (schema, json.dumps(schema)):
        asked = read_generate({"text": "", "sampling_params": {"json_schema": given, "temperature": 1}})
        call = asked.prompts[0].program
        assert call
        assert (call.program, call.inputs, call.seed, call.budget) == ("program p { }", {"n": 2}, 4, None)


WRONG = {
    "no text": ({}, "give either `text` or `input_ids`"),
    "both": ({"text": "a", "input_ids": [1]}, "give either `text` or `input_ids`"),
    "no object": ([1], r"the request is an object, not \[1\]"),
    "a number": ({"text": 3}, "`text` is a text or a list of texts, not 3"),
    "an empty list": ({"text": []}, "`text` is a text or a list of texts"),
    "texts as ids": ({"input_ids": ["a"]}, "`input_ids` is a list, each an int"),
    "a negative id": ({"input_ids": [-1]}, "negative token"),
    "unknown": ({"text": "a", "tmperature": 1}, "the request has no field `tmperature`"),
    "unknown sampling": ({"text": "a", "sampling_params": {"tmperature": 1}}, "has no field `tmperature`"),
    "a text for a number": ({"text": "a", "sampling_params": {"max_new_tokens": "4"}}, "`max_new_tokens` is an int"),
    "true for a number": ({"text": "a", "sampling_params": {"max_new_tokens": True}}, "`max_new_tokens` is an int"),
    "negative": ({"text": "a", "sampling_params": {"max_new_tokens": -1}}, "`max_new_tokens` is 0 or more"),
    "min over max": (
        {"text": "a", "sampling_params": {"max_new_tokens": 1, "min_new_tokens": 2}},
        r"`min_new_tokens` is 0 to `max_new_tokens` \(1\)",
    ),
    "top_p": ({"text": "a", "sampling_params": {"top_p": 0}}, "`top_p` is more than 0"),
    "top_k": ({"text": "a", "sampling_params": {"top_k": 0}}, "`top_k` is 1 or more, or -1"),
    "min_p": ({"text": "a", "sampling_params": {"min_p": 2}}, "`min_p` is between"),
    "temperature": ({"text": "a", "sampling_params": {"temperature": -1}}, "`temperature` is 0 or more"),
    "empty stop": ({"text": "a", "sampling_params": {"stop": [""]}}, "a text of `stop` is empty"),
    "two constraints": ({"text": "a", "sampling_params": {"regex": "a", "json_schema": "{}"}}, "not both"),
    "a schema that is none": ({"text": "a", "sampling_params": {"json_schema": "{"}}, "`json_schema` is not JSON"),
    "least tokens of a regex": (
        {"text": "a", "sampling_params": {"regex": "a", "min_new_tokens": 1}},
        "not supported with",
    ),
    "penalty": ({"text": "a", "sampling_params": {"frequency_penalty": 0.5}}, "`frequency_penalty` is not supported"),
    "repetition": ({"text": "a", "sampling_params": {"repetition_penalty": 1.1}}, "`repetition_penalty` is not supp"),
    "several": ({"text": "a", "sampling_params": {"n": 2}}, "`n` is not supported here"),
    "bias": ({"text": "a", "sampling_params": {"logit_bias": {"3": 1}}}, "`logit_bias` is not supported here"),
    "top logprobs": ({"text": "a", "top_logprobs_num": 2}, "`top_logprobs_num` is not supported here"),
    "image": ({"text": "a", "image_data": "x.png"}, "`image_data` is not supported here"),
    "a stream of a list": ({"text": ["a"], "stream": True}, "a list of texts cannot be streamed"),
    "counts": ({"text": ["a", "b"], "rid": ["x"]}, "`rid` has 1 entries for 2 prompts"),
    "start": ({"text": "a", "return_logprob": True, "logprob_start_len": "0"}, "`logprob_start_len` is a number"),
    "logprob": ({"text": "a", "return_logprob": "yes"}, "`return_logprob` is true or false"),
}


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told(data, message):
    with pytest.raises(InputError, match=message):
        read_generate(data)


def test_values_that_change_nothing_are_taken():
    neutral = {"n": 1, "frequency_penalty": 0.0, "presence_penalty": 0, "repetition_penalty": 1.0, "logit_bias": None}
    asked = {"text": "a", "sampling_params": neutral, "top_logprobs_num": 0, "image_data": None, "log_metrics": True}
    assert read_generate(asked).prompts[0].sampling == sampling()


def test_other_requests():
    assert read_join({"src_rids": ["a", "b"], "dst_rid": "c"}).sources == ("a", "b")
    with pytest.raises(InputError, match="give `src_rids`, one or more"):
        read_join({"src_rids": [], "dst_rid": "c"})
    with pytest.raises(InputError, match="the input `x` is a text, a number, true or false, not null"):
        read_call({"program": "program p {}", "inputs": {"x": None}})
    with pytest.raises(InputError, match=r"`program` is the text of a \.hw file"):
        read_call({"inputs": {}})


def test_replies_have_the_shape_of_sglangs():
    reply = Reply(
        "r", "Hi", (7, 8), 3, 2, 1, Finish("length", length=2), 0.5, (Score(None, 1, "a"),), (Score(-0.5, 7),)
    )
    assert reply.to_json() == {
        "text": "Hi",
        "output_ids": [7, 8],
        "meta_info": {
            "id": "r",
            "finish_reason": {"type": "length", "length": 2},
            "prompt_tokens": 3,
            "weight_version": "default",
            "completion_tokens": 2,
            "cached_tokens": 1,
            "input_token_logprobs": [[None, 1, "a"]],
            "output_token_logprobs": [[-0.5, 7, None]],
            "e2e_latency": 0.5,
        },
    }
    going = Reply("r", "H", (7,), 3, 1, 1).to_json()["meta_info"]
    assert isinstance(going, dict)
    assert going["finish_reason"] is None
    assert "e2e_latency" not in going
    assert Finish("stop", ".").to_json() == {"type": "stop", "matched": "."}
