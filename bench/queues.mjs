// queues.mjs - messages a second into a queue and out of it, through a deployed Worker; each send is on the disk before the next of the same sender begins
import fs from 'node:fs';
import { Platform, temp_dir, until, write_files } from '../tests/harness.mjs';
import { ROUNDS, report } from './report.mjs';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 2);

// fetch sends for a while, from so many places at once; queue() counts, and tells how long it took from its first message to its last.
const worker = `
  let n = 0, first = 0, last = 0;
  const body = 'x'.repeat(1000);
  export default {
    async fetch(request, env) {
      const u = new URL(request.url), ms = Number(u.searchParams.get('ms')), at_once = Number(u.searchParams.get('at_once')), size = Number(u.searchParams.get('size'));
      if (u.pathname === '/seen') { const seen = { n, ms: last - first }; if (u.searchParams.has('reset')) n = first = 0; return Response.json(seen); }
      const start = Date.now();
      let sent = 0;
      await Promise.all(Array.from({ length: at_once }, async () => {
        while (Date.now() - start < ms) {
          if (size === 1) await env.Q.send(body, { contentType: 'text' });
          else await env.Q.sendBatch(Array.from({ length: size }, () => ({ body, contentType: 'text' })));
          sent += size;
        }
      }));
      return Response.json({ sent, ms: Date.now() - start });
    },
    queue(batch) { first ||= Date.now(); n += batch.messages.length; last = Date.now(); },
  };`;

export async function queue_cases() {
  const dir = temp_dir('bench-queues');
  const p = await Platform.start();
  const api = (method, target, body) => p.api(method, `/accounts/:account/queues${target}`, body);
  const call = async (target) => (await p.worker('bench-queues', target, { limit_ms: 120_000 })).json();
  try {
    const id = (await api('POST', '', { queue_name: 'bench' })).json.result.queue_id;
    write_files(dir, { 'index.js': worker, 'wrangler.jsonc': { name: 'bench-queues', main: 'index.js', compatibility_date: '2026-04-01', queues: { producers: [{ binding: 'Q', queue: 'bench' }],
      consumers: [{ queue: 'bench', max_batch_size: 100, max_batch_timeout: 0 }] } } });
    const r = await p.wrangler(dir, ['deploy']);
    if (r.code !== 0) throw new Error(r.all);
    const pause = (paused) => api('PATCH', `/${id}`, { settings: { delivery_paused: paused } });
    const purge = () => api('POST', `/${id}/purge`, { delete_messages_permanently: true });
    await call(`/?ms=200&at_once=1&size=1`);
    await pause(true);
    for (const [name, at_once, size] of [['one sender', 1, 1], ['50 senders', 50, 1], ['one sender of 100', 1, 100], ['8 senders of 100', 8, 100]]) {
      const ours = [];
      for (let i = 0; i < ROUNDS; i++) {
        await purge();
        const { sent, ms } = await call(`/?ms=${SECONDS * 250}&at_once=${at_once}&size=${size}`);
        ours.push(sent / ms * 1000);
      }
      report(`queues/send 1 KB, synced/${name}`, 'messages/s', ours);
    }
    const consumer = (await api('GET', `/${id}/consumers`)).json.result[0];
    for (const size of [1, 100]) {
      const n = size === 1 ? 1000 : 10_000, ours = [];
      await api('PUT', `/${id}/consumers/${consumer.consumer_id}`, { type: 'worker', script_name: 'bench-queues', settings: { batch_size: size, max_wait_time_ms: 0 } });
      for (let i = 0; i < ROUNDS; i++) {
        await purge();
        for (let k = 0; k < n; k += 100) await api('POST', `/${id}/messages/batch`, { messages: Array(100).fill({ body: 'x'.repeat(1000), content_type: 'text' }) });
        await call('/seen?reset');
        await pause(false);
        await until('the messages', async () => (await call('/seen')).n >= n, 120_000);
        ours.push(n / (await call('/seen')).ms * 1000);
        await pause(true);
      }
      report(`queues/consume 1 KB/batches of ${size}`, 'messages/s', ours);
    }
  } finally {
    await p.stop();
    fs.rmSync(dir, { recursive: true, force: true });
  }
}
