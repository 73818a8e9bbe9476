"""`hw serve`: the command, as a process of its own and in this one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from hwlang.cli import main

LIMIT = 120  # seconds


def test_it_answers_until_it_is_interrupted():
    command = [sys.executable, "-m", "hwlang.cli", "serve", "--sglang-api", "--port", "0", "--kv-tokens", "512"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr
        assert process.stdout
        try:
            greeting = "".join(process.stderr.readline() for _ in range(3))
            found = re.match(r"tiny answers at (http://127\.0\.0\.1:\d+): a context of 2048 tokens, ", greeting)
            assert found, greeting
            assert "a cache of 512 tokens\n" in greeting
            assert greeting.endswith("Ctrl-C stops it\n")
            sampling = {"max_new_tokens": 3, "temperature": 0}
            data = json.dumps({"text": "1) 47+38\n\nAlice: ", "sampling_params": sampling}).encode()
            with urllib.request.urlopen(found[1] + "/generate", data, timeout=LIMIT) as answer:
                assert json.loads(answer.read())["text"] == "1) 4"
            sampling = {"max_new_tokens": 400, "ignore_eos": True}
            data = json.dumps({"text": "Go on:", "sampling_params": sampling, "stream": True}).encode()
            with urllib.request.urlopen(found[1] + "/generate", data, timeout=LIMIT) as answer:
                assert answer.readline().startswith(b"data: {")
                process.send_signal(signal.SIGINT)
                *_, last, end = answer.read().decode().split("\n\n")[:-1]
            assert json.loads(last.strip().removeprefix("data: "))["error"]["message"] == "the server was stopped"
            assert end == "data: [DONE]"
            assert process.wait(LIMIT) == 0
            assert process.stderr.read() == "stopped\n"
            assert process.stdout.read() == ""
        finally:
            process.kill()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of a command line that cannot be carried out."""
    assert main(["serve", *arguments]) == 2
    return capsys.readouterr().err


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = told(capsys, "--sglang-api", "--port", str(port))
    assert said == f"error: cannot listen at 127.0.0.1:{port}: Address already in use: --port 0 takes a free one\n"


def test_what_to_serve_must_be_said(capsys):
    assert told(capsys) == "error: say what to serve: `hw serve --sglang-api`\n"


def test_what_to_install_is_told():
    code = "import sys; sys.modules['uvicorn'] = None; from hwlang.cli import main; "
    code += "sys.exit(main(['serve', '--sglang-api']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: a server needs uvicorn and starlette: `pip install 'hwlang[serve]'`\n"


def test_a_model_that_is_not_there(capsys, tmp_path):
    assert main(["serve", "--sglang-api", "--port", "0", "--model", str(tmp_path)]) != 0
    assert "error[HW510]" in capsys.readouterr().err
