// kill -9 and power cuts under writers: what was acknowledged is there afterwards, whole, and what was not is there whole or not at all
//
// A kill keeps the page cache, a power cut does not: tests/faults/powercut.c is preloaded under the daemon; it takes back what was written since the last sync, wholly or by torn sectors. The last
// test makes syncs forget: it fails every store that answers before its bytes are safe, and so shows that the others could fail.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Platform, command, root, sleep, temp_dir, until } from '../harness.mjs';

const KILLS = Number(process.env.SOAK ?? 20), CUTS = Number(process.env.SOAK ?? 8);

// Each writes the n-th thing and says whether it was acknowledged; reads it as 'whole', 'none', or says what is wrong with it.
const long = (n) => `${n}:`.repeat(n % 3 ? 20 : 30_000); // some values are files of their own
const subjects = {
  KV: {
    async make(p) { this.at = `/accounts/:account/storage/kv/namespaces/${(await p.api('POST', '/accounts/:account/storage/kv/namespaces', { title: 'powercut' })).json.result.id}/values`; },
    async write(p, n) { return (await p.api('PUT', `${this.at}/k${n}`, long(n), { 'content-type': 'text/plain' })).status === 200; },
    async read(p, n) {
      const r = await p.api('GET', `${this.at}/k${n}`);
      return r.status === 404 ? 'none' : r.status === 200 && r.text === long(n) ? 'whole' : `${r.status}, ${r.text.length} bytes`;
    },
  },
  D1: {
    async make(p) {
      this.at = `/accounts/:account/d1/database/${(await p.api('POST', '/accounts/:account/d1/database', { name: 'powercut' })).json.result.uuid}/query`;
      assert.equal((await p.api('POST', this.at, { sql: 'CREATE TABLE a (n INTEGER PRIMARY KEY, v TEXT); CREATE TABLE b (n INTEGER PRIMARY KEY, v TEXT)' })).status, 200);
    },
    async write(p, n) {
      return (await p.api('POST', this.at, { batch: ['a', 'b'].map((t) => ({ sql: `INSERT INTO ${t} VALUES (?1, ?2)`, params: [String(n), long(n)] })) })).status === 200;
    },
    async read(p, n) {
      const r = await p.api('POST', this.at, { sql: 'SELECT v FROM a WHERE n = ?1 UNION ALL SELECT v FROM b WHERE n = ?1', params: [String(n)] });
      const rows = r.json?.result?.[0]?.results;
      return rows?.length === 0 ? 'none' : rows?.length === 2 && rows.every((x) => x.v === long(n)) ? 'whole' : r.text.slice(0, 200);
    },
    async check(p) {
      const r = await p.api('POST', this.at, { sql: 'PRAGMA quick_check' });
      assert.equal(r.json?.result?.[0]?.results?.[0]?.quick_check, 'ok', r.text.slice(0, 500));
    },
  },
  Queues: { // a queue for each, since a message has no name to ask for
    at: '/accounts/:account/queues',
    body: (n, i) => `${n}.${i}:`.repeat(n % 3 ? 20 : 10_000),
    async make() {},
    async write(p, n) {
      const made = await p.api('POST', this.at, { queue_name: `cut-${n}` });
      return made.status === 200 && (await p.api('POST', `${this.at}/${made.json.result.queue_id}/messages/batch`, { messages: [0, 1].map((i) => ({ body: this.body(n, i), content_type: 'text' })) })).status === 200;
    },
    async read(p, n) {
      const [queue] = (await p.api('GET', `${this.at}?name=cut-${n}`)).json.result;
      if (!queue) return 'none';
      const r = await p.api('POST', `${this.at}/${queue.queue_id}/messages/peek`, { batch_size: 10 }), found = r.json?.result?.messages;
      return found?.length === 0 ? 'none' : found?.length === 2 && found.every((m, i) => m.body === this.body(n, i)) ? 'whole' : r.text.slice(0, 200);
    },
  },
  R2: {
    at: '/accounts/:account/r2/buckets',
    async make(p) { assert.equal((await p.api('POST', this.at, { name: 'powercut' })).status, 200); },
    async write(p, n) { return (await p.api('PUT', `${this.at}/powercut/objects/k${n}`, long(n), { 'content-type': 'text/plain' })).status === 200; },
    async read(p, n) {
      const r = await p.api('GET', `${this.at}/powercut/objects/k${n}`);
      return r.status === 404 ? 'none' : r.status === 200 && r.text === long(n) ? 'whole' : `${r.status}, ${r.text.length} bytes`;
    },
  },
  Vectorize: {
    at: '/accounts/:account/vectorize/v2/indexes',
    async make(p) { assert.equal((await p.api('POST', this.at, { name: 'powercut', config: { dimensions: 4, metric: 'euclidean' } })).status, 200); },
    async write(p, n) {
      return (await p.api('POST', `${this.at}/powercut/upsert`, [0, 1, 2].map((i) => JSON.stringify({ id: `${n}-${i}`, values: [n, i, 1, 1] })).join('\n'))).status === 200;
    },
    async read(p, n) {
      const r = await p.api('POST', `${this.at}/powercut/get_by_ids`, { ids: [0, 1, 2].map((i) => `${n}-${i}`) });
      const found = r.json?.result;
      return found?.length === 0 ? 'none' : found?.length === 3 && found.every((v) => v.values[0] === n) ? 'whole' : r.text.slice(0, 200);
    },
  },
};

