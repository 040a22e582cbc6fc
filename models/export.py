"""Writes tiny-chat.gguf, byte by byte: GGUF version 3, bf16 matrices, f32 norms."""

import os
import struct

import torch

from model import HEAD_DIM, N_CTX, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_LAYER, RMS_EPS, ROPE_BASE

ALIGNMENT = 32
F32, BF16 = 0, 30
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
ROLE_TOKENS = ["<|system|>", "<|user|>", "<|assistant|>"]

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}<|system|>{% elif message['role'] == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}"
    "{{ message['content'] | trim }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(v):
    """A metadata value with its type in front: bool, u32, f32, string, or an array of one of them or of i32."""
    if isinstance(v, bool):
        return struct.pack("<IB", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + string(v)
    if isinstance(v[0], str):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(string, v))
    code, letter = (6, "f") if isinstance(v[0], float) else (5, "i")
    return struct.pack("<IIQ", 9, code, len(v)) + struct.pack(f"<{len(v)}{letter}", *v)


def vocabulary(sp):
    """Tokens, scores and types: the SentencePiece model, then our role tokens."""
    n = sp.get_piece_size()
    kind = lambda i: UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else BYTE if sp.is_byte(i) else NORMAL
    return ([sp.id_to_piece(i) for i in range(n)] + ROLE_TOKENS,
            [float(sp.get_score(i)) for i in range(n)] + [0.0] * len(ROLE_TOKENS),
            [kind(i) for i in range(n)] + [CONTROL] * len(ROLE_TOKENS))


def write(path, model, sp):
    """Replaces `path` by rename, so that a reader never meets half a file."""
    tokens, scores, types = vocabulary(sp)
    metadata = {
        "general.architecture": "llama", "general.name": "Selvedge tiny-chat", "general.license": "apache-2.0",
        "general.file_type": 32, "general.alignment": ALIGNMENT, "general.quantization_version": 2,
        "llama.context_length": N_CTX, "llama.embedding_length": N_EMBD, "llama.block_count": N_LAYER,
        "llama.feed_forward_length": N_FF, "llama.attention.head_count": N_HEAD, "llama.attention.head_count_kv": N_HEAD_KV,
        "llama.attention.layer_norm_rms_epsilon": RMS_EPS, "llama.rope.dimension_count": HEAD_DIM,
        "llama.rope.freq_base": ROPE_BASE, "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False, "tokenizer.chat_template": TEMPLATE,
    }
    infos, data = b"", b""
    named = {name if name.endswith(".weight") else name + ".weight": p for name, p in model.named_parameters()}
    for name, p in named.items():
        p = p.detach()
        raw = p.bfloat16().view(torch.int16).numpy().tobytes() if p.dim() == 2 else p.float().numpy().tobytes()
        dims = tuple(reversed(p.shape))  # GGUF counts from the fastest axis
        infos += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, BF16 if p.dim() == 2 else F32, len(data))
        data += raw + bytes(-len(raw) % ALIGNMENT)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(named), len(metadata))
    head += b"".join(string(k) + value(v) for k, v in metadata.items()) + infos
    with open(path + ".part", "wb") as f:
        f.write(head + bytes(-len(head) % ALIGNMENT) + data)
    os.replace(path + ".part", path)
