// r2.mjs - R2 as a Worker's binding calls it, on the Worker's own socket, and whole gigabytes by S3's neighbour, REST; each beside what the disk
// itself does in the same run
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { Platform, command, request, root, temp_dir, write_files } from '../tests/harness.mjs';
import { ROUNDS, make, report } from './report.mjs';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 2);
const N_KEYS = Number(process.env.BENCH_R2_KEYS ?? 100_000);
const BIG = Number(process.env.BENCH_R2_BYTES ?? 1 << 30);
const key = (i) => `key-${String(i).padStart(7, '0')}`;
const worker = 'export default { fetch() { return new Response("up"); } };';

// What the disk does: so many bytes appended and synced, again and again.
function appended(dir, n) {
  const fd = fs.openSync(path.join(dir, 'limit'), 'a');
  const bytes = Buffer.alloc(n, 7);
  let done = 0;
  const end = process.hrtime.bigint() + BigInt(SECONDS * 1e9);
  for (; process.hrtime.bigint() < end; done++) { fs.writeSync(fd, bytes); fs.fdatasyncSync(fd); }
  fs.closeSync(fd);
  fs.rmSync(path.join(dir, 'limit'));
  return done / SECONDS;
}

// A new file, written, synced, and its folder.
function filed(dir, n) {
  const bytes = Buffer.alloc(n, 7);
  const folder = fs.openSync(dir, 'r');
  let done = 0;
  const end = process.hrtime.bigint() + BigInt(SECONDS * 1e9);
  for (; process.hrtime.bigint() < end; done++) {
    const fd = fs.openSync(path.join(dir, `f${done}`), 'w');
    fs.writeSync(fd, bytes);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    fs.fsyncSync(folder);
  }
  fs.closeSync(folder);
  for (let i = 0; i < done; i++) fs.rmSync(path.join(dir, `f${i}`));
  return done / SECONDS;
}

async function load(address, file, connections) {
  const r = await command([path.join(root, 'build/bench/load'), address, 'file', file, String(connections), String(SECONDS)], { limit_ms: 300_000 });
  if (r.code !== 0) throw new Error(r.all);
  return JSON.parse(r.out);
}

const request_file = (file, list) => { fs.writeFileSync(file, list.map((r) => `${Buffer.byteLength(r)}\n${r}`).join('')); return file; };
const head = 'host: fake-host\r\nx-sv-binding: r2:bench\r\n';
const read = (doc) => `GET / HTTP/1.1\r\n${head}cf-r2-request: ${JSON.stringify({ version: 1, ...doc })}\r\n\r\n`;
const put = (k, value) => { const doc = JSON.stringify({ version: 1, method: 'put', object: k }); return `PUT / HTTP/1.1\r\n${head}cf-r2-metadata-size: ${doc.length}\r\ncontent-length: ${doc.length + value.length}\r\n\r\n${doc}${value}`; };

async function seconds_of(argv) {
  const start = process.hrtime.bigint();
  const r = await command(argv, { limit_ms: 600_000 });
  if (r.code !== 0) throw new Error(r.all);
  return Number(process.hrtime.bigint() - start) / 1e9;
}

