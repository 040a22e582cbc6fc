// engine.mjs - `make bench-engine`: the inference engine beside llama.cpp and ik_llama.cpp, and beside what the machine can do at most
//
//   engine-speed     prefill and decode of one text; every weight type, one thread and all
//   engine-batch     many texts at once, and a long prompt that comes amid them
//   engine-serve     streaming clients over HTTP, a shared system prompt, through a Worker
//   engine-start     from the start of the process to the first token, and its memory
//   engine-accuracy  perplexity and KL divergence against the float32 weights
//
// The peers are programs that whoever runs this has built: SELVEDGE_BENCH_LLAMACPP and SELVEDGE_BENCH_IK are the folders with llama-bench,
// llama-batched-bench, llama-server, llama-quantize and llama-perplexity. Without them our own lines and the limits are printed.
// Models are random weights in the shapes of Llama-3.2-1B and SmolLM2-135M, made once into build/models by random_model.c. BENCH_QUICK=1 takes the
// 135M alone and short texts; BENCH_TOKENS=N the length of the texts of engine-batch (256); BENCH_ONLY=REGEXP only the cases whose name matches; BENCH_ROUNDS=N how often each is measured, in turns.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { command, root } from '../tests/harness.mjs';
import { serve, start, tiny_chat } from './engine_serve.mjs';
import { ROUNDS, make, median, report } from './report.mjs';

const QUICK = process.env.BENCH_QUICK === '1', ONLY = new RegExp(process.env.BENCH_ONLY ?? '');
const THREADS = [...new Set([1, os.cpus().length])];
const LLAMACPP = process.env.SELVEDGE_BENCH_LLAMACPP, IK = process.env.SELVEDGE_BENCH_IK, LLAMACPP_NAME = 'llama.cpp', IK_NAME = 'ik_llama.cpp';
export const TYPES = ['q8_0', 'q4_0', 'q4_k_m', 'bf16'];
export const SHAPES = { '135m': { name: 'smollm-135m', weights: 106.2e6, head: 28.3e6 }, ...(QUICK ? {} : { '1b': { name: 'llama-1b', weights: 973.1e6, head: 262.7e6 } }) };
const models = path.join(root, 'build/models');

async function run(argv, limit_ms = 1_800_000) {
  const r = await command(argv, { limit_ms });
  if (r.code !== 0) throw new Error(`${argv.join(' ')}\n${r.all.slice(-2000)}`);
  return r.out;
}
const lines = (text) => text.split('\n').filter((l) => l.startsWith('{')).map((l) => JSON.parse(l));

export async function model(shape, type) {
  const file = path.join(models, `${SHAPES[shape].name}-${type}.gguf`);
  if (!fs.existsSync(file)) {
    fs.mkdirSync(models, { recursive: true });
    await run([path.join(root, 'build/bench/random_model'), SHAPES[shape].name, type, `${file}.part`]);
    fs.renameSync(`${file}.part`, file);
  }
  return file;
}

// ---- limits ----

const limits = {};
async function measure_limits() {
  for (const threads of THREADS)
    for (let i = 0; i < 2; i++) {
      const [l] = lines(await run([path.join(root, 'build/bench/limits'), String(threads)]));
      limits[threads] ??= l;
      for (const [k, v] of Object.entries(l)) limits[threads][k] = Math.max(limits[threads][k] ?? 0, v ?? 0) || null;
    }
  for (const t of THREADS) {
    report(`limit/memory read/t${t}`, 'GB/s', limits[t].read_gb_s);
    report(`limit/float32 multiply-add/t${t}`, 'GFLOP/s', limits[t].fma_gflop_s);
    if (limits[t].vnni_gop_s) report(`limit/int8 VNNI/t${t}`, 'GOP/s', limits[t].vnni_gop_s);
    if (limits[t].bf16_gflop_s) report(`limit/bf16 dot product/t${t}`, 'GFLOP/s', limits[t].bf16_gflop_s);
  }
}

