"""Writes encoders/*: small text encoders with random weights, and encoders-tiny.json: what transformers computes with them in float32.

Every feature of a config that the encoders read is on in one of them: segments, all activations, other epsilons, positions behind the padding,
heads of each family, single texts and pairs, texts that are cut. Biases and norms are random too, so that leaving one out shows.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3
    VENV/bin/python tests/reference/encoders_tiny.py
"""
import inspect
import json
import os
import shutil

import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = """the a of and in to is was it for on that by this with you not be are from at as all have an they which one we can more about if out so
river stone green quiet morning bread window small house letter summer garden water light road evening paper music train winter bird table
good bad great awful happy boring wonderful film story actor""".split()
TEXTS = [
    "the quiet river", "A small house in the garden, with green windows!", "this film is wonderful and great", "awful; boring story...",
    "Überall naïve Bücher", "川 and 石 in the morning", "x", "the " * 60 + "end", "bread water light road evening paper music train winter bird table " * 4,
]
PAIRS = [["green garden", "a quiet garden in the summer light"], ["the river " * 30, "a stone"], ["a", "music and bread " * 30], ["film", "story"],
         ["the river stone " * 12, "green window house " * 14]]


def words(folder):
    chars = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,;!川石"))
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + chars + ["##" + c for c in chars] + WORDS + ["##s", "##ing"]
    vocab = {w: i for i, w in enumerate(dict.fromkeys(vocab))}
    tok = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]")


def pieces(folder):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tok.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], unk_token="<unk>")
    tok.train_from_iterator(sorted(TEXTS + WORDS), trainer)
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return t.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
                                     pad_token="<pad>", mask_token="<mask>")


COMMON = dict(hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=70, max_position_embeddings=41)
MODELS = {
    "bert": (words, t.BertConfig, t.BertModel, dict(COMMON, hidden_act="gelu", layer_norm_eps=1e-12)),
    "bert-classifier": (words, t.BertConfig, t.BertForSequenceClassification,
                        dict(COMMON, hidden_act="gelu_new", layer_norm_eps=1e-3, id2label={0: "low", 1: "middle", 2: "high"})),
    "distilbert": (words, t.DistilBertConfig, t.DistilBertForSequenceClassification,
                   dict(dim=36, n_layers=2, n_heads=3, hidden_dim=70, max_position_embeddings=41, activation="gelu",
                        id2label={0: "NEGATIVE", 1: "POSITIVE"})),
    "xlm-roberta": (pieces, t.XLMRobertaConfig, t.XLMRobertaModel, dict(COMMON, hidden_act="gelu", layer_norm_eps=1e-5, type_vocab_size=1)),
    "xlm-roberta-reranker": (pieces, t.XLMRobertaConfig, t.XLMRobertaForSequenceClassification,
                             dict(COMMON, hidden_act="relu", layer_norm_eps=1e-5, type_vocab_size=1, id2label={0: "LABEL_0"})),
}


def randomize(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "LayerNorm.weight" in name or "layer_norm.weight" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            else:
                p.copy_(0.25 * torch.randn_like(p))


def rows(values):
    return [float(f"{v:.9g}") for v in values.tolist()]


def one(model, tok, n_ctx, *texts):
    enc = tok(*texts, truncation="longest_first", max_length=n_ctx, return_tensors="pt", return_token_type_ids=True)
    types = enc.pop("token_type_ids")[0]
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        enc["token_type_ids"] = types[None]
    with torch.no_grad():
        out = model(**enc, output_hidden_states=True)
    last = out.hidden_states[-1][0]
    r = {"texts": list(texts), "ids": enc["input_ids"][0].tolist(), "cls": rows(last[0]), "mean": rows(last.double().mean(0))}
    if "logits" in out:
        r["logits"] = rows(out.logits[0])
    return r


def main():
    goldens = {}
    for name, (make_tok, config, cls, options) in MODELS.items():
        torch.manual_seed(len(name))
        folder = os.path.join(HERE, "encoders", name)
        shutil.rmtree(folder, ignore_errors=True)
        tok = make_tok(folder)
        options = dict(options, vocab_size=len(tok), pad_token_id=tok.pad_token_id)
        model = cls(config(**options)).float().eval()
        randomize(model)
        n_ctx = 41 if make_tok is words else 41 - tok.pad_token_id - 1
        model.save_pretrained(folder)
        tok.save_pretrained(folder)
        pairs = PAIRS if "logits" in one(model, tok, n_ctx, "x") else []
        goldens[name] = {"n_ctx": n_ctx, "cases": [one(model, tok, n_ctx, x) for x in TEXTS] + [one(model, tok, n_ctx, *p) for p in pairs]}
    with open(os.path.join(HERE, "encoders-tiny.json"), "w") as f:
        json.dump(goldens, f, separators=(",", ":"), ensure_ascii=False)
        f.write("\n")


main()
