// Durable Objects: a counter with SQL storage and alarms, deployed by stock wrangler; migrations; swaps that never run two processes on one storage; kill -9
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { temp_dir, until, write_files } from '../harness.mjs';

const worker = (cls, version) => `
  import { DurableObject } from 'cloudflare:workers';
  export class ${cls} extends DurableObject {
    constructor(ctx, env) {
      super(ctx, env);
      ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS hits (n INTEGER PRIMARY KEY, at TEXT)');
    }
    hit() {
      this.ctx.storage.sql.exec('INSERT INTO hits (at) VALUES (?)', 'v${version}');
      return this.ctx.storage.sql.exec('SELECT count(*) AS n FROM hits').one().n;
    }
    async remember(k, v) { await this.ctx.storage.put(k, v); }
    async recall(k) { return await this.ctx.storage.get(k) ?? null; }
    async alarmIn(ms) { await this.ctx.storage.setAlarm(Date.now() + ms); }
    async alarm() { await this.ctx.storage.put('rang', (await this.ctx.storage.get('rang') ?? 0) + 1); }
    async slow(ms) { await new Promise((done) => setTimeout(done, ms)); return this.hit(); }
  }
  export class Old extends DurableObject { hello() { return 'old'; } }
  export default {
    async fetch(req, env) {
      const u = new URL(req.url), stub = env.C.get(env.C.idFromName(u.searchParams.get('name') ?? 'a'));
      try {
        const [method, ...args] = await req.json();
        return Response.json({ v: ${version}, r: await stub[method](...args) });
      } catch (e) { return Response.json({ error: String(e) }); }
    },
  };`;

