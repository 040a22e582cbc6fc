// KV: every method of the binding in a deployed Worker beside the same Worker in miniflare; stock wrangler's commands; the SDK; hostile input
//
// Where we differ from miniflare on purpose:
//   - a cursor is opaque text in both, and its text differs
//   - a cursor of another namespace is refused with 400; miniflare takes any base64 for a place in the order
//   - get and put on a namespace that was deleted fail; miniflare cannot have that
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import Cloudflare from 'cloudflare';
import { Miniflare, convertV4MiniflareOptions } from 'miniflare';
import { temp_dir, until, write_files } from '../harness.mjs';

// Runs the steps it is sent, one after the other: [method, ...arguments]. An argument {$: kind, ...} stands for what JSON cannot hold.
const worker = `
  const make = (a) => {
    switch (a?.$) {
      case 'bytes': return Uint8Array.from(a.v);
      case 'buffer': return Uint8Array.from(a.v).buffer;
      case 'repeat': return a.v.repeat(a.n);
      case 'long': { const b = new Uint8Array(a.n); for (let i = 0; i < a.n; i++) b[i] = i * 7 % 251; return b; }
      case 'stream': return new Blob([a.v]).stream();
      case 'unsized': { const t = new TransformStream(); const w = t.writable.getWriter(); (async () => { for (const s of a.v) await w.write(new TextEncoder().encode(s)); await w.close(); })(); return t.readable; }
      case 'undefined': return undefined;
      case 'now': return Math.floor(Date.now() / 1000) + a.v;
      default: return a;
    }
  };
  const options = (a) => a && typeof a === 'object' && !a.$ && !Array.isArray(a) ? Object.fromEntries(Object.entries(a).map(([k, v]) => [k, make(v)])) : make(a);
  const sum = async (b) => b.byteLength > 1000 ? { n: b.byteLength, sha: [...new Uint8Array(await crypto.subtle.digest('SHA-256', b))].map((x) => x.toString(16).padStart(2, '0')).join('') } : { bytes: [...new Uint8Array(b)] };
  const show = async (v) => {
    if (v instanceof ReadableStream) return { stream: await sum(await new Response(v).arrayBuffer()) };
    if (v instanceof ArrayBuffer) return { buffer: await sum(v) };
    if (v instanceof Map) return { map: [...v] };
    if (v === undefined) return { undefined: true };
    if (v && typeof v === 'object' && 'value' in v) return { ...v, value: await show(v.value) };
    return v;
  };
  export default {
    async fetch(req, env) {
      const out = [];
      let cursor;
      for (const [method, ...args] of await req.json()) {
        try {
          const v = await env.KV[method](...args.map(options).map((a) => a?.cursor === 'last' ? { ...a, cursor } : a));
          cursor = v?.cursor ?? cursor;
          out.push(await show(v));
        } catch (e) { out.push({ error: String(e) }); }
      }
      return Response.json(out);
    },
  };`;

