"""Writes whisper/*: small Whisper models with random weights, and whisper-tiny.json: what openai/whisper and transformers make of them in float32.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3 openai-whisper==20250625
    VENV/bin/python tests/reference/whisper_tiny.py

"multi" is multilingual, with windows of 2 s, in a Hugging Face folder (float16), and the same as a file of whisper.cpp (ggml-multi.bin); its transcripts are
those of openai/whisper, whose constants of 30 s are set to 2 s, and of transformers' generate. "odd" has what the real ones do not differ in: 128 mels, other
feed-forward sizes, no generation_config.json. The sounds are made of whole numbers, so that the test makes the same ones.
"""
import json
import os
import shutil
import struct

import numpy as np
import tiktoken
import torch
import transformers as t
import whisper
import whisper.audio
import whisper.decoding
import whisper.timing
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS, N_CTX, N_TEXT = 2, 100, 64
LANGS = list(whisper.tokenizer.LANGUAGES)[:4]
SPECIALS = ["<|endoftext|>", "<|startoftranscript|>", *[f"<|{c}|>" for c in LANGS], "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
            "<|nospeech|>", "<|notimestamps|>"]
TIMES = [f"<|{i * 0.02:.2f}|>" for i in range(N_CTX + 1)]
MERGES = """t h|th e|Ġ the|a n|an d|Ġ and|i n|in g|Ġ a|e r|Ġ w|o r|or d|Ġw ord|Ġ s|o u|ou nd|Ġs ound|u n|un d|- -|Ġ (|â Ļ|âĻ ª|Ġ âĻª|o n|Ġ on|on e|Ġ i|Ġi s""".split("|")


def byte_chars():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(rest)}, keep + rest


def vocabulary():
    """Words as bytes, in order; and the merges as Hugging Face has them."""
    chars, order = byte_chars()
    back = {c: b for b, c in chars.items()}
    words, merges = [bytes([b]) for b in order], []
    for m in MERGES:
        a, b = m.split(" ")
        if bytes(back[c] for c in a) in words and bytes(back[c] for c in b) in words:
            words.append(bytes(back[c] for c in a + b))
            merges.append((a, b))
    return words, merges, chars


WORDS, PAIRS, CHARS = vocabulary()
N_VOCAB = len(WORDS) + len(SPECIALS) + len(TIMES)
ID = {s: len(WORDS) + i for i, s in enumerate(SPECIALS + TIMES)}


def tokenizer_json(path):
    tok = Tokenizer(models.BPE({"".join(CHARS[b] for b in w): i for i, w in enumerate(WORDS)}, PAIRS))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIALS])
    tok.add_tokens([AddedToken(s, normalized=False, special=False) for s in TIMES])
    tok.save(path)


def random_model(seed, **options):
    torch.manual_seed(seed)
    options = dict(dict(
        vocab_size=N_VOCAB, num_mel_bins=80, d_model=24, encoder_layers=2, encoder_attention_heads=3, decoder_layers=2, decoder_attention_heads=2,
        encoder_ffn_dim=96, decoder_ffn_dim=96, max_source_positions=N_CTX, max_target_positions=N_TEXT, pad_token_id=ID["<|endoftext|>"],
        bos_token_id=ID["<|endoftext|>"], eos_token_id=ID["<|endoftext|>"], decoder_start_token_id=ID["<|startoftranscript|>"], suppress_tokens=None,
        begin_suppress_tokens=None), **options)
    model = t.WhisperForConditionalGeneration(t.WhisperConfig(**options)).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_norm.weight" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif "embed_tokens" in name:
                p.copy_(0.55 * torch.randn_like(p))
                p[len(WORDS):] *= 0.8
            elif "embed_positions" in name and "decoder" in name:
                p.copy_(0.8 * torch.randn_like(p))
            elif "encoder_attn.q_proj" in name or "encoder_attn.k_proj" in name:
                p.copy_(0.6 * torch.randn_like(p))
            elif "conv1" in name:
                p.copy_(0.1 * torch.randn_like(p))
            else:
                p.copy_(0.3 * torch.randn_like(p))
            p.copy_(p.half().float())
    return model


# --- openai/whisper -------------------------------------------------------------------------------------------------

ENCODING = tiktoken.Encoding("tiny", pat_str=r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
                             mergeable_ranks={w: i for i, w in enumerate(WORDS)}, special_tokens=ID)


def get_tokenizer(multilingual, *, num_languages=4, language=None, task=None):
    return whisper.tokenizer.Tokenizer(encoding=ENCODING, num_languages=4, language=language or "en", task=task or "transcribe")


class Tiny(whisper.model.Whisper):
    is_multilingual = True
    num_languages = 4


