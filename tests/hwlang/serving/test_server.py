"""The endpoints, over HTTP: what comes back, what is refused, and clients that go away."""

import json
import socket
import threading
import time
import urllib.request

import hwlang as hw
from tests.hwlang.serving.asked import LIMIT, Served, serving

PROGRAM = 'program p(q: str = "47+38") { worker A { sees "1) {{q}} A:", self max 9 tokens } answer A }'


def streamed(served: Served, text: str, new: int, **more: object) -> list[dict | str]:
    sampling = {"max_new_tokens": new, "temperature": 0}
    data = {"text": text, "sampling_params": sampling, "stream": True, **more}
    request = urllib.request.Request(served.url + "/generate", json.dumps(data).encode())
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.read().decode().split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line]
    return [json.loads(event) if event != "[DONE]" else event for event in events]


def test_what_runs_here_is_told(served):
    info = json.loads(served.get("/get_model_info"))
    assert (info["model_path"], info["is_generation"]) == ("tiny", True)
    server = json.loads(served.get("/get_server_info"))
    assert server == json.loads(served.get("/server_info"))
    assert (server["context_length"], server["dtype"], server["max_total_num_tokens"]) == (2048, "float32", None)
    assert served.get("/health") == b""


def test_one_text_or_several(served):
    one = served.generate("1) reverse abc\nAlice:", 5)
    info = one["meta_info"]
    assert (info["prompt_tokens"], info["completion_tokens"], len(one["output_ids"])) == (9, 5, 5)
    assert info["finish_reason"] == {"type": "length", "length": 5}
    both = served.generate(["1) reverse abc\nAlice:", "1) 47+38\nAlice:"], 5)
    assert both[0]["text"] == one["text"]
    assert [reply["meta_info"]["completion_tokens"] for reply in both] == [5, 5]


def test_a_stream_has_the_text_so_far(served):
    whole = served.generate("1) reverse abc\nBob:", 7)
    *events, end = streamed(served, "1) reverse abc\nBob:", 7)
    assert end == "[DONE]"
    texts = [event["text"] for event in events]
    assert texts == [whole["text"][: len(text)] for text in texts]
    assert texts[-1] == whole["text"]
    assert [event["meta_info"]["completion_tokens"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["meta_info"]["finish_reason"] is None for event in events] == [True] * 6 + [False]


def test_what_is_refused_says_so(served):
    status, answer = served.post("/generate", {"text": "a", "sampling_params": {"presence_penalty": 1}})
    assert status == 400
    assert answer["error"]["message"] == "`presence_penalty` is not supported here"
    assert answer["error"]["help"] == "`presence_penalty`: leave it out, or give 0"
    for data, told in (
        (b"{", "the request is not JSON"),
        ({"text": "a" * 3000}, "the model's context is 2048"),
        ({"input_ids": [5, 999]}, "there is no token 999: the model has 127"),
        ({"text": "a", "stream": True, "sampling_params": {"regex": "(("}}, "cannot be followed"),
    ):
        status, answer = served.post("/generate", data)
        assert (status, told in answer["error"]["message"]) == (400, True), answer
    assert served.post("/concate_and_append_request", {})[0] == 400


def test_a_program(served):
    status, answer = served.post("/hw/run", {"program": PROGRAM, "inputs": {"q": "86-29"}, "seed": 3})
    assert status == 200
    expected = hw.parse(PROGRAM).run(q="86-29", seed=3, engine=served.generator.engine).to_json()
    assert answer == json.loads(json.dumps(expected))
    status, answer = served.post("/hw/run", {"program": "program p { wroker A { } }"})
    assert (status, answer["error"]["code"]) == (400, "HW001")
    status, answer = served.post("/hw/run", {"program": PROGRAM, "inputs": {"x": 1}})
    assert (status, answer["error"]["message"]) == (400, "program `p` has no parameter `x`")


def test_what_a_server_has_done_is_counted(served):
    before = counts(served)
    served.generate("Something quite new: ", 4)
    served.generate("Something quite new: ", 4)
    after = counts(served)
    assert after["hw_requests_total"] - before["hw_requests_total"] == 2
    assert after["hw_cached_tokens_total"] - before["hw_cached_tokens_total"] == 19
    assert after["hw_sampled_tokens_total"] - before["hw_sampled_tokens_total"] == 8
    assert after["hw_kept_tokens"] > 0


def counts(served: Served) -> dict[str, float]:
    lines = [line for line in served.get("/metrics").decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_cache_can_be_flushed(served):
    text = "To be forgotten: "
    served.generate(text, 0)
    assert served.generate(text, 0)["meta_info"]["cached_tokens"] == 16
    assert served.post_text("/flush_cache").startswith("Cache flushed")
    assert served.generate(text, 0)["meta_info"]["cached_tokens"] == 0


def test_clients_that_go_away_end_their_requests(served):
    """In the middle of a stream, and before anything has come."""
    for stream in (True, False):
        host, port = served.url.removeprefix("http://").split(":")
        sampling = {"max_new_tokens": 1500, "temperature": 1, "ignore_eos": True}
        data = json.dumps({"text": "Go on: ", "sampling_params": sampling, "stream": stream}).encode()
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
            if stream:
                assert client.recv(64)
            until(lambda: served.generator.going == 1)
        until(lambda: served.generator.going == 0)
    passes = served.generator.engine.runtime.counters.passes
    time.sleep(0.2)
    assert served.generator.engine.runtime.counters.passes <= passes + 1


def until(holds) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_and_programs_share_a_small_cache():
    engine = hw.Engine("tiny", dtype="float32", kv_tokens=512)
    alone = [hw.parse(PROGRAM).run(q=f"{n}+38", budget=20, engine=engine).answer for n in (11, 12, 13)]
    with serving(engine) as served:
        came: list[object] = []

        def generate(number: int) -> None:
            came.append(served.generate(f"Request {number}: ", 40)["meta_info"]["completion_tokens"])

        def run(number: int) -> None:
            status, answer = served.post("/hw/run", {"program": PROGRAM, "inputs": {"q": f"{number}+38"}, "budget": 20})
            assert status == 200
            came.append(answer["answer"])

        threads = [threading.Thread(target=generate, args=(number,)) for number in range(12)]
        threads += [threading.Thread(target=run, args=(number,)) for number in (11, 12, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert sorted(map(str, came)) == sorted(map(str, [40] * 12 + alone))
        status, answer = served.post("/generate", {"text": "a" * 300, "sampling_params": {"max_new_tokens": 300}})
        assert status == 400
        assert "300 tokens and 300 new ones do not fit into a cache of 512" in answer["error"]["message"]