export async function run(test) {
  const data = fs.realpathSync(temp_dir('powercut')), dir = fs.realpathSync(temp_dir('powercut-saved'));
  const so = path.join(dir, 'powercut.so');
  const env = { LD_PRELOAD: so, POWERCUT_ROOT: data, POWERCUT_DIR: dir };
  const known = Object.fromEntries(Object.keys(subjects).map((k) => [k, new Map()])); // n -> acknowledged?
  let next = 0, p;

  // Writes until `end` is done, which begins after some writes.
  async function write_until(end) {
    let on = true;
    const writers = Object.entries(subjects).flatMap(([name, s]) => [0, 1].map(async () => {
      while (on) {
        const n = next++;
        known[name].set(n, false);
        if (await s.write(p, n).catch(() => false)) known[name].set(n, true);
        else await sleep(5);
      }
    }));
    for (const enough = next + 30 + Math.floor(Math.random() * 90); next < enough;) await sleep(2);
    await end();
    on = false;
    await Promise.all(writers);
  }

  const gone = (pid) => !fs.existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));

  async function cut(how, more = {}) {
    p = await Platform.start({ data, env: { ...env, ...more } });
    const [daemon] = p.processes('daemon');
    await write_until(async () => {
      fs.writeFileSync(path.join(dir, 'cut.new'), how);
      fs.renameSync(path.join(dir, 'cut.new'), path.join(dir, 'cut')); // whole when it is seen
      await until('the cut', () => gone(daemon.pid), 20_000, 2);
      p.child.kill('SIGKILL'); // the machine is gone
      await p.ended;
    });
    await until('all processes to be gone', () => !fs.existsSync(`/proc/${daemon.pid}`));
    p = await Platform.start({ data });
  }

  async function kill() {
    const [daemon] = p.processes('daemon');
    await write_until(async () => {
      process.kill(daemon.pid, 'SIGKILL');
      await until('another daemon', async () => gone(daemon.pid) && (await p.api('GET', '/user/tokens/verify').catch(() => ({}))).status === 200, 20_000);
    });
  }

  // What is wrong, as lines: of all that was written since the last look, and of some of what was whole then, or all of it.
  const seen = Object.fromEntries(Object.keys(subjects).map((k) => [k, []]));
  async function losses({ all = false } = {}) {
    const wrong = [];
    for (const [name, s] of Object.entries(subjects)) {
      const old = all ? seen[name] : Array.from({ length: Math.min(seen[name].length, 20) }, () => seen[name][Math.floor(Math.random() * seen[name].length)]);
      for (const [n, acknowledged] of [...known[name], ...old.map((n) => [n, true])]) {
        const state = await s.read(p, n);
        if (state === 'none' ? acknowledged : state !== 'whole') wrong.push(`${name} ${n}: ${acknowledged ? 'acknowledged' : 'not acknowledged'}, and ${state}`);
        if (state === 'whole' && known[name].has(n)) seen[name].push(n);
      }
      known[name].clear();
      await s.check?.(p);
    }
    if (wrong.length) console.log(p.log.slice(-4000));
    return wrong;
  }

  if (!await test('a platform to be cut off', async () => {
    const r = await command([process.env.CC?.split(' ').pop() ?? 'cc', '-std=gnu17', '-D_GNU_SOURCE', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', path.join(root, 'tests/faults/powercut.c'), '-o', so]);
    assert.equal(r.code, 0, r.all);
    p = await Platform.start({ data });
    for (const s of Object.values(subjects)) await s.make(p);
  })) return;

  await test(`${KILLS} kills of the daemon lose nothing that was acknowledged`, async () => {
    for (let round = 0; round < KILLS; round++) {
      await kill();
      if (round % 5 === 4 || round === KILLS - 1) assert.deepEqual(await losses(), [], `by round ${round}`);
    }
    assert.equal((await p.stop()).code, 0);
  }, 60_000 + KILLS * 30_000);

  await test(`${CUTS} power cuts lose nothing that was acknowledged`, async () => {
    for (let round = 0; round < CUTS; round++) {
      const how = round % 2 ? 'some' : 'all';
      await cut(how);
      assert.deepEqual(await losses({ all: round === CUTS - 1 }), [], `round ${round}, ${how}`);
      assert.equal((await p.stop()).code, 0);
    }
    for (const [name, list] of Object.entries(seen)) assert.ok(list.length >= CUTS + KILLS, `${name} wrote too little`);
  }, 60_000 + CUTS * 30_000);

  await test('a disk that only says it syncs loses some of every store: the test above can fail', async () => {
    await cut('all', { POWERCUT_LIE: '1' });
    const wrong = await losses();
    for (const name of Object.keys(subjects)) assert.ok(wrong.some((w) => w.startsWith(`${name} `)), `${name} lost nothing: ${wrong.length} losses in all`);
    assert.equal((await p.stop()).code, 0);
  }, 60_000);

  await p?.stop(); // where a test failed
  fs.rmSync(data, { recursive: true, force: true });
  fs.rmSync(dir, { recursive: true, force: true });
}
