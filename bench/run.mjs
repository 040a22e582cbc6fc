// run.mjs - `make bench`: one line a case, each against a peer or a limit of the same run; also appended to build/bench.jsonl
//
//   serve    requests through the front door, the daemon's own routes, latency added to a stream, cold start
//   engine   the inference engine (engine.mjs); engine-speed, engine-batch, engine-serve, engine-start and engine-accuracy run a part of it
//   store    KV beside redis-server (where it is installed) and the sqlite3 library, D1 beside the latter
//   encoder  BERT-base beside onnxruntime, where SV_PEERS_PYTHON names a Python that has it (encoder.mjs)
//   pictures ResNet-50 beside onnxruntime, where SV_PEERS_PYTHON names a Python that has it (pictures.mjs)
//   queues   messages into a queue and out of it (also a part of store)
//   r2       objects, beside the disk (also a part of store)
//   vec      the vector index on an easy and a hard set of 100,000 x 768; beside hnswlib, usearch and FAISS where SV_PEERS_PYTHON names a
//            Python that has them
//
// Cases run interleaved (ours, theirs, ours, theirs, ...) and the median of each side counts, since the machine's other load moves both.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Platform, command, request, root, sleep, temp_dir, until, write_files } from '../tests/harness.mjs';
import { encoder_cases } from './encoder.mjs';
import { engine_cases } from './engine.mjs';
import { ROUNDS, cpu, make, median, report } from './report.mjs';
import { picture_cases } from './pictures.mjs';
import { queue_cases } from './queues.mjs';
import { r2_cases } from './r2.mjs';
import { store_cases } from './store.mjs';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 2);
const workerd = path.join(root, 'node_modules', '@cloudflare', `workerd-linux-${os.arch() === 'arm64' ? 'arm64' : '64'}`, 'bin/workerd');

async function load(address, host, target, ...more) {
  const r = await command([path.join(root, 'build/bench/load'), address, host, target, ...more.map(String)]);
  if (r.code !== 0) throw new Error(r.all);
  return JSON.parse(r.out);
}

// CPU seconds that the processes have used so far.
const cpu_seconds = (pids) => pids.reduce((sum, pid) => {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const f = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return sum + (Number(f[11]) + Number(f[12])) / 100;
}, 0);

const worker = `export default { async fetch(request) {
  if (request.method === "POST") return new Response(request.body);
  return new Response("hello world");
} };`;

