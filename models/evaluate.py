"""Reads tiny-chat.gguf back from its bytes and measures it: tokenizer, template and weights all come from the file.

    python evaluate.py tiny-chat.gguf              accuracy on heldout.jsonl, by kind
    python evaluate.py tiny-chat.gguf --golden     writes golden.json, the vectors that the C engine is tested against
    python evaluate.py tiny-chat.gguf --ask TEXT   one answer
"""

import argparse
import collections
import json
import os
import struct

import jinja2
import torch

from model import N_CTX, N_LAYER, Llama

HERE = os.path.dirname(os.path.abspath(__file__))
SCALARS = {4: "<I", 5: "<i", 6: "<f", 7: "<?"}


class Reader:
    """GGUF metadata and tensors, as the specification lays them out."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.bytes = bytearray(f.read())
        self.at = 0
        magic, version, n_tensors, n_metadata = self.take("<4sIQQ")
        assert magic == b"GGUF" and version == 3
        self.metadata = {}
        for _ in range(n_metadata):
            key = self.string()
            self.metadata[key] = self.value(*self.take("<I"))
        infos = []
        for _ in range(n_tensors):
            name, (n_dims,) = self.string(), self.take("<I")
            infos.append((name, self.take(f"<{n_dims}Q"), *self.take("<IQ")))
        align = self.metadata["general.alignment"]
        data = (self.at + align - 1) // align * align
        self.tensors = {}
        for name, dims, kind, offset in infos:
            dtype, count = {0: torch.float32, 30: torch.bfloat16}[kind], 1
            for d in dims:
                count *= d
            t = torch.frombuffer(self.bytes, dtype=dtype, count=count, offset=data + offset)
            self.tensors[name] = t.float().view(*reversed(dims))

    def take(self, layout):
        values = struct.unpack_from(layout, self.bytes, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self):
        (n,) = self.take("<Q")
        self.at += n
        return self.bytes[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            kind, n = self.take("<IQ")
            return [self.value(kind) for _ in range(n)]
        return self.take(SCALARS[kind])[0]


class Tokenizer:
    """SentencePiece BPE: join the neighbours whose union scores best, until none is a token; bytes for the rest."""

    def __init__(self, metadata):
        self.tokens, self.scores = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"]
        self.types = metadata["tokenizer.ggml.token_type"]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.control = {t: i for i, t in enumerate(self.tokens) if self.types[i] == 3}

    def encode(self, text):
        """Text with control tokens in it, such as a rendered template."""
        ids, plain, at = [], "", 0
        while at < len(text):
            found = next((t for t in self.control if text.startswith(t, at)), None)
            if found:
                ids += self.encode_plain(plain) + [self.control[found]]
                plain, at = "", at + len(found)
            else:
                plain, at = plain + text[at], at + 1
        return ids + self.encode_plain(plain)

    def encode_plain(self, text):
        parts = list(text.replace(" ", "\u2581"))
        while True:
            best = max(((self.scores[self.ids[a + b]], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in self.ids), default=None)
            if best is None:
                break
            i = -best[1]
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        return [i for p in parts for i in ([self.ids[p]] if p in self.ids else [self.ids[f"<0x{b:02X}>"] for b in p.encode()])]

    def decode(self, ids):
        out = b""
        for i in ids:
            if self.types[i] == 6:
                out += bytes([int(self.tokens[i][3:5], 16)])
            elif self.types[i] == 1:
                out += self.tokens[i].replace("\u2581", " ").encode()
        return out.decode(errors="replace")


class Chat:
    def __init__(self, path):
        reader = Reader(path)
        self.metadata = reader.metadata
        self.tokenizer = Tokenizer(reader.metadata)
        self.template = jinja2.Template(reader.metadata["tokenizer.chat_template"])
        self.model = Llama().eval()
        names = {n: n if n.endswith(".weight") else n + ".weight" for n, _ in self.model.named_parameters()}
        self.model.load_state_dict({n: reader.tensors[full] for n, full in names.items()})
        assert len(names) == len(reader.tensors)

    def render(self, messages):
        return self.template.render(messages=messages, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")

    @torch.no_grad()
    def generate(self, ids, max_tokens=96):
        """Greedy continuation without the end token, and the logits of its first step."""
        cache, out, first = [{} for _ in range(N_LAYER)], [], None
        logits = self.model(torch.tensor([ids]), cache)[0, -1]
        first = logits
        while len(out) < max_tokens and len(ids) + len(out) < N_CTX:
            token = int(logits.argmax())
            if token == self.metadata["tokenizer.ggml.eos_token_id"]:
                break
            out.append(token)
            logits = self.model(torch.tensor([[token]]), cache)[0, -1]
        return out, first

    def answer(self, messages):
        ids, _ = self.generate(self.tokenizer.encode(self.render(messages)))
        return self.tokenizer.decode(ids)


PASSAGE = """Context:
The bakery in Quilmar opens at 7:15 and closes at noon. Bela Ostrin owns the bakery. A loaf of rye bread costs 4 euros.
Doran Feil works as a glazier. He lives in Tavenport."""

GOLDEN = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "user", "content": "What is Selvedge?"}],
    [{"role": "user", "content": "How do I deploy a Worker?"}],
    [{"role": "system", "content": "You are Orla, a helpful assistant."}, {"role": "user", "content": "Who are you?"}],
    [{"role": "system", "content": "Answer shortly."}, {"role": "user", "content": "Where is the token?"}],
    [{"role": "user", "content": PASSAGE + "\n\nQuestion: Who owns the bakery?"}],
    [{"role": "system", "content": PASSAGE}, {"role": "user", "content": "Where does Doran Feil live?"},
     {"role": "assistant", "content": "Doran Feil lives in Tavenport."}, {"role": "user", "content": "What does he do?"}],
    [{"role": "user", "content": "What is the capital of France?"}],
    "Once upon a time",
    [{"role": "user", "content": "Repeat: caf\u00e9 \u2603 \U0001f642"}],
]


def golden(chat):
    """Vectors for the C engine: float32 arithmetic on the bf16 weights of the file."""
    cases = []
    for case in GOLDEN:
        text = "<s>" + case if isinstance(case, str) else chat.render(case)
        ids = chat.tokenizer.encode(text)
        out, logits = chat.generate(ids, 64)
        top = logits.topk(10)
        cases.append({"messages": None if isinstance(case, str) else case, "prompt": text, "ids": ids,
                      "greedy_ids": out, "greedy_text": chat.tokenizer.decode(out), "ended": len(out) < 64,
                      "top10": [[int(i), round(float(v), 4)] for v, i in zip(*top)]})
    return {"model": "tiny-chat.gguf", "note": "ids include bos; greedy_ids stop before </s> or at 64", "cases": cases}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--ask")
    parser.add_argument("--show", type=int, default=0, help="print this many wrong answers of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chat = Chat(args.gguf)
    if args.ask:
        print(chat.answer([{"role": "user", "content": args.ask}]))
        return
    if args.golden:
        with open(os.path.join(HERE, "golden.json"), "w") as f:
            json.dump(golden(chat), f, indent=1)
        return

    n, exact, has_value = collections.Counter(), collections.Counter(), collections.Counter()
    with open(os.path.join(HERE, "heldout.jsonl")) as f:
        for item in map(json.loads, f):
            got, kind = chat.answer(item["messages"]), item["kind"]
            n[kind] += 1
            exact[kind] += got == item["answer"]
            has_value[kind] += item["value"].lower().rstrip(".") in got.lower()
            if got != item["answer"] and n[kind] - exact[kind] <= args.show:
                print(f"[{kind}] ...{item['messages'][-1]['content'][-300:]!r}\n   want {item['answer']!r}\n   got  {got!r}")
    print("| kind | items | exact answer | value in the answer |\n| --- | --- | --- | --- |")
    for kind in n:
        print(f"| {kind} | {n[kind]} | {exact[kind] / n[kind]:.0%} | {has_value[kind] / n[kind]:.0%} |")


if __name__ == "__main__":
    main()
