"""A real SGLang server or router, over HTTP."""

import asyncio
import logging
import socket
from collections.abc import Coroutine, Mapping, Sequence
from concurrent import futures
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import finalize

import httpx2

from hwruntime.errors import InputError, RequestRefused, ServerError
from hwruntime.program import Json
from hwruntime.remote.server import Info, Reply, Request

T = TypeVar("T")

CONNECT_SECONDS = 5.0
REPLY_SECONDS = 120.0  # a server with a long queue answers late; one that is gone, `KEEPALIVE` finds out about
LISTEN_SECONDS = 0.25  # until Ctrl-C is noticed at the latest
BUSY = (429, 503)
WAITS = (0.5, 1.0, 2.0)  # seconds before a busy server is asked again
NEVER = -1e9  # added to the logit of a token that must not be drawn
MOST_REQUESTS = 1024  # at once
SHOWN = 300  # characters of what a server says

# A machine that has gone without a word is noticed after 3 + 5 * 1 seconds, however long a reply may take.
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 8000}  # s, s, -, ms

log = logging.getLogger(__name__)


class Client:
    """Asks the server at `url`. `api_key` is sent along with every request. Raises `InputError` for a wrong address.

    Requests are made by an event loop in a thread of its own: they go out together, and end at once when the thread
    that waits for them is interrupted.
    """

    def __init__(self, url: str, api_key: str | None = None, reply_seconds: float = REPLY_SECONDS) -> None:
        self.url = checked(url)
        self._reply_seconds = reply_seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx2.Limits(max_connections=MOST_REQUESTS, keepalive_expiry=2.0)
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(reply_seconds, connect=CONNECT_SECONDS),
            transport=httpx2.AsyncHTTPTransport(limits=limits, socket_options=socket_options()),
        )
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="hw-server", daemon=True).start()
        finalize(self, close, self._http, self._loop).atexit = False

    def info(self) -> Info:
        """What the server runs. Raises `ServerError`."""
        data = self._wait(self._info())
        model = data.get("model_path")
        if not isinstance(model, str):
            raise self._strange("/get_model_info", "there is no `model_path` in it")
        tokenizer = data.get("tokenizer_path")
        return Info(model, tokenizer if isinstance(tokenizer, str) else model)

    def generate(self, requests: Sequence[Request]) -> list[Reply | ServerError]:
        """What comes of requests that are made at the same time, in their order."""
        return self._wait(self._all(requests))

    def _wait(self, call: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            # Python sees a signal that comes just before a wait when that is over: so no wait is long.
            while not futures.wait([future], LISTEN_SECONDS).done:
                pass
            return future.result()
        except BaseException:  # Ctrl-C, say: what the server is still at is broken off
            future.cancel()
            raise

    async def _info(self) -> Mapping[str, Json]:
        try:
            return await self._ask("GET", "/get_model_info")
        except RequestRefused:  # its new name
            return await self._ask("GET", "/model_info")

    async def _all(self, requests: Sequence[Request]) -> list[Reply | ServerError]:
        return list(await asyncio.gather(*map(self._one, requests)))

    async def _one(self, request: Request) -> Reply | ServerError:
        try:
            data = await self._ask("POST", "/generate", body_of(request))
            return self._reply(data, request)
        except ServerError as error:
            return error

    async def _ask(self, method: str, path: str, body: Json = None) -> Mapping[str, Json]:
        """The object that the server answers with; while it is too busy, it is asked again. Raises `ServerError`."""
        for wait in (*WAITS, None):
            answer = await self._send(method, path, body)
            if answer.status_code not in BUSY or wait is None:
                break
            log.warning("%s is busy (%d): asked again in %.1f s", self.url, answer.status_code, wait)
            await asyncio.sleep(wait)
        if not answer.is_success:
            refused = answer.is_client_error and answer.status_code not in BUSY
            raise (RequestRefused if refused else ServerError)(
                f"the server at {self.url} answers {path} with {answer.status_code}: {said(answer)}",
                help=help_for(answer.status_code),
            )
        try:
            data = answer.json()
        except ValueError:
            raise self._strange(path, "it is not JSON") from None
        if not isinstance(data, dict):
            raise self._strange(path, "it is not an object")
        return data

    async def _send(self, method: str, path: str, body: Json) -> httpx2.Response:
        help = "is it running, and is this its address? `python -m sglang.launch_server` prints it"
        try:
            return await self._http.request(method, self.url + path, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise ServerError(f"the server at {self.url} cannot be reached: {reason(error)}", help=help) from error
        except httpx2.TimeoutException as error:
            message = f"the server at {self.url} has not answered {path} within {self._reply_seconds:g} s"
            raise ServerError(message, help="look at its log: it may be stuck, or have too much to do") from error
        except httpx2.HTTPError as error:
            message = f"the server at {self.url} broke off in the middle of {path}: {reason(error)}"
            raise ServerError(message, help="look at its log: it may have been stopped, or out of memory") from error

    def _reply(self, data: Mapping[str, Json], request: Request) -> Reply:
        """A reply to /generate. Raises `ServerError` where it is not what SGLang sends."""
        tokens, meta = data.get("output_ids"), data.get("meta_info")
        if not isinstance(meta, dict):
            raise self._strange("/generate", "there is no `meta_info` in it")
        finish = meta.get("finish_reason")
        finish = finish if isinstance(finish, dict) else {}
        if finish.get("type") == "abort":
            raise ServerError(f"the server at {self.url} gave a request up: {finish.get('message')}")
        if not isinstance(tokens, list):
            raise self._strange("/generate", "there are no `output_ids` in it")
        drawn = [token for token in tokens if isinstance(token, int) and token >= 0]
        matched = finish.get("matched") if finish.get("type") == "stop" else None
        ended = isinstance(matched, int)
        if isinstance(matched, int) and drawn[-1:] != [matched]:  # some versions leave it away
            drawn.append(matched)
        if not drawn or len(drawn) < len(tokens) or len(drawn) > request.most:
            raise self._strange("/generate", f"`output_ids` is {str(tokens)[:SHOWN]}, for {request.most} tokens")
        text = data.get("text")
        return Reply(
            tuple(drawn),
            ended,
            logprobs_of(meta, request.choices),
            number(meta.get("cached_tokens"), 0),
            text if isinstance(text, str) else None,
        )

    def _strange(self, path: str, why: str) -> ServerError:
        return ServerError(
            f"the server at {self.url} does not answer {path} as SGLang does: {why}",
            help="--engine takes the address of an SGLang server or router",
        )


def checked(url: str) -> str:
    """An address without a slash at its end. Raises `InputError`."""
    parts = urlsplit(url)
    try:
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        fine = False
    if not fine or parts.query or parts.fragment:
        raise InputError(f"`{url}` is not the address of a server", help="it looks like http://host:30000")
    return url.rstrip("/")


def body_of(request: Request) -> dict[str, Json]:
    """What /generate takes."""
    manner = request.manner
    sampling: dict[str, Json] = {
        "max_new_tokens": request.most,
        "temperature": manner.temperature,
        "top_p": manner.top_p,
        "top_k": manner.top_k or -1,
        "min_p": manner.min_p,
        "skip_special_tokens": False,
        "no_stop_trim": True,
    }
    if manner.temperature:
        sampling["sampling_seed"] = manner.seed
    if request.ends:
        sampling["stop_token_ids"] = [*sorted(request.ends)]
    if request.stops:
        sampling["stop"] = list(request.stops)
    if request.banned:
        sampling["logit_bias"] = {str(token): NEVER for token in sorted(request.banned)}
    body: dict[str, Json] = {"input_ids": list(request.tokens), "sampling_params": sampling}
    if request.choices:
        body |= {"return_logprob": True, "token_ids_logprob": list(request.choices)}
    return body


def logprobs_of(meta: Mapping[str, Json], choices: Sequence[int]) -> tuple[float, ...]:
    """Those of the choices at the first token written; none where not all are told."""
    places = meta.get("output_token_ids_logprobs")
    first = places[0] if isinstance(places, list) and places else None
    told = {each[1]: each[0] for each in first if isinstance(each, list)} if isinstance(first, list) else {}
    values = [told.get(choice) for choice in choices]
    found = tuple(float(value) for value in values if isinstance(value, int | float))
    return found if len(found) == len(choices) else ()


def number(value: Json, default: int) -> int:
    return value if isinstance(value, int) else default


def said(answer: httpx2.Response) -> str:
    """What a server says of an error, on one line."""
    try:
        data = answer.json()
    except ValueError:
        data = answer.text
    for name in ("error", "detail", "message"):
        data = data.get(name, data) if isinstance(data, dict) else data
    text = " ".join(str(data).split()) or answer.reason_phrase
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def help_for(status: int) -> str | None:
    if status in (401, 403):
        return "put the server's API key into the environment variable HW_API_KEY"
    if status in BUSY:
        return "it was asked several times: try later, or with a smaller --max-concurrency"
    if status == 404:
        return "--engine takes the address of an SGLang server or router, without a path"
    return None


def reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def socket_options() -> list[tuple[int, int, int]]:
    """Have the kernel ask whether the other machine is still there, as far as this system can."""
    known = {name: value for name, value in KEEPALIVE.items() if hasattr(socket, name)}
    asked = [(socket.IPPROTO_TCP, int(getattr(socket, name)), value) for name, value in known.items()]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), *asked]


def close(http: httpx2.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections, and end the loop. Not waited for: the garbage collector may call it, in any thread."""

    async def end() -> None:
        await http.aclose()
        loop.stop()

    loop.call_soon_threadsafe(lambda: loop.create_task(end()))
