// Queues: a deployed Worker that sends and consumes, beside the same Worker in miniflare; stock wrangler's commands; the SDK; pulls; hostile input
//
// Where we differ from miniflare on purpose:
//   - the backlog in the answer of a send is the queue's here; miniflare counts what its consumer has not flushed yet
//   - what was acknowledged before the handler threw stays so, as the hosted service documents; miniflare delivers it again
//   - a refusal says why, where miniflare says "Unknown Internal Error"
import assert from 'node:assert/strict';
import fs from 'node:fs';
import Cloudflare from 'cloudflare';
import { Miniflare, convertV4MiniflareOptions } from 'miniflare';
import { sleep, temp_dir, until, write_files } from '../harness.mjs';

// fetch: runs the steps it is sent on env.Q, or tells what its queue() has seen. A message's body says what its consumer does with it.
const worker = `
  const seen = [];
  const make = (a) => {
    switch (a?.$) {
      case 'bytes': return Uint8Array.from(a.v);
      case 'map': return new Map(a.v);
      case 'date': return new Date(a.v);
      case 'repeat': return a.v.repeat(a.n);
      case 'undefined': return undefined;
      case 'function': return () => 1;
      case 'many': return Array.from({ length: a.n }, (_, i) => ({ body: a.size ? 'x'.repeat(a.size) : i, contentType: 'json' }));
      default: return Array.isArray(a) ? a.map(make) : a && typeof a === 'object' ? Object.fromEntries(Object.entries(a).map(([k, v]) => [k, make(v)])) : a;
    }
  };
  const show = (b) => b instanceof Uint8Array ? { bytes: [...b] } : b instanceof ArrayBuffer ? { buffer: [...new Uint8Array(b)] } : b instanceof Map ? { map: [...b].map(([k, v]) => [k, show(v)]) } : b instanceof Date ? { date: b.getTime() } : b;
  export default {
    async fetch(req, env) {
      if (req.method === 'GET') return Response.json(seen);
      if (req.method === 'DELETE') { seen.length = 0; return Response.json(null); }
      const out = [];
      for (const [method, ...args] of await req.json()) {
        try { const v = await env.Q[method](...args.map(make)); out.push(v === undefined ? { undefined: true } : v); }
        catch (e) { out.push({ error: String(e) }); }
      }
      return Response.json(out);
    },
    async queue(batch, env, ctx) {
      const mine = batch.messages.map((m) => ({ queue: batch.queue, body: show(m.body), attempts: m.attempts, id: m.id, at: m.timestamp.getTime(), isDate: m.timestamp instanceof Date }));
      seen.push({ messages: mine, metadata: batch.metadata });
      for (const m of batch.messages) {
        const [what, n = 1, opts] = Array.isArray(m.body) ? m.body : [];
        if (m.attempts > n) continue;
        if (what === 'retry') m.retry(opts);
        if (what === 'ack') m.ack();
        if (what === 'retryAll') batch.retryAll(opts);
        if (what === 'ackAll') batch.ackAll();
        if (what === 'throw') throw new Error('the consumer says no');
        if (what === 'wait') ctx.waitUntil(new Promise((done) => setTimeout(done, 200)).then(() => seen.push('waited')));
      }
    },
  };`;

