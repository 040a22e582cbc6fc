"""Trains the tokenizer and the network on generated text, and writes tiny-chat.gguf.

    python train.py --out tiny-chat.gguf

Loss counts fully on what the assistant says and lightly elsewhere: the names in a passage are random, and
a small network must not spend itself on predicting them. Muon steps the matrices, AdamW the embedding and
norms; on this problem Muon learns to copy in far fewer tokens. Batches hold texts of similar length, two
batches of different length a step, because padding is the only waste that a CPU notices.
The text follows from --seed. How much of it is seen follows from the machine: the schedule is a function of
the share of --tokens or of --minutes that is used up, whichever is larger, so it always runs to its end. An interrupted run goes on from the file it wrote last: --resume.
"""

import argparse
import ctypes
import io
import itertools
import random
import tempfile
import time

import numpy as np
import sentencepiece
import torch
import torch.distributed as dist
import torch.nn.functional as F

import evaluate
import export
import generate
import topics
from model import N_CTX, N_VOCAB, Llama

BOS, EOS = 1, 2
ROLES = {"system": N_VOCAB - 3, "user": N_VOCAB - 2, "assistant": N_VOCAB - 1}
CONTEXT_WEIGHT = 0.1
BATCHES_A_STEP = 2


def train_tokenizer(seed):
    """Byte-fallback BPE on a sample of the text. The three role tokens come after it, as its last ids."""
    lex = generate.Lexicon(random.Random(seed))
    lines = [t for t in (s for topic in topics.TOPICS for s in topic[2:4])] * 20
    for i in range(9000):
        lines += [line for _, text in generate.example(lex, i / 9000) for line in text.split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=N_VOCAB - len(ROLES), model_type="bpe",
        byte_fallback=True, split_digits=True, character_coverage=0.9999, add_dummy_prefix=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity", num_threads=1, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def encode(sp, messages):
    """Token ids and loss weights of a conversation; the layout is that of the chat template."""
    ids, weights = [BOS], [0.0]
    for role, text in messages:
        w = CONTEXT_WEIGHT if role in ("system", "user") else 1.0
        body = sp.encode(text) + [EOS]
        if role != "raw":
            ids.append(ROLES[role])
            weights.append(CONTEXT_WEIGHT)
        ids += body
        weights += [w] * len(body)
    return ids[:N_CTX], weights[:N_CTX]


def micro_batches(sp, seed, progress, batch_tokens):
    """Yields (ids, weights) arrays of about `batch_tokens` tokens, for ever; `progress()` is the share of the run that is over."""
    lex, shuffle = generate.Lexicon(random.Random(seed + 1)), random.Random(seed + 2)
    while True:
        pool = [encode(sp, generate.example(lex, progress())) for _ in range(600)]
        pool.sort(key=lambda p: len(p[0]))
        batches, batch = [], []
        for item in pool:
            if batch and (len(batch) + 1) * len(item[0]) > batch_tokens:
                batches.append(batch)
                batch = []
            batch.append(item)
        batches.append(batch)
        shuffle.shuffle(batches)
        for batch in batches:
            n = max(len(ids) for ids, _ in batch)
            ids, weights = np.zeros((len(batch), n), np.int64), np.zeros((len(batch), n), np.float32)
            for i, (a, w) in enumerate(batch):
                ids[i, :len(a)], weights[i, :len(a)] = a, w
            yield ids, weights


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix by Newton-Schulz (Jordan et al. 2024)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.02):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                g = p.grad.lerp(m, group["momentum"])
                x = g.bfloat16() if g.shape[0] <= g.shape[1] else g.bfloat16().T
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
                x = x if g.shape[0] <= g.shape[1] else x.T
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x.float(), alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def unflat(vector, tensors):
    for t, part in zip(tensors, vector.split([t.numel() for t in tensors])):
        t.copy_(part.view_as(t))


def train(rank, args, meeting):
    """One of `args.processes` processes. All hold the same parameters; each adds its share of the gradient and steps its share of
    the matrices. They meet twice a step: threads, which meet in every operation, stand still on a machine with other work."""
    # Freed buffers stay with the process; giving each back to the kernel costs a third of the time in page faults.
    for option, size in ((-1, 1 << 30), (-2, 1 << 26), (-3, 1 << 25)):  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD
        ctypes.CDLL(None).mallopt(option, size)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    world = args.processes
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=world)

    sp = train_tokenizer(args.seed)
    model = Llama()
    if args.resume:
        model = evaluate.Chat(args.resume).model.train()
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embd" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() == 1 or "embd" in name]
    optimizers = [Muon(matrices[rank::world], lr=args.lr), torch.optim.AdamW(others, lr=0.15 * args.lr, betas=(0.9, 0.97), weight_decay=0.0)]
    base = [args.lr, 0.15 * args.lr]
    say = print if rank == 0 else lambda *_, **__: None
    say(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)

    start, n_seen, n_step, running, last_save, progress = time.time(), 0, 0, None, time.time(), args.done
    stream = micro_batches(sp, args.seed + 100 * rank + int(1000 * args.done), lambda: progress, 2048)
    while progress < 1:
        total, n_new = 0.0, 0
        for ids, weights in itertools.islice(stream, BATCHES_A_STEP // world):
            ids, w = torch.from_numpy(ids), torch.from_numpy(weights)[:, 1:].flatten()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            (loss @ w / w.sum() / BATCHES_A_STEP).backward()
            answers = w == 1
            total += (loss[answers].mean().item() if answers.any() else 0) / BATCHES_A_STEP
            n_new += int((w > 0).sum())
        # Short warm-up, flat to 40 percent, then straight down.
        scale = min(1.0, (n_step + 1) / 50, max(0.02, (1 - progress) / 0.6))
        gradients = [p.grad for p in model.parameters()]
        elapsed = time.time() - start if rank == 0 else 0.0
        shared = flat([*gradients, torch.tensor([n_new, total, elapsed])])
        dist.all_reduce(shared)
        n_new, total, elapsed = shared[-3:].tolist()
        unflat(shared[:-3], gradients)
        for optimizer, lr in zip(optimizers, base):
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
            optimizer.step()
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for owner in range(world):
                mine = flat(matrices[owner::world])
                dist.broadcast(mine, owner)
                unflat(mine, matrices[owner::world])
        n_step, n_seen = n_step + 1, n_seen + int(n_new)
        progress = min(1.0, args.done + max(n_seen / args.tokens, elapsed / 60 / args.minutes))
        running = total if running is None else 0.98 * running + 0.02 * total
        if n_step % 50 == 0:
            say(f"step {n_step} tokens {n_seen} loss {running:.4f} wall {elapsed:.0f}s cpu {time.process_time():.0f}s {n_seen / elapsed:.0f} tok/s", flush=True)
        if rank == 0 and time.time() - last_save > 180:
            export.write(args.out, model, sp)
            last_save = time.time()
    if rank == 0:
        export.write(args.out, model, sp)
    say(f"done: {n_step} steps, {n_seen} tokens, wall {time.time() - start:.0f}s, cpu {time.process_time():.0f}s in this process")
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="tiny-chat.gguf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=float, default=22e6)
    parser.add_argument("--minutes", type=float, default=42, help="ends the run if the tokens do not")
    parser.add_argument("--resume", help="a file that an interrupted run wrote")
    parser.add_argument("--done", type=float, default=0, help="the share of the run that lies behind --resume")
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--lr", type=float, default=0.02)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (args, folder + "/meeting"), nprocs=args.processes)


if __name__ == "__main__":
    main()
