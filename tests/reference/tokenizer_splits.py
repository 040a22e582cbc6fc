"""Makes tokenizer-splits.json: how the splitters that GGUF files know by name cut some texts, by the Hugging Face library.

    python -m venv VENV && VENV/bin/pip install tokenizers==0.23.3
    VENV/bin/python tests/reference/tokenizer_splits.py tests/reference

The vocabularies of most of these models are too large to be test data; where they cut a text is all that their splitters say.
Patterns are written here as the models' own tokenizer.json has them, not as src/models/tokenizer_pre.c has them.
"""
import json
import os
import sys

from tokenizers import Regex, pre_tokenizers as P

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CAMEL = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
         r"%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
CJK = "[一-龥ࠀ-一가-퟿]+"
SPLITTERS = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3 % "{1,3}"],
    "qwen2": [LLAMA3 % ""],
    "starcoder": [r"\p{N}", GPT2],
    "smollm": [r"\p{N}", GPT2],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                    " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"],
    "gpt-4o": [CAMEL % (ENDINGS, ENDINGS, r"\p{N}{1,3}")],
    "tekken": [CAMEL % ("", "", r"\p{N}")],
    "bloom": [" ?[^(\\s|[.,!?…。，、।۔،])]+"],
}
TEXTS = [
    "", " ", "  ", "\n", "\n\n\t x", "a  b   c", "  two words  ", "\r\n\r\nline\r\n", "\t\tindented", "x = 12345678.90;", "1234 ½ ² Ⅳ ٣",
    "It's I'LL we'RE 'twas don't 'S 's", "camelCase HTTPServer McDonald's ÄÖÜß", "naïve e\u0301 \u0301x", "path/to//file\n\n/x", "!!!\n??? ...\r\n",
    "中文字符 日本語カナ 한국어 字1字", "Привет, мир! Как дела?", "हिन्दी में लिखा", "ภาษาไทย ไม่มีช่องว่าง", "العربية، و۱۲۳؟", "🚀 rocket 👩‍👩‍👧 family🏳️‍🌈",
    "a\u00a0b\u3000c\u2003d \u200b e", "(brackets) [x] {y} <|tag|>", "snake_case __init__ $var #tag @name", "C++ && a||b ->", "1,000,000.00$ 50% €3",
    "long    run of     spaces\n    and indent\n\t\tTabs  \n", "ǅungla ʰaspirated", "don'ſ K K's", "a\x0bb\x0cc\x85d", "\u2028line\u2029par",
]


def cut(patterns, text):
    steps = P.Sequence([P.Split(Regex(p), "isolated") for p in patterns])
    return [piece for piece, _ in steps.pre_tokenize_str(text)] if text else []


out = {name: [cut(patterns, t) for t in TEXTS] for name, patterns in SPLITTERS.items()}
for name, all_cuts in out.items():
    assert all("".join(c) == t for c, t in zip(all_cuts, TEXTS)), name
with open(os.path.join(sys.argv[1], "tokenizer-splits.json"), "w") as f:
    json.dump({"texts": TEXTS, "splits": out}, f, ensure_ascii=False, separators=(",", ":"), indent=None)
    f.write("\n")