const bytes = (...v) => ({ $: 'bytes', v });
const key_512 = 'k'.repeat(508) + '\u{1F600}';
const steps = {
  'get in every type': [
    ['put', 'text', 'hello ü \u{1F600}'], ['get', 'text'], ['get', 'text', 'text'], ['get', 'text', 'arrayBuffer'], ['get', 'text', 'stream'], ['get', 'text', { type: 'text' }],
    ['put', 'json', '{"a":[1,2,{"b":null}]}'], ['get', 'json', 'json'], ['get', 'json', { type: 'json', cacheTtl: 60 }], ['get', 'text', 'json'], ['get', 'nothing'], ['get', 'nothing', 'json'],
    ['get', 'nothing', 'stream'], ['getWithMetadata', 'nothing'], ['get', 'text', { cacheTtl: 29 }], ['get', 'text', { cacheTtl: 30 }], ['get', 'text', 'strange'],
  ],
  'put of every kind': [
    ['put', 'bytes', bytes(0, 255, 128, 10)], ['get', 'bytes', 'arrayBuffer'], ['get', 'bytes'], ['put', 'buffer', { $: 'buffer', v: [1, 2] }], ['get', 'buffer', 'arrayBuffer'],
    ['put', 'stream', { $: 'stream', v: 'streamed' }], ['get', 'stream'], ['put', 'unsized', { $: 'unsized', v: ['one ', 'two ', 'three'] }], ['get', 'unsized'],
    ['put', 'empty', ''], ['get', 'empty'], ['get', 'empty', 'stream'], ['put', 'number', 42], ['get', 'number'], ['put', 'object', { x: 1 }], ['put', 'null', null],
    ['put', 'text', 'second'], ['get', 'text'],
  ],
  'big values': [
    ['put', 'big', { $: 'long', n: 65536 }], ['get', 'big', 'arrayBuffer'], ['put', 'big', { $: 'long', n: 65537 }], ['get', 'big', 'arrayBuffer'], ['put', 'big', { $: 'long', n: 3000001 }], ['get', 'big', 'stream'],
    ['put', 'big', { $: 'unsized', v: ['x'.repeat(70000), 'y'.repeat(300000), 'z'] }], ['get', 'big', 'arrayBuffer'], ['put', 'big', 'small'], ['get', 'big'],
  ],
  'metadata and expiry': [
    ['put', 'm', 'v', { metadata: { a: 1, 'é': 'ü', deep: [{}] } }], ['getWithMetadata', 'm'], ['getWithMetadata', 'm', 'json'], ['getWithMetadata', 'm', 'arrayBuffer'], ['getWithMetadata', 'm', { type: 'stream' }],
    ['put', 'm', 'v', { metadata: 'text' }], ['getWithMetadata', 'm'], ['put', 'm', 'v', { metadata: null }], ['getWithMetadata', 'm'], ['put', 'm', 'v'], ['getWithMetadata', 'm'],
    ['put', 'm', 'v', { metadata: { $: 'repeat', v: 'x', n: 1022 } }], ['put', 'm', 'v', { metadata: { $: 'repeat', v: 'x', n: 1023 } }],
    ['put', 'e', 'v', { expirationTtl: 60 }], ['get', 'e'], ['put', 'e', 'v', { expirationTtl: 59 }], ['put', 'e', 'v', { expirationTtl: 0 }], ['put', 'e', 'v', { expirationTtl: -1 }],
    ['put', 'e', 'v', { expiration: 2000000000 }], ['list', { prefix: 'e' }], ['put', 'e', 'v', { expiration: 1000 }], ['put', 'e', 'v', { expiration: 2000000000, expirationTtl: 10 }],
    ['put', 'e', 'v', { expirationTtl: 'x' }],
  ],
  'keys': [
    ['put', 'dir/k 2?é', '1'], ['get', 'dir/k 2?é'], ['put', 'a+b%20;=&#~!*\'()', '2'], ['get', 'a+b%20;=&#~!*\'()'], ['delete', 'a+b%20;=&#~!*\'()'], ['get', 'a+b%20;=&#~!*\'()'], ['put', 'bulk/get', '3'], ['get', 'bulk/get'],
    ['put', 'a/', '4'], ['get', 'a/'], ['get', 'a'], ['put', '/', '5'], ['get', '/'], ['put', 'nul\u0000key', '6'], ['get', 'nul\u0000key'], ['get', 'nul'], ['put', '...', '7'], ['get', '...'],
    ['put', '', 'v'], ['get', '.'], ['put', '..', 'v'], ['put', key_512, '8'], ['get', key_512], ['put', key_512 + 'x', '9'], ['get', key_512 + 'x'], ['delete', key_512 + 'x'], ['put', '\ud800', 'lone'], ['get', '\ufffd'],
    ['delete', 'nothing'], ['list', { prefix: 'a/' }], ['list', { prefix: 'dir/k 2?é' }], ['list', { prefix: 'nul' }],
  ],
  'lists': [
    ...['z', 'l/b', 'l/a', 'l/é', 'l/Z', 'l/10', 'l/2', 'l/\u{1F600}'].map((k, i) => ['put', k, String(i), i % 2 ? { metadata: { i } } : {}]),
    ['list', { prefix: 'l/' }], ['list', { prefix: 'l/', limit: 3 }], ['list', { prefix: 'l/', limit: 3, cursor: 'last' }], ['list', { prefix: 'l/', limit: 3, cursor: 'last' }], ['list', { prefix: 'l/', limit: 7 }], ['list', { prefix: 'nobody' }],
    ['list', { prefix: 'l/', limit: 1000 }], ['list', { limit: 1001 }], ['list', { limit: -1 }], ['list', { prefix: 'l/', limit: 0 }], ['list', { prefix: 'l/', limit: null }], ['list', { prefix: { $: 'repeat', v: 'p', n: 513 } }],
  ],
  'bulk get': [
    ['put', 'j1', '{"n":1}'], ['put', 'j2', '[true]', { metadata: { m: 2 } }], ['get', ['j1', 'j2', 'nothing']], ['get', ['j1', 'j2'], 'json'], ['get', ['j1', 'text'], 'json'], ['get', ['j1'], { type: 'json', cacheTtl: 60 }],
    ['getWithMetadata', ['j1', 'j2', 'nothing']], ['getWithMetadata', ['j2'], 'json'], ['get', ['j1'], 'arrayBuffer'], ['get', []], ['get', Array.from({ length: 100 }, (_, i) => `k${i}`)], ['get', Array.from({ length: 101 }, (_, i) => `k${i}`)],
    ['get', ['']], ['get', ['.']], ['get', ['j1', 'j1']], ['get', ['j1'], { cacheTtl: 10 }], ['get', ['bytes']],
  ],
};