def openai_names(name):
    for a, b in [("model.encoder.layers.", "encoder.blocks."), ("model.decoder.layers.", "decoder.blocks."), ("self_attn_layer_norm", "attn_ln"),
                 ("encoder_attn_layer_norm", "cross_attn_ln"), ("final_layer_norm", "mlp_ln"), ("self_attn.", "attn."), ("encoder_attn.", "cross_attn."),
                 ("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out"), ("fc1", "mlp.0"), ("fc2", "mlp.2"),
                 ("model.encoder.layer_norm", "encoder.ln_post"), ("model.decoder.layer_norm", "decoder.ln"),
                 ("model.encoder.embed_positions.weight", "encoder.positional_embedding"), ("model.decoder.embed_positions.weight", "decoder.positional_embedding"),
                 ("model.decoder.embed_tokens", "decoder.token_embedding"), ("model.encoder.conv", "encoder.conv")]:
        name = name.replace(a, b)
    return name


def as_openai(model, heads):
    c = model.config
    dims = whisper.model.ModelDimensions(n_mels=c.num_mel_bins, n_audio_ctx=N_CTX, n_audio_state=c.d_model, n_audio_head=c.encoder_attention_heads,
                                         n_audio_layer=c.encoder_layers, n_vocab=c.vocab_size, n_text_ctx=N_TEXT, n_text_state=c.d_model,
                                         n_text_head=c.decoder_attention_heads, n_text_layer=c.decoder_layers)
    w = Tiny(dims)
    state = {openai_names(k): v for k, v in model.state_dict().items() if k != "proj_out.weight"}
    w.load_state_dict(state, strict=True)
    mask = torch.zeros(c.decoder_layers, c.decoder_attention_heads, dtype=torch.bool)
    for layer, head in heads:
        mask[layer, head] = True
    w.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    for module in (whisper.transcribe_module, whisper.decoding):
        module.get_tokenizer = get_tokenizer
    whisper.decoding.CHUNK_LENGTH = SECONDS
    whisper.transcribe_module.N_FRAMES, whisper.transcribe_module.N_SAMPLES = SECONDS * 100, SECONDS * 16000
    return w.eval()


# --- whisper.cpp's file ---------------------------------------------------------------------------------------------

def write_ggml(path, model):
    c = model.config
    mel = np.load(os.path.join(os.path.dirname(whisper.__file__), "assets", "mel_filters.npz"))["mel_80"].astype(np.float32)
    with open(path, "wb") as f:
        f.write(struct.pack("<12i", 0x67676d6c, c.vocab_size, N_CTX, c.d_model, c.encoder_attention_heads, c.encoder_layers, N_TEXT, c.d_model,
                            c.decoder_attention_heads, c.decoder_layers, c.num_mel_bins, 1))
        f.write(struct.pack("<2i", *mel.shape) + mel.tobytes())
        f.write(struct.pack("<i", len(WORDS)) + b"".join(struct.pack("<i", len(w)) + w for w in WORDS))
        for name, v in model.state_dict().items():
            if name == "proj_out.weight":
                continue
            name, v = openai_names(name).encode(), v.numpy()
            if b"conv" in name and name.endswith(b"bias"):
                v = v.reshape(-1, 1)
            half = v.ndim > 1 and not name.endswith((b"bias", b"positional_embedding"))
            f.write(struct.pack("<3i", v.ndim, len(name), int(half)) + struct.pack(f"<{v.ndim}i", *reversed(v.shape)) + name)
            f.write(v.astype(np.float16 if half else np.float32).tobytes())


# --- goldens --------------------------------------------------------------------------------------------------------

