"""Our attention in the place of SGLang's: a backend that hands every layer's q, k and v to a function.

SGLang's models, unmodified, call it through their `RadixAttention` layers.
"""

from typing import TYPE_CHECKING

from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
from sglang.srt.layers.radix_attention import AttentionType, RadixAttention
from torch import Tensor

from hwruntime.errors import ModelError
from hwruntime.families import CHUNKED, ENCODER, SCALED, SHARED_KV
from hwruntime.intercept import Attention, Call

if TYPE_CHECKING:
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch
    from sglang.srt.model_executor.model_runner import ModelRunner


class HogwildBackend(AttentionBackend):  # type: ignore[misc]
    """`target` is what attends: whoever drives the runner sets it."""

    def __init__(self, runner: "ModelRunner") -> None:
        super().__init__()
        self.token_to_kv_pool = runner.token_to_kv_pool
        self.req_to_token_pool = runner.req_to_token_pool
        self.target: Attention | None = None

    def init_forward_metadata(self, forward_batch: "ForwardBatch") -> None:
        """The plan is all that there is to be known of a pass; the executor has it."""

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        return 1

    def forward(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor | None,
        layer: RadixAttention,
        forward_batch: "ForwardBatch",
        save_kv_cache: bool = True,
        **options: object,
    ) -> Tensor:
        """q [T, heads * D], k and v [T, kv heads, D]; returns [T, heads * Dv].

        Where `save_kv_cache` is false, a kernel that also rotates has stored the keys and values already, and k itself
        may not be rotated: they are taken from where it has put them.
        """
        if self.target is None:
            raise ModelError(
                "the attention backend `hogwild` is driven by hwlang, not by SGLang's server",
                help="use `hw run --engine sglang`, or another --attention-backend",
            )
        refuse_layer(layer, k)
        if not save_kv_cache:
            keys, values = self.token_to_kv_pool.get_kv_buffer(layer.layer_id)
            k, v = keys[forward_batch.out_cache_loc].to(q.dtype), values[forward_batch.out_cache_loc].to(q.dtype)
        assert k is not None, "refused above"
        assert v is not None, "SGLang gives both or none"
        return self.target(call_of(layer, q, k, v, options)).flatten(1)


def call_of(layer: RadixAttention, q: Tensor, k: Tensor, v: Tensor, options: dict[str, object]) -> Call:
    """What a layer asks for, in the words of `intercept`: `layers.identify` reads them."""
    told = {"s_aux" if name == "sinks" else name: value for name, value in options.items()}
    told["scaling"] = layer.scaling
    told["softcap"] = layer.logit_cap or None
    if layer.sliding_window_size > 0:
        told["sliding_window"] = layer.sliding_window_size + 1  # SGLang does not count the query's own token
    heads, kv_heads = layer.tp_q_head_num, layer.tp_k_head_num
    q = q.view(-1, heads, layer.qk_head_dim)
    k, v = k.view(-1, kv_heads, layer.qk_head_dim), v.view(-1, kv_heads, layer.v_head_dim)
    return Call(layer, q, k, v, told, masked=False, visible=None)


def refuse_layer(layer: RadixAttention, k: Tensor | None) -> None:
    """Raises `ModelError` for what a layer does with attention that we do not."""
    reasons = {
        SHARED_KV: k is None,
        ENCODER: layer.is_cross_attention or layer.attn_type != AttentionType.DECODER,
        CHUNKED: layer.use_irope,
        SCALED: layer.xai_temperature_len > 0,
        "it puts positions into its attention itself": layer.pos_encoding_mode != "NONE",
        "it caps its attention's scores in a way of its own": bool(layer.logit_cap)
        and layer.logit_capping_method != "tanh",
    }
    reason = next((reason for reason, found in reasons.items() if found), None)
    if reason is not None:
        raise ModelError(f"layer {layer.layer_id} of the model cannot run here: {reason}")