export async function run(test, p) {
  const dir = temp_dir('objects');
  const api = (method, target, body) => p.api(method, `/accounts/:account${target}`, body);
  const call = async (...step) => (await p.worker('counter', '/', { method: 'POST', body: JSON.stringify(step) })).json();
  const config = (cls, version, migrations, more = {}) => write_files(dir, { 'w.js': worker(cls, version), 'wrangler.jsonc': { name: 'counter', main: 'w.js', compatibility_date: '2026-11-01',
    durable_objects: { bindings: [{ name: 'C', class_name: cls }] }, migrations, ...more } });
  const deploy = async () => {
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    return r.all;
  };
  const v1 = { tag: 'v1', new_sqlite_classes: ['Counter'], new_classes: ['Old'] };

  await test('a class without a migration is refused, and so is a migration that makes no sense', async () => {
    config('Counter', 1, []);
    const r = await p.wrangler(dir, ['deploy']);
    assert.notEqual(r.code, 0);
    const put = (meta) => p.api('PUT', '/accounts/:account/workers/scripts/counter', '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
      JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01', ...meta }) +
      '\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\nexport default {}\r\n--b--', { 'content-type': 'multipart/form-data; boundary=b' });
    const binding = [{ type: 'durable_object_namespace', name: 'C', class_name: 'Counter' }];
    for (const [meta, code] of [
      [{ bindings: binding }, 10061], [{ migrations: { steps: [{ deleted_classes: ['Counter'] }] } }, 10061], [{ migrations: { steps: [{ renamed_classes: [{ from: 'A', to: 'B' }] }] } }, 10061],
      [{ migrations: { steps: [{ new_classes: ['A', 'A'] }] } }, 10074], [{ migrations: { old_tag: 'v0', new_tag: 'v1', steps: [] } }, 10079], [{ migrations: 7 }, 10021], [{ migrations: { steps: [7] } }, 10021],
      [{ migrations: { steps: [{ new_classes: ['"'] }] } }, 10021], [{ migrations: { steps: [{ transferred_classes: [{ from: 'A', from_script: 'x', to: 'B' }] }] } }, 10021], [{ bindings: [{ type: 'durable_object_namespace', name: 'C' }] }, 10021],
    ]) {
      const res = await put(meta);
      assert.deepEqual([res.status, res.json.errors[0].code], [400, code], `${JSON.stringify(meta)}: ${res.text}`);
    }
    assert.equal((await api('GET', '/workers/durable_objects/namespaces')).json.result.filter((n) => n.script === 'counter').length, 0);
  });

  let id;
  await test('wrangler deploys a counter', async () => {
    config('Counter', 1, [v1]);
    await deploy();
    assert.deepEqual([(await call('hit')).r, (await call('hit')).r], [1, 2]);
    const spaces = (await api('GET', '/workers/durable_objects/namespaces')).json.result.filter((n) => n.script === 'counter');
    assert.deepEqual(spaces.map((n) => [n.class, n.use_sqlite]).sort(), [['Counter', true], ['Old', false]]);
    id = spaces.find((n) => n.class === 'Counter').id;
  });

  await test('what an object keeps is there after a deployment, and after kill -9', async () => {
    await call('remember', 'k', { deep: [1, 'ü'] });
    config('Counter', 2, [v1]);
    await deploy();
    assert.deepEqual(await call('hit'), { v: 2, r: 3 });
    for (const w of p.processes('workerd')) process.kill(w.pid, 'SIGKILL');
    assert.deepEqual(await call('recall', 'k'), { v: 2, r: { deep: [1, 'ü'] } });
    assert.equal((await call('hit')).r, 4);
    process.kill(p.processes('daemon')[0].pid, 'SIGKILL');
    await until('the daemon', async () => (await api('GET', '/workers/subdomain').catch(() => ({}))).status === 200);
    assert.equal((await call('hit')).r, 5);
  });

  await test('a deployment waits for what runs, and never has two processes on one storage', async () => {
    let n = 5, on = true, most = 0;
    const folder = `${path.sep}objects${path.sep}`;
    const watch = (async () => { // workerds whose configuration names the storage, as /proc shows them
      while (on) {
        const live = p.processes('workerd').filter((w) => { try { return fs.readFileSync(w.argv.find((a) => a.endsWith('.capnp')), 'utf8').includes(`${folder}`) && fs.readFileSync(w.argv.find((a) => a.endsWith('.capnp')), 'utf8').includes(id); } catch { return false; } })
          .filter((w) => !fs.readFileSync(w.argv.find((a) => a.endsWith('.capnp')), 'utf8').includes('units/try-'));
        most = Math.max(most, live.length);
        await new Promise((done) => setTimeout(done, 5));
      }
    })();
    const clients = Array.from({ length: 3 }, async () => { while (on) { const r = await call('hit'); assert.ok(r.r > 0, JSON.stringify(r)); n++; } });
    const slow = call('slow', 1500);
    config('Counter', 3, [v1]);
    await deploy();
    assert.ok((await slow).r > 0);
    on = false;
    await Promise.all([...clients, watch]);
    assert.equal(most, 1);
    assert.deepEqual(await call('hit'), { v: 3, r: n + 2 });
  });

  await test('an alarm rings, also in a process that was killed and that nobody visits', async () => {
    await call('alarmIn', 100);
    await until('the alarm', async () => (await call('recall', 'rang')).r === 1);
    await call('alarmIn', 2500);
    for (const w of p.processes('workerd')) process.kill(w.pid, 'SIGKILL');
    await until('the process to be gone', () => p.processes('workerd').length === 0);
    await until('a process that nobody asked for', () => p.processes('workerd').length > 0, 15_000, 100);
    await until('the alarm', async () => (await call('recall', 'rang')).r === 2);
  });

  await test('a renamed class keeps its objects, a deleted one leaves nothing', async () => {
    const before = (await call('hit')).r, old = (await api('GET', '/workers/durable_objects/namespaces')).json.result.find((n) => n.class === 'Old').id;
    config('Tally', 4, [v1, { tag: 'v2', renamed_classes: [{ from: 'Counter', to: 'Tally' }], deleted_classes: ['Old'] }]);
    await deploy();
    assert.deepEqual(await call('hit'), { v: 4, r: before + 1 });
    const spaces = (await api('GET', '/workers/durable_objects/namespaces')).json.result.filter((n) => n.script === 'counter');
    assert.deepEqual(spaces.map((n) => [n.id, n.class]), [[id, 'Tally']]);
    assert.ok(!fs.readdirSync(path.join(p.data, 'objects'), { recursive: true }).some((f) => f.includes(old)));
  });

  await test('a deployment that does not start leaves the old one and its storage', async () => {
    const before = (await call('hit')).r;
    const r = await p.api('PUT', '/accounts/:account/workers/scripts/counter', '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
      JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01', bindings: [{ type: 'durable_object_namespace', name: 'C', class_name: 'Tally' }] }) +
      '\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\nthrow new Error("not today"); export class Tally {} export default {}\r\n--b--', { 'content-type': 'multipart/form-data; boundary=b' });
    assert.equal(r.status, 400, r.text);
    assert.deepEqual(await call('hit'), { v: 4, r: before + 1 });
  });

  await test('the Worker takes its objects with it', async () => {
    assert.equal((await api('DELETE', '/workers/scripts/counter?force=true')).status, 200);
    assert.deepEqual((await api('GET', '/workers/durable_objects/namespaces')).json.result.filter((n) => n.script === 'counter'), []);
    assert.ok(!fs.readdirSync(path.join(p.data, 'objects'), { recursive: true }).some((f) => f.includes(id)));
  });
  fs.rmSync(dir, { recursive: true, force: true });
}