const steps = {
  'every kind of body': [
    ['send', { a: 1, ü: [null, '\u{1F600}'] }], ['send', 'text', { contentType: 'text' }], ['send', 'json text', { contentType: 'json' }], ['send', { $: 'bytes', v: [0, 255, 128] }, { contentType: 'bytes' }],
    ['send', { $: 'map', v: [['k', { $: 'date', v: 86400000 }]] }, { contentType: 'v8' }], ['send', null], ['send', 0], ['send', false], ['send', ''], ['send', '', { contentType: 'text' }], ['send', { $: 'bytes', v: [] }, { contentType: 'bytes' }],
    ['sendBatch', [{ body: 'b1' }, { body: 'b2', contentType: 'text' }, { body: { $: 'bytes', v: [1] }, contentType: 'bytes' }, { body: { $: 'date', v: 5 }, contentType: 'v8' }]],
  ],
  'what is refused': [
    ['send', { $: 'undefined' }], ['send', { $: 'function' }], ['send', 5, { contentType: 'text' }], ['send', 'x', { contentType: 'bytes' }], ['send', 'x', { contentType: 'strange' }], ['send', { $: 'function' }, { contentType: 'v8' }],
    ['sendBatch', []], ['sendBatch', [{}]], ['sendBatch', 'x'], ['send', 'x', { delaySeconds: -1 }], ['send', 'x', { delaySeconds: 86401 }], ['send', 'x', { delaySeconds: 'y' }],
    ['sendBatch', [{ body: 1, delaySeconds: 86401 }]], ['send', { $: 'repeat', v: 'x', n: 127998 }], ['send', { $: 'repeat', v: 'x', n: 127999 }], ['send', { $: 'repeat', v: 'x', n: 128000 }, { contentType: 'text' }],
    ['send', { $: 'repeat', v: 'x', n: 128001 }, { contentType: 'text' }], ['sendBatch', { $: 'many', n: 100 }], ['sendBatch', { $: 'many', n: 101 }], ['sendBatch', { $: 'many', n: 2, size: 120000 }], ['sendBatch', { $: 'many', n: 3, size: 120000 }],
  ],
};

const quiet = (v) => JSON.parse(JSON.stringify(v, (k, x) => k === 'metrics' ? '<metrics>' : x));
const by_body = (list) => list.filter((b) => b.messages).flatMap((b) => b.messages).map(({ id, at, ...m }) => m).sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);

