// engine_serve.mjs - the engine behind HTTP: streaming clients, a system prompt that all share, starts and memory; beside llama-server
//
// Prompts are letters, each a token of the models of random_model.c, no two prompts alike. Both servers run at once and are asked in turns;
// the one that is not asked sleeps. Every request has a connection of its own, since llama-server closes it after a stream.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Platform, request, root, sleep, temp_dir, until, write_files } from '../tests/harness.mjs';
import { ROUNDS, median, quantile, report } from './report.mjs';

const THREADS = String(os.cpus().length);

let seed = 12345;
const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff) / 0x80000000;
const letters = (n) => Array.from({ length: n }, (_, i) => (i % 6 === 5 && i < n - 1 ? ' ' : String.fromCharCode(97 + Math.floor(random() * 26)))).join('');

// ---- a request, timed ----

// POSTs `body` and reads server-sent events: ms to the first one with text, between those, and to the end.
function stream({ port, host, target, headers, body }) {
  const start = performance.now(), at = [];
  return new Promise((done, fail) => {
    const text = JSON.stringify(body);
    const r = http.request({ host: '127.0.0.1', port, method: 'POST', path: target, agent: false,
      headers: { host: host ?? `localhost:${port}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers } }, (res) => {
      let rest = '', head = '', n_tokens = 0, n_prompt = 0, n_cached = 0;
      res.setEncoding('utf8');
      res.on('data', (d) => {
        const now = performance.now();
        rest += d;
        head ||= d;
        for (let end; (end = rest.indexOf('\n\n')) >= 0; rest = rest.slice(end + 2)) {
          const event = rest.slice(0, end);
          if (!event.startsWith('data: {')) continue;
          const e = JSON.parse(event.slice(6));
          n_tokens = e.usage?.completion_tokens ?? e.tokens_predicted ?? n_tokens;
          n_prompt = e.usage?.prompt_tokens ?? n_prompt;
          n_cached = e.usage?.prompt_tokens_details?.cached_tokens ?? n_cached;
          if (e.response || (e.content !== undefined && !e.stop)) at.push(now);
        }
      });
      res.on('error', fail);
      res.on('end', () => (res.statusCode === 200 && at.length ? done({ first: at[0] - start, gaps: at.slice(1).map((t, i) => t - at[i]), total: performance.now() - start, n_tokens, n_prompt, n_cached })
        : fail(new Error(`${target}: ${res.statusCode} ${head.slice(0, 300)}`))));
    });
    r.on('error', fail);
    r.end(text);
  });
}

// n_clients ask one request after another: tokens a second of all, ms to the first token, ms between tokens.
async function load(ask, n_clients, n_each) {
  const start = performance.now(), all = [];
  await Promise.all(Array.from({ length: n_clients }, async () => { for (let i = 0; i < n_each; i++) all.push(await ask(letters(128), 64)); }));
  const s = (performance.now() - start) / 1000;
  return { rate: all.reduce((n, x) => n + x.n_tokens, 0) / s, first: all.map((x) => x.first), gaps: all.flatMap((x) => x.gaps) };
}

// ---- the servers ----

const free_port = () => new Promise((done) => { const s = net.createServer().listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => done(port)); }); });

const worker = `export default { async fetch(request, env) {
  const input = await request.json();
  return new Response(await env.AI.run(input.model, input.input), { headers: { "content-type": "text/event-stream" } });
} };`;

const MODEL = '@cf/bench/model';
async function our_server(file) {
  const p = await Platform.start({ args: ['--threads', THREADS] });
  const r = await p.cli(['models', 'import', file, '--as', MODEL]);
  if (r.code !== 0) throw new Error(r.all);
  const dir = write_files(path.join(p.data, 'bench-worker'), { 'wrangler.jsonc': { name: 'bench', main: 'index.js', compatibility_date: '2026-04-01', ai: { binding: 'AI' } }, 'index.js': worker });
  const deployed = await p.wrangler(dir, ['deploy']);
  if (deployed.code !== 0) throw new Error(deployed.all);
  const input = (prompt, max_tokens) => ({ prompt, raw: true, stream: true, temperature: 0, max_tokens });
  return {
    p,
    ask: (prompt, n) => stream({ port: p.port, target: `/client/v4/accounts/${p.account}/ai/run/${MODEL}`, headers: { authorization: `Bearer ${p.token}` }, body: input(prompt, n) }),
    ask_worker: (prompt, n) => stream({ port: p.port, host: `bench.localhost:${p.port}`, target: '/', body: { model: MODEL, input: input(prompt, n) } }),
    stop: () => p.stop(),
  };
}

async function llama_server(dir, file, more) {
  const port = await free_port();
  const child = spawn(path.join(dir, 'llama-server'), ['-m', file, '--host', '127.0.0.1', '--port', String(port), '-t', THREADS, '--no-webui', ...more], { stdio: 'ignore' });
  const ended = new Promise((done) => child.on('exit', done));
  await until('llama-server', async () => {
    if (child.exitCode !== null) throw new Error(`llama-server ended with ${child.exitCode}`);
    const r = await request({ port, path: '/health' }).catch(() => null);
    r?.stream.resume();
    return r?.status === 200;
  }, 60_000, 5);
  return {
    child,
    ask: (prompt, n) => stream({ port, target: '/completion', body: { prompt, n_predict: n, stream: true, temperature: 0, ignore_eos: true } }),
    stop: async () => { child.kill(); await ended; },
  };
}

// ---- cases ----

export async function serve(file, at, { dir, peer, quick }) {
  const ours = await our_server(file), theirs = dir ? await llama_server(dir, file, ['-np', '16', '-c', '4096', '-b', '1024']) : null;
  const sides = { ours: ours.ask, worker: ours.ask_worker, ...(theirs ? { theirs: theirs.ask } : {}) };
  try {
    for (const ask of Object.values(sides)) await load(ask, 4, 1);
    for (const [n, each] of quick ? [[1, 2], [16, 1]] : [[1, 6], [4, 4], [16, 3]]) {
      const got = Object.fromEntries(Object.keys(sides).map((who) => [who, []]));
      for (let i = 0; i < (quick ? 1 : Math.min(ROUNDS, 3)); i++)
        for (const [who, ask] of Object.entries(sides)) got[who].push(await load(ask, n, each));
      const line = (name, unit, of, goal, lower) => {
        const peers = theirs ? { [peer]: got.theirs.map(of) } : null;
        report(`serve/${name}/${n} client${n > 1 ? 's' : ''}/${at}`, unit, got.ours.map(of), { peers, lower, goal, note: `through a Worker ${median(got.worker.map(of)).toPrecision(3)}` });
      };
      line('tokens', 'tokens/s', (x) => x.rate, n === 16 ? 'goal: 2.5 x' : '', false);
      line('first token p50', 'ms', (x) => median(x.first), n === 16 ? 'goal: 0.33' : '', true);
      line('first token p99', 'ms', (x) => quantile(x.first, 0.99), n === 16 ? 'goal: 0.33' : '', true);
      line('between tokens p50', 'ms', (x) => median(x.gaps), '', true);
      line('between tokens p99', 'ms', (x) => quantile(x.gaps, 0.99), '', true);
    }
    await shared_prompt(ours, at);
  } finally {
    await theirs?.stop();
    await ours.stop();
  }
}

// 32 requests that begin with the same 1,000 tokens: one after the other, each with a token of its own, beside prompts of that token alone;
// then 32 at once.
async function shared_prompt(ours, at) {
  const system = letters(1000), own = () => String.fromCharCode(97 + Math.floor(random() * 26)), one = [], later = [];
  const first = await ours.ask(system + own(), 32);
  for (let i = 1; i < 32; i++) {
    one.push((await ours.ask(own(), 32)).first);
    later.push((await ours.ask(system + own(), 32)).first);
  }
  report(`shared prompt of 1,000 tokens/first request/${at}`, 'ms', first.first);
  report(`shared prompt of 1,000 tokens/31 later/${at}`, 'ms', later, { peers: { 'prompt of 1 token': one }, lower: true, goal: 'goal: ratio 1.2 at most' });
  const others = letters(1000), begin = performance.now();
  const all = await Promise.all(Array.from({ length: 32 }, (_, i) => ours.ask(others + letters(2 + i % 3), 32)));
  const cached = all.reduce((n, x) => n + x.n_cached, 0), read = all.reduce((n, x) => n + x.n_prompt, 0);
  report(`shared prompt of 1,000 tokens/32 at once, all/${at}`, 'ms', performance.now() - begin, { note: `${read - cached} of ${read} prompt tokens computed` });
}

// ---- starts ----

const rss = (pid, what) => Number(new RegExp(`${what}:\\s+(\\d+) kB`).exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;

// From the start of `selvedge serve` to the first token, with the weights in the page cache; then with the engine killed.
export async function start(file, at, { dir, peer, quick }) {
  const data = temp_dir('start'), rounds = quick ? 1 : ROUNDS, cold = [], restart = [], memory = [], theirs = [], their_memory = [];
  const size = fs.statSync(file).size;
  try {
    let p = await Platform.start({ data });
    const r = await p.cli(['models', 'import', file, '--as', MODEL], { limit_ms: 600_000 });
    if (r.code !== 0) throw new Error(r.all);
    const ask = (port) => stream({ port, target: `/client/v4/accounts/${p.account}/ai/run/${MODEL}`, headers: { authorization: `Bearer ${p.token}` },
      body: { prompt: letters(8), raw: true, stream: true, temperature: 0, max_tokens: 2 } });
    const first = async (port, begin) => {
      for (;; await sleep(2)) {
        const a = await ask(port).catch(() => null);
        if (a) return performance.now() - a.total + a.first - begin;
      }
    };
    await ask(p.port); // what is laid out once, is now
    for (let i = 0; i < rounds; i++) {
      const { port } = p;
      await p.stop();
      const begin = performance.now();
      p.child = spawn(p.exe, ['serve', '--data', data, '--listen', `127.0.0.1:${port}`], { cwd: root, stdio: 'ignore' });
      p.exit = undefined;
      p.ended = new Promise((done) => p.child.on('exit', (code, signal) => { p.exit = { code, signal }; done(); }));
      cold.push(await first(port, begin));
      const [engine] = p.processes('engine');
      memory.push(rss(engine.pid, 'VmHWM') / size);
      process.kill(engine.pid, 'SIGKILL');
      restart.push(await first(port, performance.now()));
      if (dir) {
        const t0 = performance.now();
        const s = await llama_server(dir, file, ['-np', '1', '-c', '1024']);
        const a = await s.ask(letters(8), 2);
        theirs.push(performance.now() - a.total + a.first - t0);
        their_memory.push(rss(s.child.pid, 'VmHWM') / size);
        await s.stop();
      }
    }
    await p.stop();
    report(`start of serve to first token/${at}`, 'ms', cold, { peers: dir ? { [peer]: theirs } : null, lower: true, goal: 'goal: 300 ms' });
    report(`killed engine to first token/${at}`, 'ms', restart, { goal: 'goal: 300 ms' });
    report(`peak memory of the engine/${at}`, 'x file', memory, { peers: dir ? { [peer]: their_memory } : null, lower: true, goal: 'goal: 1.15 and the KV cache', note: `file ${(size / 1e6).toFixed(0)} MB` });
  } finally { fs.rmSync(data, { recursive: true, force: true }); }
}

// ---- the model that comes with the tree ----

export async function tiny_chat() {
  const p = await Platform.start();
  const ask = (prompt, max_tokens) => stream({ port: p.port, target: `/client/v4/accounts/${p.account}/ai/run/@cf/selvedge/tiny-chat`, headers: { authorization: `Bearer ${p.token}` },
    body: { prompt, raw: true, temperature: 3, seed: 1, max_tokens, stream: true } });
  try {
    await ask('Hello.', 8);
    const one = [], eight = [], prefill = [];
    for (let i = 0; i < ROUNDS; i++) {
      const a = await ask('The edge of a cloth', 256);
      one.push((a.n_tokens - 1) / (a.total - a.first) * 1000);
      const begin = performance.now();
      const all = await Promise.all(Array.from({ length: 8 }, (_, k) => ask(`${k} edges of a cloth`, 256)));
      eight.push(all.reduce((n, x) => n + x.n_tokens, 0) / (performance.now() - begin) * 1000);
      const long = await ask(`${i} ${'the edge of the cloth is woven so that it does not fray '.repeat(22)}`, 1);
      prefill.push(long.n_prompt / long.total * 1000);
    }
    report('decode/tiny-chat bf16/1 stream', 'tokens/s', one);
    report('decode/tiny-chat bf16/8 streams', 'tokens/s', eight);
    report('prefill/tiny-chat bf16', 'tokens/s', prefill, { note: 'prompt tokens over time to the first token, HTTP included' });
  } finally { await p.stop(); }
}