// The same Worker in a workerd of its own, with nothing in front.
async function bare_workerd(dir) {
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [(name = "main", worker = (modules = [(name = "index.js", esModule = embed "index.js")], compatibilityDate = "2026-04-01"))],
  sockets = [(name = "http", address = "unix:${dir}/bare.sock", http = (), service = "main")]);`;
  write_files(dir, { 'bare.capnp': config });
  const child = spawn(workerd, ['serve', path.join(dir, 'bare.capnp')], { stdio: 'inherit' });
  await until('bare workerd', () => fs.existsSync(path.join(dir, 'bare.sock')));
  await sleep(200);
  return child;
}

async function serve_cases() {
  const dir = write_files(temp_dir('bench'), { 'wrangler.jsonc': { name: 'hello', main: 'index.js', compatibility_date: '2026-04-01' }, 'index.js': worker });
  const p = await Platform.start();
  const bare = await bare_workerd(dir);
  try {
    const deployed = await p.wrangler(dir, ['deploy']);
    if (deployed.code !== 0) throw new Error(deployed.all);
    const host = `hello.localhost:${p.port}`;
    await load(p.port, host, '/', 32, 1);

    const ours = [], theirs = [], our_cpu = [], their_cpu = [];
    for (let i = 0; i < ROUNDS; i++) {
      const pids = [...p.processes('haproxy'), ...p.processes('workerd')].map((x) => x.pid);
      let before = cpu_seconds(pids);
      let r = await load(p.port, host, '/', 32, SECONDS);
      our_cpu.push((cpu_seconds(pids) - before) / r.n * 1e6);
      ours.push(r.rps);
      before = cpu_seconds([bare.pid]);
      r = await load(`unix:${dir}/bare.sock`, host, '/', 32, SECONDS);
      their_cpu.push((cpu_seconds([bare.pid]) - before) / r.n * 1e6);
      theirs.push(r.rps);
    }
    report('hello-world/front door/32 connections', 'requests/s', median(ours), { peer: 'bare workerd', theirs: median(theirs), goal: 'goal: ratio 0.85' });
    report('hello-world/CPU a request', 'us', median(our_cpu), { peer: 'bare workerd', theirs: median(their_cpu), note: 'front door and Worker together' });

    const through = [], direct = [];
    for (let i = 0; i < ROUNDS; i++) {
      through.push(await load(p.port, host, '/', 'echo', 2000));
      direct.push(await load(`unix:${dir}/bare.sock`, host, '/', 'echo', 2000));
    }
    report('stream chunk/round trip p50', 'us', median(through.map((x) => x.p50_us)), { peer: 'bare workerd', theirs: median(direct.map((x) => x.p50_us)), note: 'a chunk in and out again; half of the difference is added to a chunk' });
    report('stream chunk/round trip p99', 'us', median(through.map((x) => x.p99_us)), { peer: 'bare workerd', theirs: median(direct.map((x) => x.p99_us)) });

    // The daemon's own routes on its own socket, against the floor: an epoll loop that scans for a blank line and writes a fixed answer.
    const floor_source = path.join(root, '../shared/tools/peers-data/http/s_raw.c');
    let floor = null;
    if (fs.existsSync(floor_source)) {
      const built = await command(['gcc', '-O2', floor_source, '-o', path.join(dir, 'floor'), '-lpthread']);
      if (built.code === 0) floor = spawn(path.join(dir, 'floor'), [`unix:${dir}/floor.sock`, '1'], { stdio: 'inherit' });
      await sleep(200);
    }
    const daemon_socket = fs.existsSync(path.join(p.data, 'run/daemon.sock')) ? path.join(p.data, 'run/daemon.sock') : null;
    if (daemon_socket) {
      const own = [], raw = [];
      for (let i = 0; i < ROUNDS; i++) {
        own.push((await load(`unix:${daemon_socket}`, 'localhost', '/', 32, SECONDS)).rps);
        if (floor) raw.push((await load(`unix:${dir}/floor.sock`, 'localhost', '/', 32, SECONDS)).rps);
      }
      report('daemon route/32 connections', 'requests/s', median(own), floor ? { peer: 'bare epoll loop', theirs: median(raw), goal: 'goal: ratio 0.8' } : {});
    }
    floor?.kill();
  } finally {
    bare.kill();
    await p.stop();
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

async function cold_start() {
  const data = temp_dir('cold');
  const first = [];
  try {
    let p = await Platform.start({ data });
    const r = await p.wrangler(path.join(root, 'examples/chat'), ['deploy']);
    if (r.code !== 0) throw new Error(r.all);
    await p.stop();
    for (let i = 0; i < ROUNDS; i++) {
      const port = p.port;
      const start = performance.now();
      const child = spawn(path.join(root, 'build/selvedge'), ['serve', '--data', data, '--listen', `127.0.0.1:${port}`], { cwd: root, stdio: 'ignore' });
      for (;;) {
        const a = await request({ port, host: `chat.localhost:${port}`, method: 'POST', path: '/api/chat', body: JSON.stringify({ messages: [{ role: 'user', content: 'What is Selvedge?' }] }) }).catch(() => null);
        if (a?.status === 200) {
          await new Promise((done) => a.stream.once('data', done));
          first.push(performance.now() - start);
          a.close();
          break;
        }
        a?.close();
        await sleep(5);
      }
      child.kill('SIGTERM');
      await new Promise((done) => child.on('exit', done));
    }
    report('cold start/serve to first token of a Worker', 'ms', median(first), { goal: 'goal: 500 ms' });
  } finally { fs.rmSync(data, { recursive: true, force: true }); }
}

// Sets are generated once a run. Lines of ours and theirs are matched by what counts: the most queries a second at a recall or better.
async function vec_cases() {
  const dir = temp_dir('vec');
  const bench = path.join(root, 'build/bench/vec_bench');
  const lines = (text) => text.split('\n').filter((l) => l.startsWith('{')).map((l) => JSON.parse(l));
  const run = async (argv) => {
    const r = await command(argv, { limit_ms: 3_600_000 });
    if (r.code !== 0) throw new Error(r.all);
    return lines(r.out);
  };
  await make('vec_bench');
  try {
    for (const [set, centres, spread, seed] of [['easy', '1000', '0.45', '42'], ['hard', '1', '1.0', '44']]) {
      const prefix = path.join(dir, set);
      await run([bench, 'gen', prefix, '768', '100000', '1000', seed, centres, spread]);
      const own = await run([bench, 'run', prefix, '768', path.join(dir, 'index')]);
      const python = process.env.SV_PEERS_PYTHON;
      const peers = python ? await run([python, path.join(root, 'bench/vec_peers.py'), prefix, '768']) : [];
      const best = (all, kind, at_least) => all.filter((x) => x.case === kind && x.k === 10 && x.recall >= at_least).sort((a, b) => b.qps - a.qps)[0] ?? null;
      const versus = (name, kind, at_least, goal) => {
        const o = best(own, kind, at_least), t = best(peers, kind, at_least);
        if (o) report(`vec/${set}/${name}`, 'queries/s', o.qps, { peer: t && `${t.peer} at ${t.recall}`, theirs: t?.qps ?? null, goal, note: `${o.plan}, recall ${o.recall}, p50 ${o.p50_us} us, p99 ${o.p99_us} us` });
      };
      versus('recall@10 0.95, 1 thread', 'plain', 0.95, set === 'easy' ? 'goal: ratio 1.2' : 'goal: ratio 2.5');
      versus('recall@10 0.99, 1 thread', 'plain', 0.99, set === 'easy' ? 'goal: ratio 1.2' : 'goal: ratio 2.5');
      versus('filter of 1 %', 'filter 1%', 0.99, 'goal: ratio 30');
      versus('filter of 10 %', 'filter 10%', 0.95, '');
      versus('filter of 50 %', 'filter 50%', 0.95, '');
      const built = own.find((x) => x.case === 'build'), fastest = peers.filter((x) => x.case === 'build').sort((a, b) => b.vectors_per_s - a.vectors_per_s)[0];
      report(`vec/${set}/build, all cores`, 'vectors/s', built.vectors_per_s, { peer: fastest?.peer ?? null, theirs: fastest?.vectors_per_s ?? null, goal: 'goal: 10,000', note: `durable; ${built.cpu_s} s of CPU` });
      report(`vec/${set}/memory`, 'MB', built.memory_mb, { goal: 'goal: 120 at most' });
      report(`vec/${set}/open to first query`, 's', own.find((x) => x.case === 'open').first_query_s, { goal: 'goal: 1 s for a million' });
    }
  } finally { fs.rmSync(dir, { recursive: true, force: true }); }
}

const parts = process.argv.slice(2);
const wanted = (part) => parts.length === 0 || parts.includes(part);
const wanted_of_engine = (part) => wanted('engine') || parts.includes(`engine-${part}`);
await make('load');
console.log(`${cpu}, ${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}; medians of ${ROUNDS} rounds\n`);
console.log(`${'case'.padEnd(44)} ${'ours'.padStart(9)} ${''.padEnd(11)} ${'theirs'.padStart(9)} ${'peer'.padEnd(24)} ratio`);
if (wanted('serve')) { await serve_cases(); await cold_start(); }
if (wanted('engine') || parts.some((p) => p.startsWith('engine-'))) await engine_cases(wanted_of_engine);
if (wanted('encoder')) await encoder_cases();
if (wanted('pictures')) await picture_cases();
if (wanted('store')) await store_cases();
if (wanted('store') || wanted('queues')) await queue_cases();
if (wanted('vec')) await vec_cases();
if (wanted('store') || wanted('r2')) await r2_cases();