export async function r2_cases() {
  await make('load');
  const dir = temp_dir('bench-r2');
  const p = await Platform.start();
  try {
    await p.api('POST', '/accounts/:account/r2/buckets', { name: 'bench' });
    write_files(dir, { 'wrangler.jsonc': { name: 'bench-r2', main: 'index.js', compatibility_date: '2026-04-01', r2_buckets: [{ binding: 'BUCKET', bucket_name: 'bench' }] }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    if (r.code !== 0) throw new Error(r.all);
    await (await p.worker('bench-r2', '/')).text(); // its process is up, and its socket with it
    const bindings = path.join(p.data, 'run/b');
    const sock = `unix:${path.join(bindings, fs.readdirSync(bindings)[0], 's.sock')}`;
    const small = 'v'.repeat(1024), large = 'v'.repeat(1 << 20);
    const some = Array.from({ length: 2000 }, (_, i) => key((i * 7919) % 2000));
    const files = {
      fill: request_file(path.join(dir, 'fill'), Array.from({ length: N_KEYS }, (_, i) => put(key(i), 'v'))), put: request_file(path.join(dir, 'put'), some.map((k) => put(k, small))),
      get: request_file(path.join(dir, 'get'), some.map((k) => read({ method: 'get', object: k }))), put_mb: request_file(path.join(dir, 'put-mb'), Array.from({ length: 8 }, (_, i) => put(`mb-${i}`, large))) };
    const rounds = async (name, file, connections, limit, unit, goal) => {
      const ours = [], theirs = [];
      for (let i = 0; i < ROUNDS; i++) {
        ours.push((await load(sock, file, connections)).rps);
        if (limit) theirs.push(limit());
      }
      report(`r2/${name}/${connections} connections`, unit, ours, limit ? { peer: 'the disk alone', theirs, goal } : { goal });
    };
    const one_by_one = async (name, doc) => { // answers that the driver's buffer does not hold
      const agent = new http.Agent({ keepAlive: true }), ours = [];
      for (let i = 0; i < ROUNDS; i++) {
        const start = Date.now();
        let n = 0;
        for (; Date.now() - start < SECONDS * 1000; n++) {
          const r = await request({ socketPath: sock.slice(5), agent, host: 'fake-host', headers: { 'x-sv-binding': 'r2:bench', 'cf-r2-request': JSON.stringify({ version: 1, ...doc }) } });
          if (r.status !== 200) throw new Error(`${name}: ${r.status}`);
          for await (const piece of r.stream) void piece;
        }
        ours.push(n / (Date.now() - start) * 1000);
      }
      agent.destroy();
      report(`r2/${name}/1 connection`, 'a second', ours);
    };
    await rounds('put 1 KB, synced', files.put, 1, () => appended(dir, 1024), 'a second', 'goal: ratio 0.7');
    await rounds('put 1 KB, synced', files.put, 50, () => appended(dir, 50 * 1024) * 50, 'a second', 'goal: ratio 0.7');
    const fill = async (file, n) => { while ((await p.api('GET', '/accounts/:account/r2/metrics')).json.result.standard.published.objects < n) await load(sock, file, 50); };
    await fill(files.put, some.length);
    await rounds('get 1 KB', files.get, 1, null, 'a second', '');
    await rounds('get 1 KB', files.get, 32, null, 'a second', '');
    await rounds('put 1 MB, synced', files.put_mb, 4, () => filed(dir, 1 << 20), 'a second', '');
    await one_by_one('get 1 MB', { method: 'get', object: 'mb-1' });
    await fill(files.fill, N_KEYS);
    await one_by_one(`list 1,000 of ${N_KEYS}`, { method: 'list', limit: 1000, startAfter: key(N_KEYS >> 1), newRuntime: true });

    const big = path.join(dir, 'big'), copy = path.join(dir, 'copy');
    await seconds_of(['dd', 'if=/dev/urandom', `of=${big}`, 'bs=1M', `count=${BIG >> 20}`, 'status=none']);
    const url = `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/r2/buckets/bench/objects/big`, auth = `Authorization: Bearer ${p.token}`;
    const mb = (s) => (BIG >> 20) / s;
    const up = [], down = [], disk = [], cat = [];
    for (let i = 0; i < Math.min(ROUNDS, 3); i++) {
      up.push(mb(await seconds_of(['curl', '-sSf', '-o', '/dev/null', '-H', auth, '-T', big, url])));
      disk.push(mb(await seconds_of(['dd', `if=${big}`, `of=${copy}`, 'bs=1M', 'conv=fsync', 'status=none'])));
      down.push(mb(await seconds_of(['curl', '-sSf', '-o', '/dev/null', '-H', auth, url])));
      cat.push(mb(await seconds_of(['dd', `if=${big}`, 'of=/dev/null', 'bs=256K', 'status=none'])));
    }
    report(`r2/put ${BIG >> 20} MB through the front door`, 'MB/s', up, { peer: 'dd conv=fsync', theirs: disk });
    report(`r2/get ${BIG >> 20} MB through the front door`, 'MB/s', down, { peer: 'dd of the cached file', theirs: cat });
  } finally {
    await p.stop();
    fs.rmSync(dir, { recursive: true, force: true });
  }
}
