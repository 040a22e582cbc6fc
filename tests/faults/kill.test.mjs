// kill -9 of each process under load: service again within a second, nothing acknowledged lost, no connection refused
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { Platform, descendants, request, sleep, temp_dir, until, write_files } from '../harness.mjs';

const TINY = '@cf/selvedge/tiny-chat';
const hello = { 'wrangler.jsonc': { name: 'hello', main: 'index.js', compatibility_date: '2026-04-01' }, 'index.js': 'export default { fetch() { return new Response("hello"); } };' };

// Connects again and again; a refusal at the listener is what must never happen.
function knock(port) {
  const k = { refused: 0, n: 0, on: true };
  k.done = (async () => {
    while (k.on) {
      await new Promise((done) => {
        const s = net.connect(port, '127.0.0.1');
        s.on('connect', () => { k.n++; s.destroy(); done(); });
        s.on('error', (e) => { if (e.code === 'ECONNREFUSED') k.refused++; done(); });
      });
      await sleep(2);
    }
  })();
  return k;
}

export async function run(test) {
  let p;
  const dir = write_files(temp_dir('hello'), hello);
  const data = temp_dir('data');
  const small = { messages: [{ role: 'user', content: 'Hello.' }], temperature: 0, max_tokens: 4 };
  const checks = {
    workerd: async () => (await (await p.worker('hello', '/', { limit_ms: 3000 })).text()) === 'hello',
    haproxy: async () => (await (await p.worker('hello', '/', { limit_ms: 3000 })).text()) === 'hello',
    daemon: async () => (await p.api('GET', '/user/tokens/verify')).status === 200,
    engine: async () => (await p.run(TINY, small)).status === 200,
  };

  if (!await test('a platform with a Worker to be killed under', async () => {
    p = await Platform.start({ data });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    await until('the Worker', checks.workerd);
    await until('the engine', checks.engine);
  })) return;

  for (const kind of ['workerd', 'engine', 'daemon', 'haproxy'])
    await test(`kill -9 of ${kind} under load: back within 1 s, no connection refused`, async () => {
      for (let round = 0; round < 3; round++) {
        const load = { on: true, ok: 0, failed: 0 };
        const clients = [0, 1, 2, 3].map(async () => {
          while (load.on) await checks[kind]().then((ok) => { if (ok) load.ok++; else load.failed++; }, () => { load.failed++; });
        });
        const k = knock(p.port);
        await until('load', () => load.ok > 0);
        const victims = p.processes(kind);
        assert.ok(victims.length >= 1, `no ${kind} runs`);
        for (const v of victims) process.kill(v.pid, 'SIGKILL');
        const killed = Date.now();
        await until(`service after kill -9 of ${kind}`, () => checks[kind]().catch(() => false), 5000, 5);
        const back = Date.now() - killed;
        await sleep(100);
        load.on = k.on = false;
        await Promise.all([...clients, k.done]);
        assert.ok(back <= 1000, `back after ${back} ms`);
        assert.equal(k.refused, 0, 'connections refused');
        assert.ok(k.n > 10);
        assert.ok(load.failed <= 40, `${load.failed} failed`);
      }
    });

  await test('a stream that the engine\'s death cuts ends with an error event', async () => {
    // A model may end by itself before the blow: then another seed is tried.
    for (let seed = 1; ; seed++) {
      assert.ok(seed <= 30, 'every answer ended before the engine was killed');
      await until('the engine', () => checks.engine().catch(() => false));
      const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${TINY}`, headers: { authorization: `Bearer ${p.token}` },
        body: JSON.stringify({ prompt: 'Tell me a long story.', raw: true, temperature: 5, seed, max_tokens: 900, stream: true }) });
      let text = '', killed = false;
      for await (const d of r.stream) {
        text += d;
        if (!killed && text.split('\n\n').length > 3) {
          killed = true;
          for (const v of p.processes('engine')) process.kill(v.pid, 'SIGKILL');
        }
      }
      const last = text.trim().split('\n\n').filter((e) => e !== 'data: [DONE]').at(-1);
      if (/"finish_reason"/.test(last)) continue;
      assert.match(last, /error/, last.slice(0, 200));
      break;
    }
    await until('the engine', checks.engine);
  });

  await test('what was acknowledged before kill -9 of everything is there after', async () => {
    const made = await p.cli(['token', 'create', 'kept']);
    assert.equal(made.code, 0, made.all);
    const put = await p.api('PUT', '/accounts/:account/workers/scripts/hello/secrets', { name: 'KEPT', text: 'value', type: 'secret_text' });
    assert.equal(put.status, 200, put.text);
    const all = descendants(p.child.pid);
    p.child.kill('SIGKILL');
    await p.ended;
    await until('every process to end with the supervisor', () => all.every(({ pid }) => { try { return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '); } catch { return true; } }), 3000);
    p = await Platform.start({ data });
    assert.equal((await request({ port: p.port, path: '/client/v4/user/tokens/verify', headers: { authorization: `Bearer ${made.out.trim()}` } })).status, 200);
    const secrets = await p.api('GET', '/accounts/:account/workers/scripts/hello/secrets');
    assert.ok(secrets.json.result.some((s) => s.name === 'KEPT'), secrets.text);
    await until('the Worker', checks.workerd);
  });

  await test('a supervisor that is killed while it starts a process leaves none behind', async () => {
    const of_data = () => fs.readdirSync('/proc').filter((d) => /^\d+$/.test(d)).filter((d) => {
      try { return fs.readFileSync(`/proc/${d}/cmdline`, 'utf8').split('\0').includes(data) && !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${d}/status`, 'utf8')); } catch { return false; }
    });
    for (let round = 0; round < 12; round++) {
      process.kill(p.processes('daemon')[0].pid, 'SIGKILL'); // another is started at once
      for (const end = process.hrtime.bigint() + BigInt(Math.floor(Math.random() * 3_000_000)); process.hrtime.bigint() < end;);
      p.child.kill('SIGKILL');
      await p.ended;
      await until('every process to end with the supervisor', () => of_data().length === 0, 3000);
      p = await Platform.start({ data });
    }
    await until('the Worker', checks.workerd);
  });

  await test('a second serve on the same data is refused with a sentence', async () => {
    const r = await p.cli(['serve', '--listen', '127.0.0.1:0']);
    assert.equal(r.code, 1);
    assert.match(r.err, /data|another|runs/i);
  });

  await test('numbers that make no sense are refused before anything starts', async () => {
    for (const bad of [['--threads', 'x'], ['--threads', '-1'], ['--step-ms', '0'], ['--drain-ms', '99999999999']])
      assert.equal((await p.cli(['serve', '--listen', '127.0.0.1:0', ...bad])).code, 2, bad.join(' '));
  });

  await test('a signal of the terminal reaches the supervisor alone', () => {
    const group = (pid) => { const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8'); return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]; };
    for (const kind of ['daemon', 'engine', 'haproxy', 'workerd']) {
      assert.ok(p.processes(kind).length > 0, kind);
      for (const { pid } of p.processes(kind)) assert.notEqual(group(pid), group(p.child.pid), kind);
    }
  });

  await test('SIGTERM lets a running answer end, then nothing is left', async () => {
    const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${TINY}`, headers: { authorization: `Bearer ${p.token}` },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'Tell me a story.' }], temperature: 3, seed: 5, max_tokens: 300, stream: true }) });
    const first = await new Promise((done) => r.stream.once('data', done));
    const all = descendants(p.child.pid);
    const started = Date.now();
    p.child.kill('SIGTERM');
    let text = String(first);
    for await (const d of r.stream) text += d;
    assert.match(text, /\[DONE\]/);
    const exit = await p.ended;
    assert.deepEqual(exit, { code: 0, signal: null });
    assert.ok(Date.now() - started < 15_000);
    for (const { pid, argv } of all) assert.ok(!fs.existsSync(`/proc/${pid}`), `${argv.join(' ')} is left`);
  });
  await p.stop();
  fs.rmSync(data, { recursive: true, force: true });
  fs.rmSync(dir, { recursive: true, force: true });
}
