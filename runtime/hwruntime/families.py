"""Which models are refused before their weights are loaded, and why.

Whatever is not refused here must still pass the probe (`layers.py`) and the self-test (`selftest.py`): this table is
there to say so at once, and in plain words.
"""

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hwruntime.errors import ModelError

RECURRENT = "it mixes tokens through a recurrent state or a convolution, and a state has no place in a view of blocks"
SHARED_KV = "some of its layers read the keys and values of another layer, which the shared cache does not offer yet"
ABSOLUTE = "it adds positions to the tokens before the first layer, so their keys fit no other position"
ALIBI = "it weakens scores by distance (ALiBi) instead of rotating, which the shared cache does not do yet"
SCALED = "it scales queries by their position, which differs from block to block of a view"
CHUNKED = "its attention is cut at fixed positions, which differ from view to view"
SPARSE = "its attention picks keys by an index of its own, which knows nothing of blocks"
NORMALISED = "it normalises queries and keys after their rotation, so they cannot be rotated on"
REPEATED = "it runs attention several times in one layer, and the shared cache stores one set of keys for each"
CLOSED = "transformers has no way to replace its attention"
ENCODER = "it reads its prompt with an encoder, so there is no cache to share"
MASKED = "it is an encoder made for filling in or classifying text, and has no cache to share"
NOT_TEXT = "it writes sound or reads images, not text alone"

REASONS: dict[str, tuple[str, ...]] = {
    RECURRENT: (
        "bailing_hybrid bamba falcon_h1 falcon_mamba granitemoehybrid inkling2_text inkling_text jamba kimi_linear",
        "lfm2 lfm2_moe lfm3 mamba mamba2 minimax nemotron_h olmo_hybrid qwen3_5 qwen3_5_moe qwen3_5_moe_text",
        "qwen3_5_text qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma rwkv xlstm zamba zamba2 zaya",
    ),
    SHARED_KV: (
        "gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified gemma4_unified_assistant",
        "gemma4_unified_text",
    ),
    ABSOLUTE: ("biogpt ctrl gpt-sw3 gpt2 gpt_bigcode gpt_neo openai-gpt opt xglm xlm",),
    ALIBI: ("bloom mpt",),
    SCALED: ("beam ministral3 mistral4 mistral_large4",),
    CHUNKED: ("llama4 llama4_text",),
    SPARSE: ("axk2 deepseek_v32 deepseek_v4 doge dots3_note dots3_note_text glm_moe_dsa hy_v4",),
    NORMALISED: ("hunyuan_v1_dense hunyuan_v1_moe",),
    REPEATED: ("diffllama hrm_text",),
    CLOSED: ("codegen cpmant falcon gpt_neox_japanese gptj reformer xlnet",),
    ENCODER: ("blt git mllama trocr whisper",),
    MASKED: (
        "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta",
        "roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod",
    ),
    NOT_TEXT: ("emu3 got_ocr2 moshi moss_transcribe_diarize musicgen musicgen_melody phi4_multimodal",),
}
REFUSED = {kind: reason for reason, kinds in REASONS.items() for kind in " ".join(kinds).split()}

RECURRENT_LAYERS = ("linear", "conv", "mamba", "recurrent", "hybrid")  # parts of layer types' names
KNOWN_LAYERS = ("full_attention", "sliding_attention")


def refuse(config: PreTrainedConfig, own_code: bool = False) -> None:
    """Raises `ModelError` for a model that cannot run here. `own_code`: it brings code that transformers lacks."""
    kind = config.model_type
    reason = REFUSED.get(kind) or _structural(config)
    if reason is None and (text := config.get_text_config(decoder=True)) is not config:
        reason = REFUSED.get(text.model_type) or _structural(text)
    if reason is None and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own_code:
        reason = "transformers knows no text generator of this type"
    if reason is not None:
        raise ModelError(
            f"models of type `{kind}` cannot run here: {reason}",
            help="use a model of another family: Llama, Qwen2, Qwen3, Mistral, Gemma 3 and gpt-oss are some that work",
        )


def _structural(config: PreTrainedConfig) -> str | None:
    """Why a model of any name is refused: what its config says of its layers."""
    layers = set(getattr(config, "layer_types", None) or ())
    if config.is_encoder_decoder:
        return ENCODER
    if any(part in layer for layer in layers for part in RECURRENT_LAYERS):
        return RECURRENT
    if any("chunked" in layer for layer in layers):
        return CHUNKED
    if getattr(config, "num_kv_shared_layers", 0):
        return SHARED_KV
    if getattr(config, "alibi", False):
        return ALIBI
    if getattr(config, "index_topk", None) or any("indexed" in layer or "sparse" in layer for layer in layers):
        return SPARSE
    if unknown := sorted(layers.difference(KNOWN_LAYERS)):
        return f"it has layers of a type that hwlang does not know ({', '.join(unknown)})"
    return None