const plain = (v) => JSON.parse(JSON.stringify(v, (k, x) => k === 'cursor' ? '<cursor>' : x));

export async function run(test, p) {
  const dir = temp_dir('kv');
  const client = new Cloudflare({ apiToken: p.token, baseURL: p.base, maxRetries: 0 });
  const where = { account_id: p.account };
  const wrangler = async (args, opts) => {
    const r = await p.wrangler(dir, ['kv', ...args], opts);
    assert.equal(r.code, 0, r.all);
    return r;
  };
  const ns_api = (method, target, body, headers) => p.api(method, `/accounts/:account/storage/kv/namespaces${target}`, body, headers);
  let id;

  await test('wrangler makes, lists and renames namespaces', async () => {
    write_files(dir, { 'wrangler.jsonc': { name: 'kv-test', main: 'w.js', compatibility_date: '2026-11-01' }, 'w.js': worker });
    const made = await wrangler(['namespace', 'create', 'first title']);
    id = made.out.match(/[0-9a-f]{32}/)[0];
    const [listed, again] = await Promise.all([wrangler(['namespace', 'list']), p.wrangler(dir, ['kv', 'namespace', 'create', 'first title'])]);
    assert.deepEqual(JSON.parse(listed.out).filter((n) => n.id === id), [{ id, title: 'first title', supports_url_encoding: true }]);
    assert.notEqual(again.code, 0);
    assert.match(again.all, /already exists/);
    await wrangler(['namespace', 'rename', '--namespace-id', id, '--new-name', 'second']);
    assert.equal((await ns_api('GET', `/${id}`)).json.result.title, 'second');
  });

  await test('a Worker with a namespace that is not there is refused at the deployment', async () => {
    const r = await p.api('PUT', '/accounts/:account/workers/scripts/kv-none', '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
      JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01', bindings: [{ type: 'kv_namespace', name: 'KV', namespace_id: '0'.repeat(32) }] }) +
      '\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\nexport default {}\r\n--b--', { 'content-type': 'multipart/form-data; boundary=b' });
    assert.deepEqual([r.status, r.json.errors[0].code], [400, 10021]);
    assert.match(r.json.errors[0].message, /'KV'.*namespace not found/);
  });

  await test('wrangler deploys a Worker with a namespace', async () => {
    write_files(dir, { 'wrangler.jsonc': { name: 'kv-test', main: 'w.js', compatibility_date: '2026-11-01', kv_namespaces: [{ binding: 'KV', id }] } });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
  });

  const ours = async (list) => {
    const res = await p.worker('kv-test', '/', { method: 'POST', body: JSON.stringify(list) });
    assert.equal(res.status, 200);
    return res.json();
  };
  let mf;
  await test('miniflare starts beside us', async () => {
    mf = new Miniflare(convertV4MiniflareOptions({ modules: true, script: worker, compatibilityDate: '2026-11-01', kvNamespaces: ['KV'] }));
    await mf.ready;
  });
  const theirs = async (list) => (await mf.dispatchFetch('http://x/', { method: 'POST', body: JSON.stringify(list) })).json();

  for (const [name, list] of Object.entries(steps))
    await test(`as in miniflare: ${name}`, async () => {
      const [a, b] = [plain(await ours(list)), plain(await theirs(list))];
      for (let i = 0; i < list.length; i++) assert.deepEqual(a[i], b[i], `step ${i}: ${JSON.stringify(list[i]).slice(0, 200)}`);
    });
  await mf?.dispose();

  await test('25 MiB go in and out, one byte more does not, and memory stays flat', async () => {
    const rss = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${p.processes('daemon')[0].pid}/status`, 'utf8'))[1]);
    const n = 25 << 20;
    const [put, got, over] = await ours([['put', 'max', { $: 'long', n }], ['get', 'max', 'stream'], ['put', 'max', { $: 'long', n: n + 1 }]]);
    assert.deepEqual(put, { undefined: true });
    assert.equal(got.stream.n, n);
    assert.deepEqual(over, { error: 'Error: KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.' });
    const before = rss();
    for (let i = 0; i < 4; i++) await Promise.all([1, 2, 3].map(() => ns_api('PUT', `/${id}/values/max`, new Uint8Array(n), { 'content-type': 'application/octet-stream' })));
    assert.ok(rss() - before < 40_000, `${rss() - before} KiB more`);
    assert.equal((await ns_api('PUT', `/${id}/values/max`, new Uint8Array(n + 1))).status, 413);
    await ours([['delete', 'max']]);
  });

  await test('wrangler puts, gets, lists and deletes keys', async () => {
    fs.writeFileSync(path.join(dir, 'v.bin'), Buffer.from([1, 2, 0, 255]));
    const at = ['--namespace-id', id, '--remote'];
    await Promise.all([
      wrangler(['key', 'put', 'w/k 1', 'value ü', ...at, '--ttl', '600', '--metadata', '{"a":[1]}']),
      wrangler(['key', 'put', 'w/file', '--path', 'v.bin', ...at]),
    ]);
    const [text, listed] = await Promise.all([wrangler(['key', 'get', 'w/k 1', ...at, '--text']), wrangler(['key', 'list', ...at, '--prefix', 'w/'])]);
    assert.equal(text.out.trim(), 'value ü');
    const keys = JSON.parse(listed.out);
    assert.deepEqual(keys.map((k) => k.name), ['w/file', 'w/k 1']);
    assert.deepEqual(keys[1].metadata, { a: [1] });
    assert.ok(Math.abs(keys[1].expiration - Date.now() / 1000 - 600) < 60);
    assert.deepEqual(await ours([['get', 'w/file', 'arrayBuffer']]), [{ buffer: { bytes: [1, 2, 0, 255] } }]);
    await wrangler(['key', 'delete', 'w/file', ...at]);
    assert.deepEqual(await ours([['get', 'w/file']]), [null]);
  });

  await test('wrangler puts, gets and deletes in bulk', async () => {
    const at = ['--namespace-id', id, '--remote'];
    write_files(dir, {
      'put.json': [{ key: 'b/1', value: 'one', metadata: { m: 1 } }, { key: 'b/2', value: Buffer.from([0, 200]).toString('base64'), base64: true }, { key: 'b/3', value: 'three', expiration_ttl: 100 },
        ...Array.from({ length: 1500 }, (_, i) => ({ key: `b/many/${i}`, value: `v${i}` }))],
      'get.json': ['b/1', 'b/3', 'b/none'], 'delete.json': ['b/1', 'b/none', ...Array.from({ length: 1500 }, (_, i) => `b/many/${i}`)] });
    await wrangler(['bulk', 'put', 'put.json', ...at]);
    const got = await wrangler(['bulk', 'get', 'get.json', ...at]);
    assert.match(got.out, /"b\/1"[\s\S]*one[\s\S]*three/);
    assert.deepEqual(await ours([['getWithMetadata', 'b/1'], ['get', 'b/2', 'arrayBuffer'], ['get', 'b/many/1499']]),
      [{ value: 'one', metadata: { m: 1 }, cacheStatus: null }, { buffer: { bytes: [0, 200] } }, 'v1499']);
    await wrangler(['bulk', 'delete', 'delete.json', '--force', ...at]);
    assert.deepEqual((await ns_api('GET', `/${id}/keys?prefix=b/`)).json.result.map((k) => k.name), ['b/2', 'b/3']);
  });

  await test('the SDK does the same', async () => {
    const kv = client.kv.namespaces;
    const made = await kv.create({ ...where, title: 'of the sdk' });
    const at = { ...where, namespace_id: made.id };
    await kv.values.update('s/k 1', { ...at, value: 'v1', metadata: { a: 'b', c: { d: 'e' } }, expiration_ttl: 120 });
    await kv.values.update('plain', { ...at, value: 'x', metadata: '{"n":1}' });
    const res = await kv.values.get('s/k 1', at);
    assert.equal(await res.text(), 'v1');
    assert.ok(Number(res.headers.get('expiration')) > Date.now() / 1000);
    assert.deepEqual(await kv.metadata.get('s/k 1', at), { a: 'b', c: { d: 'e' } });
    assert.deepEqual(await kv.metadata.get('plain', at), { n: 1 });
    const bulk = await kv.bulkUpdate(made.id, { ...at, body: Array.from({ length: 25 }, (_, i) => ({ key: `n${String(i).padStart(2, '0')}`, value: `${i}` })) });
    assert.equal(bulk.successful_key_count, 25);
    const names = [];
    for await (const k of kv.keys.list(made.id, { ...at, limit: 10, prefix: 'n' })) names.push(k.name);
    assert.equal(names.length, 25);
    assert.deepEqual((await kv.bulkGet(made.id, { ...at, keys: ['n01', 's/k 1', 'none'] })).values, { n01: '1', 's/k 1': 'v1', none: null });
    const full = (await kv.bulkGet(made.id, { ...at, keys: ['plain', 'none'], withMetadata: true, type: 'text' })).values;
    assert.deepEqual(full, { plain: { value: 'x', metadata: { n: 1 } }, none: null });
    await kv.bulkDelete(made.id, { ...at, body: names });
    await kv.values.delete('plain', at);
    assert.deepEqual((await kv.keys.list(made.id, at)).result.map((k) => k.name), ['s/k 1']);
    await assert.rejects(kv.values.get('plain', at), (e) => e instanceof Cloudflare.NotFoundError && e.errors[0].code === 10009);
    const all = [];
    for await (const n of kv.list({ ...where, per_page: 5 })) all.push(n.id);
    assert.ok(all.includes(made.id) && all.includes(id));
    await kv.delete(made.id, where);
    await assert.rejects(kv.get(made.id, where), (e) => e instanceof Cloudflare.NotFoundError && e.errors[0].code === 10013);
  });

  await test('what no client should send is refused with its number', async () => {
    const other = (await ns_api('POST', '', { title: 'other' })).json.result.id;
    await ns_api('PUT', `/${other}/bulk`, ['a', 'b'].map((key) => ({ key, value: '1' })));
    const cursor = (await ns_api('GET', `/${other}/keys?limit=1`)).json.result_info.cursor;
    const pairs = (n) => Array.from({ length: n }, (_, i) => ({ key: `${i}`, value: '' }));
    const cases = [
      ['GET', `/${id}/keys?cursor=${cursor}`, undefined, 400, 10012], ['GET', `/${id}/keys?limit=1001`, undefined, 400, 10012], ['GET', `/${id}/keys?cursor=${'A'.repeat(5000)}`, undefined, 400, 10012],
      ['PUT', `/${id}/values/${'k'.repeat(513)}`, 'v', 414, 10030], ['PUT', `/${id}/values/%ff`, 'v', 400, 10012], ['PUT', `/${id}/values/%zz`, 'v', 400, 10012], ['PUT', `/${id}/values/.`, 'v', 400, 10012],
      ['PUT', `/${id}/values/k?expiration_ttl=5`, 'v', 400, 10034], ['PUT', `/${id}/values/k?expiration=5`, 'v', 400, 10033], ['GET', `/${id}/values/none`, undefined, 404, 10009],
      ['GET', `/${'0'.repeat(32)}/values/none`, undefined, 404, 10013], ['PUT', `/${'0'.repeat(32)}/values/k`, 'v', 404, 10013], ['GET', '/x%00y/keys', undefined, 404, 10013],
      ['PUT', `/${id}/bulk`, pairs(10_001), 400, 10029], ['PUT', `/${id}/bulk`, '[{"key":"a","value":"1"},{"key":"","value":"2"}]', 400, 10012], ['PUT', `/${id}/bulk`, '{"key":"a"}', 400, 10012], ['PUT', `/${id}/bulk`, '[', 400, 10012],
      ['PUT', `/${id}/bulk`, '[{"key":"a","value":"1"}', 400, 10012], ['PUT', `/${id}/bulk`, '[{"key":"a","value":"1"}] x', 400, 10012], ['PUT', `/${id}/bulk`, '['.repeat(100_000), 400, 10012],
      ['PUT', `/${id}/bulk`, [{ key: 'a', value: '!!', base64: true }], 400, 10012], ['PUT', `/${id}/bulk`, [{ key: 'a', value: 1 }], 400, 10012], ['PUT', `/${id}/bulk`, [{ key: 'a', value: '', metadata: 'x'.repeat(1023) }], 413, 10022],
      ['POST', `/${id}/bulk/get`, { keys: Array(101).fill('a') }, 400, 10029], ['POST', `/${id}/bulk/get`, { keys: [1] }, 400, 10012], ['POST', `/${id}/bulk/get`, 'x', 400, 10012], ['POST', `/${id}/bulk/delete`, [{}], 400, 10012],
      ['POST', '', { title: '' }, 400, 10019], ['POST', '', {}, 400, 10019], ['POST', '', { title: 'other' }, 400, 10014], ['PUT', `/${id}`, { title: 'other' }, 400, 10014],
    ];
    for (const [method, target, body, status, code] of cases) {
      const r = await ns_api(method, target, body);
      assert.deepEqual([r.status, r.json?.errors?.[0]?.code], [status, code], `${method} ${target.slice(0, 80)}: ${r.text.slice(0, 300)}`);
    }
    assert.equal((await ns_api('GET', `/${id}/values/a`)).status, 404); // of the refused bulks nothing was written
    assert.equal((await ns_api('PUT', `/${id}/bulk`, pairs(10_000))).json.result.successful_key_count, 10_000);
    assert.equal((await p.api('GET', `/accounts/${'f'.repeat(32)}/storage/kv/namespaces/${id}/keys`)).json.success, false);
    await ns_api('DELETE', `/${other}`);
  });

  await test('what was put is there after kill -9 of the daemon', async () => {
    await ours([['put', 'kept', 'here'], ['put', 'kept-big', { $: 'long', n: 200_000 }]]);
    process.kill(p.processes('daemon')[0].pid, 'SIGKILL');
    await until('the daemon', async () => (await ns_api('GET', `/${id}/values/kept`).catch(() => ({}))).text === 'here');
    assert.equal((await ours([['get', 'kept-big', 'arrayBuffer']]))[0].buffer.n, 200_000);
  });

  await test('a namespace goes with everything in it', async () => {
    await wrangler(['namespace', 'delete', '--namespace-id', id, '-y']);
    const [got, put] = await ours([['get', 'text'], ['put', 'text', 'v']]);
    assert.match(got.error, /namespace not found/);
    assert.match(put.error, /Not Found|namespace not found/);
    assert.equal((await ns_api('GET', `/${id}`)).json.errors[0].code, 10013);
  });

  fs.rmSync(dir, { recursive: true, force: true });
}