def sound(n, k):
    i = np.arange(n, dtype=np.int64)
    v = (i * i * (31 + k) + i * 17) % 20001 - 10000
    return np.fix(v * ((i // (700 + 90 * k)) % 7) / 7).astype(np.int16)


def features(n_mels):
    k, i = np.meshgrid(np.arange(n_mels), np.arange(2 * N_CTX), indexing="ij")
    return torch.tensor(((k * 37 + i * 11 + (k * i) % 13) % 41 - 20) / 20, dtype=torch.float32)


def nums(v):
    return [float(f"{x:.8g}") for x in np.asarray(v, dtype=np.float64).reshape(-1)]


TOKENS = [ID["<|startoftranscript|>"], ID["<|de|>"], ID["<|transcribe|>"], ID["<|0.00|>"], 64, 260, 261, 33, 258, ID["<|0.40|>"], ID["<|0.40|>"], 270]


def forward(model):
    with torch.no_grad():
        enc = model.model.encoder(features(model.config.num_mel_bins)[None]).last_hidden_state
        dec = model(encoder_outputs=(enc,), decoder_input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0]
    rows = [0, 1, 31, 32, 57, N_CTX - 1]
    return {"tokens": TOKENS, "rows": rows, "states": [nums(enc[0, r]) for r in rows], "at": [0, 3, len(TOKENS) - 1],
            "logits": [nums(dec[r]) for r in (0, 3, len(TOKENS) - 1)]}


def transcripts(w):
    cases, out = [
        dict(k=0, n=32000, options=dict(language="en")), dict(k=1, n=83000, options={}), dict(k=2, n=83000, options=dict(language="zh", task="translate")),
        dict(k=3, n=100000, options=dict(language="de", initial_prompt="the sound and (one) word")),
        dict(k=4, n=150000, options=dict(language="es", condition_on_previous_text=False, prefix="and the word")),
        dict(k=5, n=150000, options=dict(language="en", hallucination_silence_threshold=0.4)), dict(k=6, n=20000, options=dict(language="de")),
        dict(k=7, n=40000, options=dict(language="en", no_speech_threshold=0.001)), dict(k=8, n=500, options=dict(language="en")),
        dict(k=9, n=160000, options=dict(language="en")), dict(k=10, n=160000, options=dict(language="zh")),
        dict(k=11, n=100000, options=dict(language="en", beam_size=5)), dict(k=12, n=70000, options=dict(beam_size=2, initial_prompt="a word", task="translate")),
        dict(k=13, n=100000, options=dict(language="es", beam_size=8)), dict(k=14, n=100000, options=dict(language="de", word_timestamps=False)),
    ], []
    for c in cases:
        options = dict(dict(no_speech_threshold=0.6, word_timestamps=True), **c["options"])
        r = w.transcribe(sound(c["n"], c["k"]).astype(np.float32) / 32768, temperature=0, verbose=None, fp16=False, **options)
        for s in r["segments"]:
            for key in ("avg_logprob", "no_speech_prob", "start", "end", "compression_ratio"):
                s[key] = float(f"{s[key]:.8g}")
            s["words"] = [[x["word"], float(f"{x['start']:.8g}"), float(f"{x['end']:.8g}"), float(f"{x['probability']:.8g}")] for x in s.get("words", [])]
        out.append(dict(c, language=r["language"], text=r["text"], segments=r["segments"]))
    return out


def generated(model):
    """transformers' generate over one window, greedy, with times."""
    out = []
    for lang, task in (("en", "transcribe"), ("de", "translate"), ("zh", "transcribe")):
        g = model.generate(features(80)[None], return_timestamps=True, language=lang, task=task, do_sample=False, num_beams=1, max_new_tokens=N_TEXT // 2,
                           return_dict_in_generate=True, force_unique_generate_call=True)
        ids = g.sequences[0].tolist()
        start = [ID["<|startoftranscript|>"], ID[f"<|{lang}|>"], ID[f"<|{task}|>"]]
        out.append({"language": lang, "task": task, "tokens": ids[3:] if ids[:3] == start else ids})
    return out


def main():
    folder = os.path.join(HERE, "whisper", "multi")
    shutil.rmtree(os.path.join(HERE, "whisper"), ignore_errors=True)
    os.makedirs(folder)
    seed = int(os.environ.get("SEED", "7"))
    model, heads = random_model(seed), [[0, 1], [1, 0], [1, 1]]
    tok = whisper_tok = get_tokenizer(True)
    suppress = sorted({*whisper_tok.non_speech_tokens, tok.transcribe, tok.translate, tok.sot, tok.sot_prev, tok.sot_lm, tok.no_speech})
    model.generation_config = t.GenerationConfig(
        alignment_heads=heads, begin_suppress_tokens=[tok.encode(" ")[0], tok.eot], bos_token_id=tok.eot, decoder_start_token_id=tok.sot, eos_token_id=tok.eot,
        pad_token_id=tok.eot, is_multilingual=True, lang_to_id={f"<|{c}|>": ID[f"<|{c}|>"] for c in LANGS}, max_initial_timestamp_index=50, max_length=N_TEXT,
        no_timestamps_token_id=tok.no_timestamps, prev_sot_token_id=tok.sot_prev, suppress_tokens=suppress, return_timestamps=False,
        task_to_id={"transcribe": tok.transcribe, "translate": tok.translate})
    golden = {"multi": forward(model), "generated": generated(model)}
    model.half().save_pretrained(folder)
    model.float()
    tokenizer_json(os.path.join(folder, "tokenizer.json"))
    write_ggml(os.path.join(HERE, "whisper", "ggml-multi.bin"), model)
    golden["transcripts"] = transcripts(as_openai(model, heads))
    golden["suppressed"] = suppress

    odd = random_model(3, num_mel_bins=128, encoder_ffn_dim=52, decoder_ffn_dim=40, encoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=4)
    odd.generation_config = t.GenerationConfig()
    golden["odd"] = forward(odd)
    odd.half().save_pretrained(os.path.join(HERE, "whisper", "odd"))
    os.remove(os.path.join(HERE, "whisper", "odd", "generation_config.json"))
    tokenizer_json(os.path.join(HERE, "whisper", "odd", "tokenizer.json"))
    with open(os.path.join(HERE, "whisper-tiny.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"), ensure_ascii=False)
        f.write("\n")


whisper.transcribe_module = __import__("sys").modules["whisper.transcribe"]
if __name__ == "__main__":
    main()
