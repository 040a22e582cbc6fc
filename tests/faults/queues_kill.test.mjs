// Queues under kill -9: of the daemon and of the consumer's process, while messages come and go. What was acknowledged to a producer is consumed, at
// least once; and of what nobody killed, nothing twice.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { Platform, sleep, temp_dir, until, write_files } from '../harness.mjs';

// What it was given is in KV before the batch is done: a handler that dies halfway leaves nothing that it did not do.
const worker = `
  export default {
    async fetch(req, env) {
      const n = Number(new URL(req.url).searchParams.get('n')), size = Number(new URL(req.url).searchParams.get('size') ?? 1);
      if (size === 1) await env.Q.send({ n });
      else await env.Q.sendBatch(Array.from({ length: size }, (_, i) => ({ body: { n: n + i } })));
      return new Response('sent');
    },
    async queue(batch, env) {
      await Promise.all(batch.messages.map((m) => env.KV.put('n/' + m.body.n + '/' + m.attempts + '/' + m.id, 'x')));
    },
  };`;

export async function run(test) {
  const dir = temp_dir('queue-faults');
  let p;
  const api = (method, target, body) => p.api(method, `/accounts/:account${target}`, body);
  let id, kv;

  if (!await test('a Worker that sends and consumes is deployed', async () => {
    p = await Platform.start();
    id = (await api('POST', '/queues', { queue_name: 'killed' })).json.result.queue_id;
    kv = (await api('POST', '/storage/kv/namespaces', { title: 'killed' })).json.result.id;
    write_files(dir, { 'w.js': worker, 'wrangler.jsonc': { name: 'killed', main: 'w.js', compatibility_date: '2026-11-01', kv_namespaces: [{ binding: 'KV', id: kv }],
      queues: { producers: [{ binding: 'Q', queue: 'killed' }], consumers: [{ queue: 'killed', max_batch_size: 10, max_batch_timeout: 0, max_retries: 100 }] } } });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
  })) return;

  const consumed = async () => {
    const names = [];
    for (let cursor = ''; ; ) {
      const r = (await api('GET', `/storage/kv/namespaces/${kv}/keys?prefix=n/&cursor=${cursor}`)).json;
      names.push(...r.result.map((k) => k.name));
      if (!(cursor = r.result_info.cursor)) return names.map((n) => Number(n.split('/')[1]));
    }
  };
  const empty = () => until('the queue to be empty', async () => (await api('GET', `/queues/${id}/metrics`).catch(() => ({}))).json?.result?.backlog_count === 0, 60_000, 100);
  // Sends from several clients until stop(); resolves to the numbers whose sending was acknowledged.
  const produce = (first, size) => {
    const acked = [];
    let stopped = false, next = first;
    const clients = Array.from({ length: 4 }, async () => {
      while (!stopped) {
        const n = next;
        next += size;
        const res = await p.worker('killed', `/?n=${n}&size=${size}`, { limit_ms: 20_000 }).catch(() => null);
        if (res?.status === 200 && await res.text().catch(() => '') === 'sent') acked.push(...Array.from({ length: size }, (_, i) => n + i));
        else await sleep(20);
      }
    });
    return { acked, stop: async () => { stopped = true; await Promise.all(clients); } };
  };

  await test('without a kill every message is consumed once', async () => {
    const run = produce(1_000_000, 5);
    await until('some messages', () => run.acked.length >= 200, 30_000);
    await run.stop();
    await empty();
    const got = await consumed();
    assert.deepEqual(got.sort((a, b) => a - b), run.acked.sort((a, b) => a - b));
  });

  for (const [what, victims] of [['the daemon', () => p.processes('daemon')], ['the Worker', () => p.processes('workerd')], ['both', () => [...p.processes('daemon'), ...p.processes('workerd')]]])
    await test(`nothing is lost when ${what} is killed again and again`, async () => {
      const run = produce(what === 'both' ? 4_000_000 : what === 'the Worker' ? 3_000_000 : 2_000_000, 3);
      for (let i = 0; i < 4; i++) {
        const before = run.acked.length;
        await until('more messages', () => run.acked.length >= before + 30, 60_000);
        for (const v of victims()) try { process.kill(v.pid, 'SIGKILL'); } catch { /* it was faster */ }
      }
      const before = run.acked.length;
      await until('messages after the last kill', () => run.acked.length >= before + 30, 60_000);
      await run.stop();
      await empty();
      const got = new Set(await consumed());
      assert.deepEqual(run.acked.filter((n) => !got.has(n)), []);
    });

  await test('and the platform ends as it should', async () => assert.equal((await p.stop()).code, 0));
  fs.rmSync(dir, { recursive: true, force: true });
}