// Tokens a second that arithmetic allows: the head is computed for `heads` of a prompt's tokens.
function compute_limit(shape, type, threads, heads) {
  const l = limits[threads], s = SHAPES[shape], ops = 2 * (s.weights + heads * s.head);
  const rate = type === 'bf16' ? Math.max(l.fma_gflop_s, l.bf16_gflop_s ?? 0) : Math.max(l.fma_gflop_s, l.vnni_gop_s ?? 0);
  return rate * 1e9 / ops;
}
// Steps a second that reading the weights allows.
const read_limit = (file, threads) => limits[threads].read_gb_s * 1e9 / fs.statSync(file).size;

// ---- one text ----

const SPEED = QUICK ? { prompts: [128], n: 16 } : { prompts: [128, 512], n: 32 };

async function our_speed(file, threads) {
  const cases = [...SPEED.prompts.map((n) => [`prefill-${n}`, `prefill:${n}`]), ['decode', `decode:${SPEED.n}@0`], ['decode@128', `decode:${SPEED.n}@128`]];
  const out = lines(await run([path.join(root, 'build/bench/engine_bench'), file, String(threads), ...cases.map((c) => c[1])]));
  return Object.fromEntries(cases.map(([name, c]) => [name, out.find((x) => x.case === c).tokens_s]));
}

async function llamacpp_speed(file, threads) {
  const out = lines(await run([path.join(LLAMACPP, 'llama-bench'), '-m', file, '-t', String(threads), '-r', '1', '-o', 'jsonl', '-p', SPEED.prompts.join(), '-n', String(SPEED.n)]))
    .concat(lines(await run([path.join(LLAMACPP, 'llama-bench'), '-m', file, '-t', String(threads), '-r', '1', '-o', 'jsonl', '-p', '0', '-n', String(SPEED.n), '-d', '128'])));
  return Object.fromEntries(out.map((x) => [x.n_prompt ? `prefill-${x.n_prompt}` : x.n_depth ? `decode@${x.n_depth}` : 'decode', x.avg_ts]));
}

// ik_llama.cpp repacks weights on request: the better of both counts. Its depth is a prompt before, timed together, so that part is taken off.
async function ik_speed(file, threads) {
  const best = {};
  for (const repack of ['0', '1']) {
    const out = JSON.parse(await run([path.join(IK, 'llama-bench'), '-m', file, '-t', String(threads), '-r', '1', '-o', 'json', '-rtr', repack, '-p', SPEED.prompts.join(),
      '-n', String(SPEED.n), '-gp', `128,${SPEED.n}`]));
    for (const x of out) {
      const name = x.test?.startsWith('tg') && x.n_prompt ? 'decode@128' : x.n_prompt ? `prefill-${x.n_prompt}` : 'decode';
      best[name] = Math.max(best[name] ?? 0, x.avg_ts);
    }
  }
  return best;
}

// Ours, theirs, ours, theirs, ...: the rounds of each side, by case.
async function in_turns(sides, rounds = ROUNDS) {
  const all = {};
  for (let i = 0; i < rounds; i++)
    for (const [who, f] of Object.entries(sides))
      for (const [name, v] of Object.entries(await f())) ((all[name] ??= {})[who] ??= []).push(v);
  return all;
}

const speed_goal = (name, type) => (name.startsWith('prefill') ? 'goal: 1.5 x' : name === 'decode' ? `goal: ${type === 'q8_0' || type === 'bf16' ? 0.9 : 0.8} of limit` : '');

async function speed() {
  for (const shape of Object.keys(SHAPES))
    for (const type of TYPES)
      for (const threads of THREADS) {
        const at = `${shape}/${type}/t${threads}`;
        if (!ONLY.test(at)) continue;
        const file = await model(shape, type);
        const sides = { ours: () => our_speed(file, threads), ...(LLAMACPP ? { [LLAMACPP_NAME]: () => llamacpp_speed(file, threads) } : {}),
          ...(IK ? { [IK_NAME]: () => ik_speed(file, threads) } : {}) };
        for (const [name, { ours, ...peers }] of Object.entries(await in_turns(sides))) {
          const limit = name.startsWith('prefill') ? compute_limit(shape, type, threads, 0) : read_limit(file, threads);
          report(`${name}/${at}`, 'tokens/s', ours ?? null, { peers, limit, goal: speed_goal(name, type), note: ours ? `${(median(ours) / limit).toFixed(2)} of limit` : '' });
        }
      }
}