export async function run(test, p) {
  const dir = temp_dir('queues');
  const client = new Cloudflare({ apiToken: p.token, baseURL: p.base, maxRetries: 0 });
  const where = { account_id: p.account };
  const wrangler = async (args, opts) => {
    const r = await p.wrangler(dir, args, opts);
    assert.equal(r.code, 0, r.all);
    return r.all;
  };
  const q_api = (method, target, body) => p.api(method, `/accounts/:account/queues${target}`, body);
  const ours = {
    steps: async (list) => {
      const r = await p.worker('queue-test', '/', { method: 'POST', body: JSON.stringify(list) });
      return r.json();
    },
    seen: async () => (await p.worker('queue-test')).json(),
    clear: async () => (await p.worker('queue-test', '/', { method: 'DELETE' })).text(),
  };
  let id;
  const config = (more) => write_files(dir, { 'w.js': worker, 'wrangler.jsonc': { name: 'queue-test', main: 'w.js', compatibility_date: '2026-11-01', queues: { producers: [{ binding: 'Q', queue: 'jobs' }], ...more } } });

  await test('wrangler makes, lists and describes queues', async () => {
    config();
    await Promise.all([wrangler(['queues', 'create', 'jobs']), wrangler(['queues', 'create', 'dead', '--message-retention-period-secs', '3600', '--delivery-delay-secs', '2'])]);
    const listed = await wrangler(['queues', 'list']);
    assert.match(listed, /jobs/);
    assert.match(listed, /dead/);
    const dead = (await q_api('GET', '?name=dead')).json.result;
    assert.equal(dead.length, 1);
    assert.deepEqual(dead[0].settings, { delivery_delay: 2, message_retention_period: 3600, delivery_paused: false });
    await wrangler(['queues', 'update', 'dead', '--delivery-delay-secs', '0']);
    assert.equal((await q_api('GET', `/${dead[0].queue_id}`)).json.result.settings.delivery_delay, 0);
    id = (await q_api('GET', '?name=jobs&page=1')).json.result[0].queue_id;
    const [shown, again] = await Promise.all([wrangler(['queues', 'info', 'jobs']), p.wrangler(dir, ['queues', 'create', 'jobs'])]);
    assert.match(shown, new RegExp(id));
    assert.notEqual(again.code, 0);
    assert.match(again.all, /already taken/);
  });

  await test('a Worker with a queue that is not there is refused at the deployment', async () => {
    const r = await p.api('PUT', '/accounts/:account/workers/scripts/queue-none', '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
      JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01', bindings: [{ type: 'queue', name: 'Q', queue_name: 'nowhere' }] }) +
      '\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\nexport default {}\r\n--b--', { 'content-type': 'multipart/form-data; boundary=b' });
    assert.deepEqual([r.status, r.json.errors[0].code], [400, 10021]);
    assert.match(r.json.errors[0].message, /'Q'.*'nowhere' does not exist/);
  });

  await test('wrangler deploys a producer and consumer', async () => {
    config({ consumers: [{ queue: 'jobs', max_batch_size: 10, max_batch_timeout: 0, max_retries: 2, dead_letter_queue: 'dead' }] });
    const out = await wrangler(['deploy']);
    assert.match(out, /Consumer for jobs/);
    const q = (await q_api('GET', `/${id}`)).json.result;
    assert.deepEqual(q.producers, [{ type: 'worker', script: 'queue-test' }]);
    assert.equal(q.consumers.length, 1);
    assert.deepEqual([q.consumers[0].script, q.consumers[0].dead_letter_queue, q.consumers[0].settings.max_wait_time_ms], ['queue-test', 'dead', 0]);
  });

  await test('a second deployment changes the consumer', async () => {
    config({ consumers: [{ queue: 'jobs', max_batch_size: 5, max_batch_timeout: 0, max_retries: 2, dead_letter_queue: 'dead', retry_delay: 0 }] });
    await wrangler(['deploy']);
    assert.equal((await q_api('GET', `/${id}/consumers`)).json.result[0].settings.batch_size, 5);
  });

  let mf, theirs;
  await test('miniflare starts beside us', async () => {
    mf = new Miniflare(convertV4MiniflareOptions({ modules: true, script: worker, compatibilityDate: '2026-11-01', queueProducers: { Q: 'jobs' },
      queueConsumers: { jobs: { maxBatchSize: 5, maxBatchTimeout: 0, maxRetries: 2, deadLetterQueue: 'dead' } } }));
    await mf.ready;
    const call = async (method, body) => (await mf.dispatchFetch('http://x/', { method, body })).json();
    theirs = { steps: (list) => call('POST', JSON.stringify(list)), seen: () => call('GET'), clear: () => call('DELETE') };
  });
  // Both run the steps, until both have seen as many messages as miniflare had at its end.
  const both = async (list, n) => {
    const results = [], seen = [];
    for (const side of [theirs, ours]) {
      await side.clear();
      results.push(quiet(await side.steps(list)));
      seen.push(await until(`${n} messages`, async () => {
        const s = await side.seen();
        return s.filter((b) => b.messages).flatMap((b) => b.messages).length >= n && s;
      }, 15_000));
      await sleep(100); // a message too many would show by now
    }
    return { results, seen };
  };

  await test('as in miniflare: every kind of body', async () => {
    const list = steps['every kind of body'];
    const { results, seen } = await both(list, 15);
    for (let i = 0; i < list.length; i++) assert.deepEqual(results[1][i], results[0][i], `step ${i}: ${JSON.stringify(list[i])}`);
    assert.deepEqual(by_body(seen[1]), by_body(seen[0]));
    assert.ok(seen[1].every((b) => b.messages.every((m) => m.isDate && Math.abs(m.at - Date.now()) < 60_000 && /^[0-9a-f]{32}$/.test(m.id))));
  });

  await test('as in miniflare: what is refused', async () => {
    const list = steps['what is refused'];
    const { results } = await both(list, 1);
    const worded = (a, b) => b.error === 'Error: Unknown Internal Error (15000)' && / \((10207|10252)\)$/.test(a.error) ? b : a;
    for (let i = 0; i < list.length; i++) assert.deepEqual(worded(results[1][i], results[0][i]), results[0][i], `step ${i}: ${JSON.stringify(list[i]).slice(0, 200)}`);
    assert.match(results[1][14].error, /message length of 128001 bytes exceeds limit of 128000 \(10252\)/);
  });

  await test('as in miniflare: what a consumer decides', async () => {
    for (const [list, n] of [
      [[['send', ['retry', 1]], ['send', ['retry', 2]]], 5], // once more each; twice more the second
      [[['sendBatch', [['retryAll', 1], 'with it', ['ack', 1]].map((body) => ({ body }))]], 5],
      [[['sendBatch', [['throw', 1], 'with it'].map((body) => ({ body }))]], 4],
      [[['sendBatch', [['ackAll', 1], 'with it'].map((body) => ({ body }))]], 2],
      [[['send', ['retry', 9]]], 3], // and then to the dead letter queue
      [[['send', ['retry', 1, { delaySeconds: 1 }]]], 2],
      [[['send', 'later', { delaySeconds: 1 }]], 1],
    ]) {
      const { seen } = await both(list, n);
      assert.deepEqual(by_body(seen[1]), by_body(seen[0]), JSON.stringify(list));
    }
  });

  await test('what was acknowledged before the handler threw stays so', async () => {
    await ours.clear();
    await ours.steps([['sendBatch', [['ack', 1], ['throw', 1]].map((body) => ({ body }))]]);
    await until('the second delivery', async () => (await ours.seen()).length === 2);
    assert.deepEqual((await ours.seen()).map((b) => b.messages.map((m) => m.body[0])), [['ack', 'throw'], ['throw']]);
  });

  await test('as in miniflare: a full batch goes out at once, in order', async () => {
    const { seen } = await both([['sendBatch', { $: 'many', n: 20 }]], 20);
    for (const s of seen) assert.deepEqual(s.map((b) => b.messages.map((m) => m.body)), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]);
  });

  await mf?.dispose();

  await test('what was retried too often lies in the dead letter queue', async () => {
    const dead = (await q_api('GET', '?name=dead')).json.result[0].queue_id;
    const r = (await q_api('POST', `/${dead}/messages/peek`, { batch_size: 10 })).json.result;
    assert.deepEqual(r.messages.map((m) => Buffer.from(m.body, 'base64').toString()), ['["retry",9]']);
    assert.equal((await q_api('GET', `/${dead}/metrics`)).json.result.backlog_count, 1);
    assert.equal((await q_api('GET', `/${id}/metrics`)).json.result.backlog_count, 0);
  });

  await test('a message is done when waitUntil is, and env.Q.metrics() counts', async () => {
    await ours.clear();
    await ours.steps([['send', ['wait', 1]]]);
    await until('the work after the handler', async () => (await ours.seen()).includes('waited'));
    await until('the backlog to be empty', async () => (await ours.steps([['metrics']]))[0].backlogCount === 0);
  });
  await test('wrangler pauses, resumes and purges', async () => {
    await ours.clear();
    await wrangler(['queues', 'pause-delivery', 'jobs']);
    await ours.steps([['sendBatch', { $: 'many', n: 5 }]]);
    await sleep(300);
    assert.deepEqual(await ours.seen(), []);
    assert.equal((await q_api('GET', `/${id}`)).json.result.settings.delivery_paused, true);
    await wrangler(['queues', 'purge', 'jobs', '--force']);
    assert.equal((await ours.steps([['metrics']]))[0].backlogCount, 0);
    await ours.steps([['send', 'after']]);
    await wrangler(['queues', 'resume-delivery', 'jobs']);
    await until('what was sent while it was paused', async () => (await ours.seen()).length === 1);
    assert.equal((await ours.seen())[0].messages[0].body, 'after');
  });

  await test('a process that sleeps is started by a message', async () => {
    await ours.clear();
    for (const w of p.processes('workerd')) process.kill(w.pid, 'SIGKILL');
    await until('the processes to be gone', () => p.processes('workerd').length === 0);
    assert.equal((await q_api('POST', `/${id}/messages`, { body: { woken: true }, content_type: 'json' })).status, 200);
    await until('the message', async () => p.processes('workerd').length > 0 && (await ours.seen()).some((b) => b.messages?.[0].body.woken));
  });

  await test('a consumer that is deleted and comes back gets what was sent meanwhile, and no attempt is counted', async () => {
    assert.equal((await p.api('DELETE', '/accounts/:account/workers/scripts/queue-test?force=true')).status, 200);
    await q_api('POST', `/${id}/messages`, { body: 'waited' });
    await sleep(300);
    await wrangler(['deploy']);
    await until('the message', async () => (await ours.seen()).some((b) => b.messages?.[0].body === 'waited' && b.messages[0].attempts === 1), 15_000);
  });

  await test('wrangler removes the consumer and adds it again', async () => {
    await wrangler(['queues', 'consumer', 'remove', 'jobs', 'queue-test']);
    assert.equal((await q_api('GET', `/${id}`)).json.result.consumers_total_count, 0);
    await wrangler(['queues', 'consumer', 'add', 'jobs', 'queue-test', '--batch-size', '7', '--batch-timeout', '2', '--message-retries', '4', '--dead-letter-queue', 'dead', '--max-concurrency', '2', '--retry-delay-secs', '9']);
    const c = (await q_api('GET', `/${id}/consumers`)).json.result[0];
    assert.deepEqual(c.settings, { batch_size: 7, max_retries: 4, retry_delay: 9, max_wait_time_ms: 2000, max_concurrency: 2 });
    assert.match(await wrangler(['queues', 'subscription', 'list', 'jobs']), /[Nn]o event subscriptions/);
    const nobody = await p.wrangler(dir, ['queues', 'consumer', 'add', 'dead', 'nobody']);
    assert.notEqual(nobody.code, 0);
    assert.match(nobody.all, /does not exist/);
  });

  let pulled;
  await test('wrangler removes the consumer and adds one that pulls', async () => {
    await wrangler(['queues', 'consumer', 'remove', 'jobs', 'queue-test']);
    await wrangler(['queues', 'consumer', 'http', 'add', 'jobs', '--batch-size', '10', '--message-retries', '2', '--visibility-timeout-secs', '1', '--dead-letter-queue', 'dead']);
    assert.match(await wrangler(['queues', 'consumer', 'list', 'jobs']), /http_pull|HTTP/i);
    const c = (await q_api('GET', `/${id}/consumers`)).json.result[0];
    assert.deepEqual([c.type, c.settings.batch_size, c.settings.visibility_timeout_ms, c.settings.max_retries], ['http_pull', 10, 1000, 2]);
    pulled = client.queues.messages;
  });

  await test('the SDK pushes, peeks, pulls, acknowledges and retries', async () => {
    const at = { ...where };
    const m = await pulled.push(id, { ...at, body: 'plain', content_type: 'text' });
    assert.deepEqual([m.metadata.metrics.backlog_count, m.metadata.metrics.backlog_bytes], [1, 5]);
    await pulled.bulkPush(id, { ...at, messages: [{ body: { n: 1 }, content_type: 'json' }, { body: 'ü', content_type: 'text' }, { body: 'later', content_type: 'text', delay_seconds: 60 }] });
    await ours.steps([['send', { $: 'bytes', v: [0, 255] }, { contentType: 'bytes' }]]);
    const peeked = await pulled.peek(id, { ...at, batch_size: 10 });
    assert.deepEqual(peeked.messages.map((x) => x.attempts), [0, 0, 0, 0]);
    const got = await pulled.pull(id, { ...at, batch_size: 10, visibility_timeout_ms: 60_000 });
    assert.equal(got.message_backlog_count, 5);
    assert.deepEqual(got.messages.map((x) => [x.metadata['CF-Content-Type'], x.attempts]), [['text', 1], ['json', 1], ['text', 1], ['bytes', 1]]);
    assert.equal(got.messages[0].body, 'plain');
    assert.equal(Buffer.from(got.messages[1].body, 'base64').toString(), '{"n":1}');
    assert.equal(got.messages[2].body, 'ü');
    assert.deepEqual([...Buffer.from(got.messages[3].body, 'base64')], [0, 255]);
    assert.deepEqual((await pulled.pull(id, { ...at, batch_size: 10 })).messages, []);
    const done = await pulled.ack(id, { ...at, acks: [0, 2, 3].map((i) => ({ lease_id: got.messages[i].lease_id })), retries: [{ lease_id: got.messages[1].lease_id }] });
    assert.deepEqual([done.ackCount, done.retryCount, done.warnings], [3, 1, {}]);
    const again = await pulled.pull(id, { ...at, visibility_timeout_ms: 1 });
    assert.deepEqual(again.messages.map((x) => [x.id, x.attempts]), [[got.messages[1].id, 2]]);
    const late = await until('the lease to end', async () => { // one millisecond
      const r = await pulled.pull(id, { ...at, visibility_timeout_ms: 60_000 });
      return r.messages.length && r.messages;
    });
    assert.equal(late[0].attempts, 3);
    const lost = await pulled.ack(id, { ...at, acks: [{ lease_id: again.messages[0].lease_id }, { lease_id: 'nonsense' }] });
    assert.deepEqual([lost.ackCount, Object.keys(lost.warnings).length], [0, 2]);
    await pulled.ack(id, { ...at, retries: [{ lease_id: late[0].lease_id }] }); // the third time was the last
    assert.equal((await client.queues.getMetrics(id, at)).backlog_count, 1);
    const dead = (await q_api('GET', '?name=dead')).json.result[0].queue_id;
    const buried = await pulled.peek(dead, { ...at, batch_size: 100 });
    assert.ok(buried.messages.some((x) => x.id === got.messages[1].id));
    await pulled.purge(dead, { ...at, refs: buried.messages.map((x) => ({ ref: x.ref })) });
    assert.equal((await client.queues.getMetrics(dead, at)).backlog_count, 0);
  });

  await test('the SDK manages queues and consumers', async () => {
    const q = await client.queues.create({ ...where, queue_name: 'of-the-sdk' });
    assert.deepEqual([q.producers_total_count, q.consumers_total_count], [0, 0]);
    const c = await client.queues.consumers.create(q.queue_id, { ...where, type: 'http_pull', settings: { batch_size: 50, visibility_timeout_ms: 12_000 } });
    assert.equal((await client.queues.consumers.get(c.consumer_id, { ...where, queue_id: q.queue_id })).settings.batch_size, 50);
    await client.queues.consumers.update(c.consumer_id, { ...where, queue_id: q.queue_id, type: 'worker', script_name: 'queue-test', settings: { max_concurrency: 3 } });
    const [listed] = (await client.queues.consumers.list(q.queue_id, where)).result;
    assert.deepEqual([listed.type, listed.script_name, listed.settings.max_concurrency], ['worker', 'queue-test', 3]);
    await client.queues.edit(q.queue_id, { ...where, settings: { delivery_delay: 30 } });
    assert.equal((await client.queues.get(q.queue_id, where)).settings.delivery_delay, 30);
    const names = [];
    for await (const x of client.queues.list(where)) names.push(x.queue_name);
    assert.ok(names.includes('of-the-sdk') && names.includes('jobs'));
    await client.queues.consumers.delete(c.consumer_id, { ...where, queue_id: q.queue_id });
    await client.queues.purge.start(q.queue_id, { ...where, delete_messages_permanently: true });
    await client.queues.delete(q.queue_id, where);
    await assert.rejects(client.queues.get(q.queue_id, where), (e) => e instanceof Cloudflare.NotFoundError && e.errors[0].code === 11000);
  });

  await test('what no client should send is refused with its number', async () => {
    const big = 'x'.repeat(128_001), c = (await q_api('GET', `/${id}/consumers`)).json.result[0].consumer_id;
    const cases = [
      ['POST', '', { queue_name: 'a b' }, 400, 11003], ['POST', '', { queue_name: 'x'.repeat(64) }, 400, 11003], ['POST', '', {}, 400, 11003], ['POST', '', { queue_name: 7 }, 400, 11003], ['POST', '', { queue_name: 'jobs' }, 400, 11009],
      ['POST', '', 'x', 400, 10026], ['POST', '', '[1]', 400, 10026], ['POST', '', '['.repeat(60_000), 400, 10026], ['POST', '', { queue_name: 'y', settings: { delivery_delay: -1 } }, 400, 100128],
      ['POST', '', { queue_name: 'y', settings: { message_retention_period: 59 } }, 400, 100128], ['POST', '', { queue_name: 'y', settings: { delivery_delay: 'z' } }, 400, 100128], ['GET', '/nobody', undefined, 404, 11000],
      ['PATCH', `/${id}`, { queue_name: 'dead' }, 400, 11009], ['PATCH', `/${id}`, { settings: 7 }, 400, 100128], ['POST', `/${id}/purge`, {}, 400, 10026], ['POST', `/${id}/consumers`, { type: 'http_pull' }, 400, 11004],
      ['PUT', `/${id}/consumers/${c}`, { type: 'strange' }, 400, 100127], ['PUT', `/${id}/consumers/${c}`, { type: 'worker' }, 400, 100127], ['PUT', `/${id}/consumers/${c}`, { type: 'worker', script_name: 'nobody' }, 404, 10007],
      ['PUT', `/${id}/consumers/${c}`, { type: 'http_pull', settings: { batch_size: 101 } }, 400, 100127], ['PUT', `/${id}/consumers/${c}`, { type: 'http_pull', dead_letter_queue: 'jobs' }, 400, 100127],
      ['PUT', `/${id}/consumers/none`, { type: 'http_pull' }, 404, 11004], ['DELETE', `/${id}/consumers/none`, undefined, 404, 11004],
      ['POST', `/${id}/messages`, { body: big, content_type: 'text' }, 413, 10252], ['POST', `/${id}/messages`, {}, 400, 10207], ['POST', `/${id}/messages`, { body: 1, content_type: 'text' }, 400, 10207], ['POST', `/${id}/messages`, { body: '!!', content_type: 'bytes' }, 400, 10207],
      ['POST', `/${id}/messages`, { body: 'x', delay_seconds: 86_401 }, 400, 10207], ['POST', `/${id}/messages/batch`, { messages: [] }, 400, 10207], ['POST', `/${id}/messages/batch`, { messages: Array(101).fill({ body: 'x' }) }, 413, 10252],
      ['POST', `/${id}/messages/batch`, { messages: Array(4).fill({ body: 'x'.repeat(100_000) }) }, 413, 10252], ['POST', `/${id}/messages/pull`, { batch_size: 0 }, 400, 10207], ['POST', `/${id}/messages/pull`, { visibility_timeout_ms: 43_200_001 }, 400, 10207],
      ['POST', `/${id}/messages/ack`, { acks: 7 }, 400, 10207], ['POST', `/${id}/messages/ack`, { acks: [{}] }, 400, 10207], ['POST', `/${id}/messages/ack`, { acks: Array(1001).fill({ lease_id: 'x' }) }, 400, 10207],
    ];
    for (const [method, target, body, status, code] of cases) {
      const r = await q_api(method, target, body);
      assert.deepEqual([r.status, r.json?.errors?.[0]?.code], [status, code], `${method} ${target} ${JSON.stringify(body)?.slice(0, 80)}: ${r.text.slice(0, 300)}`);
    }
    assert.equal((await p.api('GET', `/accounts/${'f'.repeat(32)}/queues/${id}`)).json.success, false);
    assert.equal((await q_api('GET', `/${id}/metrics`)).json.result.backlog_count, 1); // the one that is delayed
  });

  await test('wrangler deletes a queue, and its producer hears of it', async () => {
    await wrangler(['queues', 'delete', 'jobs']);
    assert.match((await ours.steps([['send', 'x']]))[0].error, /does not exist.*\(11000\)/);
    assert.equal((await q_api('GET', '?name=jobs')).json.result.length, 0);
  });

  fs.rmSync(dir, { recursive: true, force: true });
}
