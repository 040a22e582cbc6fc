"""Writes seq2seq/*: a small BART and a small M2M100 with random weights, and seq2seq-tiny.json: what transformers computes with them in float32.

For each text the logits of three given tokens, and what generate() writes with the model's own settings: beams, forced first token, least length,
no repeated n-grams. The tokenizers are byte-level, with the marks that the real ones put around a text.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3
    VENV/bin/python tests/reference/seq2seq_tiny.py
"""
import json
import os
import shutil

import torch
import transformers as t
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["the quiet river", "A small house in the garden, with green windows!", "x", "one two three four five six seven eight nine ten " * 3, "Überall naïve Bücher"]
LANGS = ["__de__", "__en__", "__fr__"]


def tokenizer(languages):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(sorted(TEXTS), trainer)
    if languages:
        tok.add_special_tokens([AddedToken(x, special=True) for x in LANGS])
    single = "__en__ $A </s>" if languages else "<s> $A </s>"
    tok.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(x, tok.token_to_id(x)) for x in single.split() if x != "$A"])
    return t.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


COMMON = dict(d_model=32, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=56,
              max_position_embeddings=80, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2)
MODELS = {
    "bart": (t.BartConfig, t.BartForConditionalGeneration, dict(COMMON, activation_function="gelu"),
             dict(num_beams=4, length_penalty=2.0, min_length=6, max_length=24, no_repeat_ngram_size=3, early_stopping=True, forced_bos_token_id=0, forced_eos_token_id=2)),
    "m2m_100": (t.M2M100Config, t.M2M100ForConditionalGeneration, dict(COMMON, activation_function="relu", scale_embedding=True),
                dict(num_beams=5, max_length=30, early_stopping=True)),
}

goldens = {}
for name, (config, cls, options, generation) in MODELS.items():
    torch.manual_seed(len(name))
    m2m = name == "m2m_100"
    folder = os.path.join(HERE, "seq2seq", name)
    shutil.rmtree(folder, ignore_errors=True)
    tok = tokenizer(m2m)
    model = cls(config(vocab_size=len(tok) + 5, **options)).float().eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(1 + 0.2 * torch.randn_like(p) if "norm" in n and "weight" in n else 0.3 * torch.randn_like(p))
        if not m2m:
            model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias))
    model.generation_config = t.GenerationConfig(**generation, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    cases = []
    for text in TEXTS:
        enc = tok(text, return_tensors="pt")
        given = [2, tok.convert_tokens_to_ids("__fr__") if m2m else 0, 50, 60]
        with torch.no_grad():
            logits = model(input_ids=enc["input_ids"], decoder_input_ids=torch.tensor([given])).logits[0]
            out = model.generate(input_ids=enc["input_ids"], **({"forced_bos_token_id": given[1]} if m2m else {}))[0]
            greedy = model.generate(input_ids=enc["input_ids"], num_beams=1, early_stopping=False, **({"forced_bos_token_id": given[1]} if m2m else {}))[0]
        cases.append({"text": text, "ids": enc["input_ids"][0].tolist(), "given": given, "logits": [[float(f"{v:.9g}") for v in row] for row in logits[2:, :40].tolist()],
                      "out": out.tolist(), "greedy": greedy.tolist(), "written": tok.decode(out, skip_special_tokens=True)})
    goldens[name] = cases
with open(os.path.join(HERE, "seq2seq-tiny.json"), "w") as f:
    json.dump(goldens, f, separators=(",", ":"), ensure_ascii=False)
    f.write("\n")
