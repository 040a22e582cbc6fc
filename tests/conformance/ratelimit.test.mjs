// The rate limiting binding: the same calls in a deployed Worker and in miniflare; what is shared between Workers; what is refused at the deployment
//
// Where we differ from miniflare on purpose: two bindings with one namespace_id count together, in every Worker of the account, as the hosted
// service documents it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { Miniflare, convertV4MiniflareOptions } from 'miniflare';
import { sleep, temp_dir, write_files } from '../harness.mjs';

const worker = `
  export default {
    async fetch(req, env) {
      const out = [];
      for (const [name, ...args] of await req.json()) {
        try { out.push(await env[name].limit(...args)); } catch (e) { out.push(String(e)); }
      }
      return Response.json(out);
    },
  };`;

const ratelimits = [
  { name: 'TEN', namespace_id: '1001', simple: { limit: 3, period: 10 } },
  { name: 'SIXTY', namespace_id: '1002', simple: { limit: 2, period: 60 } },
];

const steps = [
  ...Array(5).fill(['TEN', { key: 'a' }]), ['TEN', { key: 'b' }], ['TEN', {}], ['TEN', { key: '' }], ...Array(4).fill(['SIXTY', { key: 'a' }]),
  ['SIXTY', { key: 'ü \u{1F600}' }], ['SIXTY', { key: 'w', delta: 2 }], ['SIXTY', { key: 'w' }], ['SIXTY', { key: 'v', delta: 1.9 }], ['SIXTY', { key: 'v' }], ['SIXTY', { key: 'v' }],
  ['SIXTY', { key: 'l', limit: 1 }], ['SIXTY', { key: 'l', limit: 1 }], ['SIXTY', { key: 'l', limit: 0 }], ['SIXTY', { key: 'p', period: 10 }],
  ['TEN'], ['TEN', null], ['TEN', 'text'], ['TEN', { key: 5 }], ['TEN', { key: 'a', colour: 1, size: 2 }], ['TEN', { period: 30 }], ['TEN', { limit: 'x' }], ['TEN', { period: '10' }],
  ['TEN', { delta: 0 }], ['TEN', { delta: -1 }], ['TEN', { delta: 'x' }], ['TEN', { delta: 2 ** 33 }], ['TEN', { delta: '2', key: 'd' }],
];

export async function run(test, p) {
  const dir = temp_dir('ratelimit');
  const call = async (name, list) => (await p.worker(name, '/', { method: 'POST', body: JSON.stringify(list) })).json();
  // A whole window of 10 s: nothing of what follows falls into two.
  const fresh_window = async (need_ms) => { const left = 10_000 - Date.now() % 10_000; if (left < need_ms) await sleep(left + 10); };
  const upload = (name, bindings) => p.api('PUT', `/accounts/:account/workers/scripts/${name}`, '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
    JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01', bindings }) +
    `\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\n${worker}\r\n--b--`, { 'content-type': 'multipart/form-data; boundary=b' });

  await test('wrangler deploys a Worker with rate limits', async () => {
    write_files(dir, { 'wrangler.jsonc': { name: 'rl-test', main: 'w.js', compatibility_date: '2026-11-01', ratelimits }, 'w.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
  });

  await test('every call gives what it gives in miniflare', async () => {
    const mf = new Miniflare(convertV4MiniflareOptions({ modules: true, script: worker, compatibilityDate: '2026-11-01', ratelimits: Object.fromEntries(ratelimits.map(({ name, ...rest }) => [name, rest])) }));
    await mf.ready;
    await fresh_window(3000);
    const body = JSON.stringify(steps);
    const [ours, theirs] = await Promise.all([call('rl-test', steps), mf.dispatchFetch('http://x/', { method: 'POST', body }).then((r) => r.json())]);
    await mf.dispose();
    for (let i = 0; i < steps.length; i++) assert.deepEqual(ours[i], theirs[i], `step ${i}: ${JSON.stringify(steps[i])}`);
  });

  await test('a namespace is one for the Workers of an account, and the next window begins anew', async () => {
    const simple = { limit: 3, period: 10 };
    const r = await upload('rl-other', [{ type: 'ratelimit', name: 'SAME', namespace_id: '1001', simple }, { type: 'ratelimit', name: 'OWN', namespace_id: '7', simple }]);
    assert.equal(r.status, 200, r.text);
    await fresh_window(1500);
    const pass = { success: true }, stop = { success: false };
    assert.deepEqual(await call('rl-test', Array(2).fill(['TEN', { key: 'shared' }])), [pass, pass]);
    assert.deepEqual(await call('rl-other', [['SAME', { key: 'shared' }], ['SAME', { key: 'shared' }], ['OWN', { key: 'shared' }]]), [pass, stop, pass]);
    assert.deepEqual(await call('rl-test', [['TEN', { key: 'shared' }]]), [stop]);
    await sleep(10_000 - Date.now() % 10_000 + 20);
    assert.deepEqual(await call('rl-test', [['TEN', { key: 'shared' }]]), [pass]);
  });

  await test('a rate limit that cannot be is refused with a sentence', async () => {
    const cases = [{}, { simple: {} }, { simple: { limit: 0, period: 10 } }, { simple: { limit: 1, period: 30 } }, { simple: { limit: 1.5, period: 10 } }, { simple: { limit: 1, period: 10, x: 1 } }, { simple: { limit: '1', period: 10 } }];
    for (const c of cases) {
      const r = await upload('rl-bad', [{ type: 'ratelimit', name: 'MINE', namespace_id: '1', ...c }]);
      assert.deepEqual([r.status, r.json.errors[0].code], [400, 10021], JSON.stringify(c));
      assert.match(r.json.errors[0].message, /MINE/);
    }
    assert.equal((await upload('rl-bad', [{ type: 'ratelimit', name: 'MINE', simple: { limit: 1, period: 10 } }])).status, 400);
  });

  fs.rmSync(dir, { recursive: true, force: true });
}