// ---- many texts ----

const BATCH = QUICK ? { streams: [1, 8], n: 32 } : { streams: [1, 2, 4, 8, 16, 32], n: Number(process.env.BENCH_TOKENS ?? 256) };
const STALL = QUICK ? 'stall:128x4@1024' : 'stall:512x4@4096';

async function our_batch(file, threads) {
  const bench = path.join(root, 'build/bench/engine_bench');
  const out = lines(await run([bench, file, String(threads), ...BATCH.streams.map((m) => `batch:${BATCH.n}x${m}@128`), ...BATCH.streams.map((m) => `prefill:128x${m}`)]));
  return Object.fromEntries(BATCH.streams.flatMap((m) => [[`batch-${m}`, out.find((x) => x.case === `batch:${BATCH.n}x${m}@128`).tokens_s],
    [`prefill-128x${m}`, out.find((x) => x.case === `prefill:128x${m}`).tokens_s]]));
}

async function peer_batch(dir, file, threads, more) {
  const out = lines(await run([path.join(dir, 'llama-batched-bench'), '-m', file, '-t', String(threads), '-c', String(Math.max(...BATCH.streams) * (128 + BATCH.n)),
    '-npp', '128', '-ntg', String(BATCH.n), '-npl', BATCH.streams.join(), '--output-format', 'jsonl', ...more]));
  return Object.fromEntries(out.flatMap((x) => [[`batch-${x.pl}`, x.speed_tg], [`prefill-128x${x.pl}`, x.speed_pp]]));
}

async function batch() {
  const threads = Math.max(...THREADS);
  for (const shape of Object.keys(SHAPES))
    for (const type of QUICK ? ['q8_0'] : ['q8_0', 'q4_k_m']) {
      const at = `${shape}/${type}/t${threads}`;
      if (!ONLY.test(at)) continue;
      const file = await model(shape, type);
      const sides = { ours: () => our_batch(file, threads), ...(LLAMACPP ? { [LLAMACPP_NAME]: () => peer_batch(LLAMACPP, file, threads, ['-b', '1024']) } : {}),
        ...(IK ? { [IK_NAME]: () => peer_batch(IK, file, threads, ['-rtr']) } : {}) };
      const all = await in_turns(sides, Math.min(ROUNDS, 3));
      const one = (name) => all[name].ours && median(all[name].ours);
      for (const [name, { ours, ...peers }] of Object.entries(all)) {
        const m = Number(/\d+$/.exec(name)[0]);
        const limit = name.startsWith('batch') ? Math.min(read_limit(file, threads) * m, compute_limit(shape, type, threads, 1)) : compute_limit(shape, type, threads, 0);
        const note = name.startsWith('batch') ? `${(one(name) / one('batch-1')).toFixed(1)} x one text` : `${(one(name) / one('prefill-128x1')).toFixed(2)} x one prompt`;
        report(`${name}/${at}`, 'tokens/s', ours ?? null, { peers, limit, note });
      }
      const stalls = [];
      for (let i = 0; i < Math.min(ROUNDS, 3); i++) stalls.push(lines(await run([path.join(root, 'build/bench/engine_bench'), file, String(threads), STALL])).find((x) => x.case === STALL));
      const note = `4 texts while a prompt of ${STALL.split('@')[1]} is read`;
      report(`between tokens p50/${at}`, 'ms', stalls.map((x) => x.gap_p50_ms), { note });
      report(`between tokens, longest/${at}`, 'ms', stalls.map((x) => x.gap_max_ms), { note });
      report(`first token of that prompt/${at}`, 'ms', stalls.map((x) => x.first_token_ms), {});
    }
}

