// store.mjs - KV and D1: over sockets beside redis-server, in process beside the sqlite3 library, and from a Worker beside a constant answer
//
// redis-server is taken from the PATH; without it our lines stand alone. KV is called as a Worker's binding calls it, on the Worker's own socket.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Platform, command, request, root, sleep, temp_dir, until, write_files } from '../tests/harness.mjs';
import { ROUNDS, make, median, report } from './report.mjs';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 2);
const N_KEYS = 10_000, value = 'v'.repeat(1024);
let n_changed = 0;
const changed = () => String(n_changed++).padStart(1024, 'v'); // a store may leave a row alone that is what it was
const key = (i) => `key-${String(i).padStart(6, '0')}`;

async function load(address, file, connections) {
  const r = await command([path.join(root, 'build/bench/load'), address, 'file', file, String(connections), String(SECONDS)]);
  if (r.code !== 0) throw new Error(r.all);
  return JSON.parse(r.out);
}

// Requests in an order of their own, so that neither side profits from neighbours.
const shuffled = Array.from({ length: N_KEYS }, (_, i) => (i * 7919) % N_KEYS);
function write_requests(file, one) {
  fs.writeFileSync(file, shuffled.map((i) => { const r = one(key(i)); return `${Buffer.byteLength(r)}\n${r}`; }).join(''));
  return file;
}
const resp = (...args) => `*${args.length}\r\n${args.map((a) => `$${a.length}\r\n${a}\r\n`).join('')}`;

async function redis(dir, name, args) {
  const sock = path.join(dir, `${name}.sock`);
  fs.mkdirSync(path.join(dir, name));
  let failed = false;
  const child = spawn('redis-server', ['--port', '0', '--unixsocket', sock, '--dir', path.join(dir, name), '--save', '', '--loglevel', 'warning', ...args], { stdio: 'ignore' });
  child.on('error', () => { failed = true; });
  await until('redis-server', () => failed || fs.existsSync(sock)).catch(() => { failed = true; });
  return failed ? null : { child, sock: `unix:${sock}` };
}

const worker = `export default { async fetch(request, env) {
  const n = Number(new URL(request.url).searchParams.get('n'));
  const start = Date.now();
  for (let i = 0; i < n; i++) if ((await env.KV.get('key-' + String(i % 10000).padStart(6, '0'))).length !== 1024) throw new Error('short');
  return Response.json({ ms: Date.now() - start });
} };`;

// The same Worker in a workerd of its own whose KV is an answer that never changes (the driver's other half: an epoll loop in C).
async function constant_kv(dir) {
  const backend = spawn(path.join(root, 'build/bench/constant'), [path.join(dir, 'constant.sock'), String(value.length)], { stdio: 'inherit' });
  const workerd = path.join(root, 'node_modules/@cloudflare', `workerd-linux-${process.arch === 'arm64' ? 'arm64' : '64'}`, 'bin/workerd');
  write_files(dir, { 'index.js': worker, 'constant.capnp': `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [(name = "main", worker = (modules = [(name = "index.js", esModule = embed "index.js")], compatibilityDate = "2026-04-01",
    bindings = [(name = "KV", kvNamespace = "kv")])), (name = "kv", external = (address = "unix:${dir}/constant.sock", http = ()))],
  sockets = [(name = "http", address = "unix:${dir}/main.sock", http = (), service = "main")]);` });
  const child = spawn(workerd, ['serve', path.join(dir, 'constant.capnp')], { stdio: 'inherit' });
  await until('workerd', () => fs.existsSync(path.join(dir, 'main.sock')));
  await sleep(200);
  return { end: () => { child.kill(); backend.kill(); } };
}

async function in_process(what) {
  const dir = temp_dir('store');
  try {
    const r = await command([path.join(root, 'build/bench/store_bench'), what, dir, String(ROUNDS), String(SECONDS / 2)], { limit_ms: 600_000 });
    if (r.code !== 0) throw new Error(r.all);
    const all = r.out.split('\n').filter(Boolean).map((l) => JSON.parse(l));
    for (const name of new Set(all.map((x) => x.case))) {
      const of = all.filter((x) => x.case === name);
      report(name, 'a second', of.map((x) => x.ours), { peer: 'sqlite3, called directly', theirs: of.map((x) => x.theirs), goal: name.startsWith('d1') ? 'goal: ratio 0.9' : '' });
    }
  } finally { fs.rmSync(dir, { recursive: true, force: true }); }
}