// ---- HTTP ----

async function serving() {
  const peer = { dir: LLAMACPP, peer: LLAMACPP_NAME, quick: QUICK };
  await tiny_chat();
  if (ONLY.test('135m/q8_0')) await serve(await model('135m', 'q8_0'), '135m/q8_0', peer);
}

async function starts() {
  const peer = { dir: LLAMACPP, peer: LLAMACPP_NAME, quick: QUICK };
  for (const shape of Object.keys(SHAPES))
    if (ONLY.test(`${shape}/q8_0`)) await start(await model(shape, 'q8_0'), `${shape}/q8_0`, peer);
}

// ---- accuracy ----

// tiny-chat's weights in each type, made by the peer's llama-quantize; without it as they are.
async function tiny_chat_as(type) {
  const from = path.join(root, 'models/tiny-chat.gguf'), to = path.join(models, `tiny-chat-${type}.gguf`);
  if (type === 'bf16') return from;
  fs.mkdirSync(models, { recursive: true });
  await run([path.join(LLAMACPP, 'llama-quantize'), from, to, type.toUpperCase()]);
  return to;
}

async function llamacpp_accuracy(file, base) {
  const r = await command([path.join(LLAMACPP, 'llama-perplexity'), '-m', file, '-c', '256', '-t', String(Math.max(...THREADS)), '--kl-divergence', '--kl-divergence-base', base], { limit_ms: 600_000 });
  if (r.code !== 0) throw new Error(r.all.slice(-2000));
  const number = (name) => Number(new RegExp(`${name} *: +(-?[0-9.]+)`).exec(r.all)?.[1]);
  return { ppl: number('Mean PPL\\(Q\\)'), kl: number('Mean +KLD'), same_top: number('Same top p') / 100 };
}

async function accuracy() {
  const bench = path.join(root, 'build/bench/engine_accuracy'), base = path.join(models, 'tiny-chat.base');
  fs.mkdirSync(models, { recursive: true });
  await run([bench, 'base', LLAMACPP ? await tiny_chat_as('f32') : await tiny_chat_as('bf16'), path.join(root, 'models/heldout.jsonl'), base]);
  for (const type of LLAMACPP ? ['f32', 'f16', 'bf16', 'q8_0', 'q6_k', 'q5_k_m', 'q4_k_m', 'q4_0'] : ['bf16']) {
    if (!ONLY.test(type)) continue;
    const file = await tiny_chat_as(type), theirs = LLAMACPP ? await llamacpp_accuracy(file, base) : null;
    const same = new Map(); // kernels that give the same numbers share a line
    for (const kernels of ['portable', 'avx2', 'avxvnni', 'avx512', 'avx512vnni']) {
      const text = await run([bench, 'compare', base, file, kernels]);
      if (lines(text)[0].n) same.set(text, [...(same.get(text) ?? []), kernels]); // else it is not on this CPU
    }
    for (const [text, kernels] of same) {
      const [ours] = lines(text);
      report(`KL divergence/tiny-chat/${type}/${same.size === 1 ? 'all kernels' : kernels.join('+')}`, 'nats', Math.max(0, ours.kl), { peers: theirs && { [LLAMACPP_NAME]: theirs.kl }, lower: true,
        goal: 'goal: ratio 1 at most', note: `perplexity ${ours.ppl.toFixed(4)}${theirs ? `, theirs ${theirs.ppl.toFixed(4)}` : ''}; likeliest token as in float32 ${(ours.same_top * 100).toFixed(2)} %${theirs ? `, theirs ${(theirs.same_top * 100).toFixed(2)}` : ''}` });
    }
  }
}

export async function engine_cases(wanted) {
  await make('engine_bench', 'engine_accuracy', 'random_model', 'limits');
  if (wanted('speed') || wanted('batch')) await measure_limits();
  if (wanted('speed')) await speed();
  if (wanted('batch')) await batch();
  if (wanted('serve')) await serving();
  if (wanted('start')) await starts();
  if (wanted('accuracy')) await accuracy();
}