export async function store_cases() {
  await make('store_bench', 'constant', 'load');
  const dir = temp_dir('bench-store');
  const p = await Platform.start();
  const cached = await redis(dir, 'memory', ['--appendonly', 'no']), synced = await redis(dir, 'disk', ['--appendonly', 'yes', '--appendfsync', 'always']);
  let constant;
  try {
    const ns = (await p.api('POST', '/accounts/:account/storage/kv/namespaces', { title: 'bench' })).json.result.id;
    write_files(dir, { 'wrangler.jsonc': { name: 'bench-kv', main: 'index.js', compatibility_date: '2026-04-01', kv_namespaces: [{ binding: 'KV', id: ns }] }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    if (r.code !== 0) throw new Error(r.all);
    for (let i = 0; i < N_KEYS; i += 1000)
      await p.api('PUT', `/accounts/:account/storage/kv/namespaces/${ns}/bulk`, Array.from({ length: 1000 }, (_, j) => ({ key: key(i + j), value })));
    await (await p.worker('bench-kv', '/?n=1')).text(); // its process is up, and its socket with it
    const bindings = path.join(p.data, 'run/b');
    const sock = `unix:${path.join(bindings, fs.readdirSync(bindings)[0], 's.sock')}`;
    const head = `x-sv-binding: kv:${ns}\r\nhost: kv\r\n`;
    const put_twice = (file, one) => { write_requests(file, one); fs.appendFileSync(file, fs.readFileSync(write_requests(`${file}2`, one))); return file; };
    const files = {
      get: write_requests(path.join(dir, 'get'), (k) => `GET /${k}?urlencoded=true HTTP/1.1\r\n${head}\r\n`),
      put: put_twice(path.join(dir, 'put'), (k) => `PUT /${k}?urlencoded=true HTTP/1.1\r\n${head}content-length: ${value.length}\r\n\r\n${changed()}`),
      rget: write_requests(path.join(dir, 'rget'), (k) => resp('GET', k)), rset: put_twice(path.join(dir, 'rset'), (k) => resp('SET', k, changed())) };
    if (cached) await load(cached.sock, files.rset, 8);
    const beside = async (name, mine, peer, theirs, connections, goal) => {
      const a = [], b = [];
      for (let i = 0; i < ROUNDS; i++) {
        a.push((await load(sock, mine, connections)).rps);
        if (peer) b.push((await load(peer.sock, theirs, connections)).rps);
      }
      report(`${name}/${connections} connections`, 'a second', a, peer ? { peer: 'redis-server', theirs: b, goal } : { goal });
    };
    await beside('kv/get 1 KB/unix socket', files.get, cached, files.rget, 1, '');
    await beside('kv/get 1 KB/unix socket', files.get, cached, files.rget, 32, 'goal: ratio 0.4');
    await beside('kv/put 1 KB, synced/unix socket', files.put, synced, files.rset, 1, '');
    await beside('kv/put 1 KB, synced/unix socket', files.put, synced, files.rset, 50, 'goal: ratio 0.5');

    constant = await constant_kv(dir);
    const ours = [], theirs = [], n = 2000;
    for (let i = 0; i < ROUNDS; i++) {
      ours.push((await (await p.worker('bench-kv', `/?n=${n}`, { limit_ms: 60_000 })).json()).ms / n * 1000);
      theirs.push((await (await request({ socketPath: path.join(dir, 'main.sock'), host: 'main', path: `/?n=${n}`, limit_ms: 60_000 })).json()).ms / n * 1000);
    }
    report('kv/get from a Worker, one after the other', 'us', ours, { peer: 'constant answer', theirs, lower: true, goal: 'goal: ratio 1.15' });
  } finally {
    constant?.end();
    cached?.child.kill();
    synced?.child.kill();
    await p.stop();
    fs.rmSync(dir, { recursive: true, force: true });
  }
  await in_process('kv');
  await in_process('d1');
}
