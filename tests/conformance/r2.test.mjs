// R2: every method of the binding in a deployed Worker beside the same Worker in miniflare; stock wrangler's commands; the SDK
//
// Where we differ from miniflare on purpose:
//   - storageClass is "Standard", as in the hosted service; miniflare has none
//   - ETags of parts are MD5s, and uploads that were completed or aborted are gone (10024); miniflare keeps a state of them
//   - a list with `include` comes whole where it fits into workerd's document of 1 MiB; miniflare stops at 100 objects
//   - keys with NUL, and empty ones, are refused (10020)
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import Cloudflare from 'cloudflare';
import { Miniflare, convertV4MiniflareOptions } from 'miniflare';
import { temp_dir, until, write_files } from '../harness.mjs';

// Runs the steps it is sent, one after the other: [method, ...arguments]. An argument {$: kind, ...} stands for what JSON cannot hold.
const worker = `
  const long = (n) => { const b = new Uint8Array(n); for (let i = 0; i < n; i++) b[i] = i * 7 % 251; return b; };
  const make = (a) => {
    switch (a?.$) {
      case 'bytes': return Uint8Array.from(a.v);
      case 'buffer': return Uint8Array.from(a.v).buffer;
      case 'repeat': return a.v.repeat(a.n);
      case 'long': return long(a.n);
      case 'blob': return new Blob([a.v]);
      case 'stream': return new Response(a.v).body;
      case 'unsized': { const t = new TransformStream(); t.writable.close(); return t.readable; }
      case 'date': return new Date(a.v);
      case 'ago': return new Date(Date.now() - a.v);
      case 'headers': return new Headers(a.v);
      default: return Array.isArray(a) ? a.map(make) : a && typeof a === 'object' && !a.$ ? Object.fromEntries(Object.entries(a).map(([k, v]) => [k, make(v)])) : a;
    }
  };
  const hex = (b) => [...new Uint8Array(b)].map((x) => x.toString(16).padStart(2, '0')).join('');
  const sum = async (b) => b.byteLength > 1000 ? { n: b.byteLength, sha: hex(await crypto.subtle.digest('SHA-256', b)) } : { text: new TextDecoder().decode(b) };
  const object = async (o) => ({
    key: o.key, size: o.size, etag: o.etag, httpEtag: o.httpEtag, version: /^[0-9a-f]{32}$/.test(o.version), now: Math.abs(o.uploaded - Date.now()) < 60000,
    httpMetadata: o.httpMetadata, customMetadata: o.customMetadata, range: o.range, checksums: o.checksums?.toJSON(), ssecKeyMd5: o.ssecKeyMd5,
    ...('body' in o ? { body: await sum(await o.arrayBuffer()) } : {}) });
  const show = async (v) => {
    if (v === null || v === undefined) return { none: String(v) };
    if (v.objects) return { ...v, objects: await Promise.all(v.objects.map(object)) };
    if (v.etag && v.key) return object(v);
    return v;
  };
  export default {
    async fetch(req, env) {
      const out = [];
      let cursor, etag, upload, parts = [];
      for (const [method, ...raw] of await req.json()) {
        try {
          const args = raw.map((a) => a && a.cursor === 'last' ? { ...a, cursor } : a).map((a) => JSON.parse(JSON.stringify(a ?? null).replaceAll('<etag>', etag))).map(make);
          if (method === 'create') { upload = await env.BUCKET.createMultipartUpload(...args); parts = []; out.push({ key: upload.key, id: upload.uploadId.length > 20 }); continue; }
          if (method === 'part') { const p = await upload.uploadPart(...args); parts.push(p); out.push({ partNumber: p.partNumber, etag: p.etag.length > 20 }); continue; }
          if (method === 'complete') { out.push(await show(await upload.complete(args[0] ? args[0].map((i) => parts[i]) : parts))); continue; }
          if (method === 'completeWith') { out.push(await show(await upload.complete(args[0]))); continue; }
          if (method === 'abort') { await upload.abort(); out.push('aborted'); continue; }
          if (method === 'resume') { upload = env.BUCKET.resumeMultipartUpload(...args); out.push('resumed'); continue; }
          const v = await env.BUCKET[method](...args);
          cursor = v?.cursor ?? cursor;
          etag = v?.etag ?? etag;
          out.push(await show(v));
        } catch (e) { out.push({ error: String(e) }); }
      }
      return Response.json(out);
    },
  };`;

const all_http = { contentType: 'text/x', contentLanguage: 'en', contentDisposition: 'attachment; filename="ü"', contentEncoding: 'gzip', cacheControl: 'max-age=1', cacheExpiry: { $: 'date', v: 1800000000000 } };
const hello = { md5: '5d41402abc4b2a76b9719d911017c592', sha1: 'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d', sha256: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
  sha384: '59e1748777448c69de6b800d7a33bbfb9ff1b463e44354c3553bcdb9c666fa90125a3c79f90397bdf5f6a13de828684f',
  sha512: '9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043' };
const MIN = 5 << 20;
const steps = {
  'put of every kind, get and head': [
    ['put', 'k', 'hello'], ['get', 'k'], ['head', 'k'], ['get', 'none'], ['head', 'none'], ['put', 'k', { $: 'bytes', v: [0, 255, 10] }], ['get', 'k'], ['put', 'k', { $: 'buffer', v: [1, 2] }],
    ['put', 'k', { $: 'blob', v: 'of a blob' }], ['get', 'k'], ['put', 'k', { $: 'stream', v: 'streamed' }], ['get', 'k'], ['put', 'k', ''], ['get', 'k'], ['put', 'k', null], ['get', 'k'],
    ['put', 'k', { $: 'unsized' }], ['put', 'k', { x: 1 }], ['delete', 'k'], ['get', 'k'], ['delete', 'k'],
  ],
  'large values': [
    ['put', 'big', { $: 'long', n: 65536 }], ['get', 'big'], ['put', 'big', { $: 'long', n: 65537 }], ['get', 'big'], ['put', 'big', { $: 'long', n: 3000001 }], ['get', 'big'], ['head', 'big'],
    ['get', 'big', { range: { offset: 1000000, length: 1500000 } }], ['put', 'big', 'small'], ['get', 'big'],
  ],
  'metadata': [
    ['put', 'm', 'v', { httpMetadata: all_http, customMetadata: { b: '1', a: 'ü \u{1F600}', 'x y': '' } }], ['get', 'm'], ['head', 'm'], ['list', { prefix: 'm' }], ['list', { prefix: 'm', include: ['httpMetadata', 'customMetadata'] }],
    ['list', { prefix: 'm', include: ['customMetadata'] }], ['put', 'm', 'v', { httpMetadata: { $: 'headers', v: { 'content-type': 'text/y', 'cache-control': 'no-store', expires: 'Fri, 15 Jan 2027 08:00:00 GMT' } } }], ['get', 'm'],
    ['put', 'm', 'v', { customMetadata: { k: { $: 'repeat', v: 'x', n: 8191 } } }], ['put', 'm', 'v', { customMetadata: { k: { $: 'repeat', v: 'x', n: 8192 } } }], ['put', 'm', 'v', { customMetadata: { k: { $: 'repeat', v: 'ü', n: 8191 } } }],
    ['put', 'm', 'v', { customMetadata: { k: { $: 'repeat', v: 'Ā', n: 4096 } } }], ['put', 'm', 'v'], ['get', 'm'],
  ],
  'ranges': [
    ['put', 'r', '0123456789'], ['get', 'r', { range: { offset: 3 } }], ['get', 'r', { range: { offset: 3, length: 4 } }], ['get', 'r', { range: { length: 4 } }], ['get', 'r', { range: { suffix: 3 } }], ['get', 'r', { range: { suffix: 30 } }],
    ['get', 'r', { range: { offset: 9, length: 100 } }], ['get', 'r', { range: { offset: 11 } }], ['get', 'r', { range: { offset: 3, length: 0 } }], ['get', 'r', { range: { suffix: 0 } }], ['get', 'r', { range: { offset: 1, suffix: 2 } }],
    ['get', 'r', { range: { offset: -1 } }], ...['bytes=2-5', 'bytes=2-', 'bytes=-4'].map((v) => ['get', 'r', { range: { $: 'headers', v: { range: v } } }]),
  ],
  'conditions': [
    ['put', 'c', 'hello'], ...['<etag>', 'wrong', '*', ['wrong', '<etag>'], 'W/"<etag>"'].flatMap((etagMatches) => [['get', 'c', { onlyIf: { etagMatches } }], ['get', 'c', { onlyIf: { etagDoesNotMatch: etagMatches } }]]),
    ['get', 'c', { onlyIf: { uploadedBefore: { $: 'ago', v: 100000 } } }], ['get', 'c', { onlyIf: { uploadedBefore: { $: 'ago', v: -100000 } } }], ['get', 'c', { onlyIf: { uploadedAfter: { $: 'ago', v: 100000 } } }],
    ['get', 'c', { onlyIf: { uploadedAfter: { $: 'ago', v: -100000 } } }], ['get', 'c', { onlyIf: { etagMatches: '<etag>', uploadedBefore: { $: 'ago', v: 100000 } } }], ['get', 'none', { onlyIf: { etagMatches: 'x' } }],
    ...[{ 'if-match': '"<etag>"' }, { 'if-match': '"x", "y"' }, { 'if-none-match': 'W/"<etag>"' }, { 'if-none-match': '*' }, { 'if-modified-since': 'Wed, 21 Oct 2015 07:28:00 GMT' }, { 'if-unmodified-since': 'Wed, 21 Oct 2015 07:28:00 GMT' }]
      .map((v) => ['get', 'c', { onlyIf: { $: 'headers', v } }]),
    ['put', 'c', 'new', { onlyIf: { etagMatches: 'wrong' } }], ['put', 'c', 'new', { onlyIf: { etagDoesNotMatch: '*' } }], ['get', 'c'], ['put', 'c', 'new', { onlyIf: { etagMatches: '<etag>' } }], ['get', 'c'],
    ['put', 'fresh', '1', { onlyIf: { etagDoesNotMatch: '*' } }], ['put', 'fresh', '2', { onlyIf: { etagDoesNotMatch: '*' } }], ['put', 'absent', '1', { onlyIf: { etagMatches: '*' } }], ['get', 'fresh'], ['get', 'absent'],
  ],
  'checksums': [
    ...Object.entries(hello).flatMap(([name, v]) => [['put', `h-${name}`, 'hello', { [name]: v }], ['head', `h-${name}`], ['put', `h-${name}`, 'hallo', { [name]: v }]]), ['get', 'h-sha512'], ['list', { prefix: 'h-' }],
    ['put', 'h', 'hello', { md5: hello.md5, sha1: hello.sha1 }], ['put', 'h', 'hello', { md5: 'abc' }],
  ],
  'keys': [
    ['put', 'dir/k 2?é', '1'], ['get', 'dir/k 2?é'], ['put', 'a+b%20;=&#~!*\'()', '2'], ['get', 'a+b%20;=&#~!*\'()'], ['put', 'a/', '3'], ['get', 'a/'], ['get', 'a'], ['put', '..', '4'], ['get', '..'], ['put', '../../x', '5'], ['get', '../../x'],
    ['put', '/', '6'], ['get', '/'], ['put', '\u{1F600}', '7'], ['get', '\u{1F600}'], ['put', { $: 'repeat', v: 'k', n: 1024 }, '8'], ['put', { $: 'repeat', v: 'k', n: 1025 }, '9'], ['get', { $: 'repeat', v: 'k', n: 1025 }],
    ['head', { $: 'repeat', v: 'é', n: 513 }], ['delete', { $: 'repeat', v: 'k', n: 1025 }], ['put', 'quote"\\\n', '10'], ['get', 'quote"\\\n'], ['delete', { $: 'repeat', v: 'k', n: 1024 }],
  ],
  'lists': [
    ...['z', 'l/b', 'l/a', 'l/é', 'l/Z', 'l/10', 'l/2', 'l/d/1', 'l/d/2', 'l/d/x/3', 'l/e/1', 'l/\u{1F600}'].map((k, i) => ['put', k, String(i)]), ['list', { prefix: 'l/' }], ['list', { prefix: 'l/', limit: 3 }],
    ['list', { prefix: 'l/', limit: 3, cursor: 'last' }], ['list', { prefix: 'l/', limit: 7, cursor: 'last' }], ['list', { prefix: 'l/', limit: 12 }], ['list', { prefix: 'nobody' }], ['list', { prefix: 'l/', delimiter: '/' }],
    ['list', { prefix: 'l/', delimiter: '/', limit: 6 }], ['list', { prefix: 'l/', delimiter: '/', limit: 6, cursor: 'last' }], ['list', { prefix: 'l/d', delimiter: '/' }], ['list', { prefix: 'l/', startAfter: 'l/a' }],
    ['list', { prefix: 'l/', startAfter: 'l/d/1', delimiter: '/' }], ['list', { prefix: 'l/', delimiter: 'd/' }], ['list', { prefix: 'l/', startAfter: 'a' }], ['list', { limit: 1001 }], ['list', { prefix: 'l/', limit: 1000 }], ['list', { delimiter: '/', prefix: 'l/d/', limit: 1 }],
    ['delete', ['l/a', 'l/b', 'nobody']], ['list', { prefix: 'l/', limit: 4 }], ['delete', []],
  ],
  'uploads in parts': [
    ['create', 'mp', { httpMetadata: { contentType: 'x/y' }, customMetadata: { a: '1' } }], ['part', 1, { $: 'long', n: MIN }], ['part', 2, { $: 'long', n: MIN }], ['part', 3, 'the end'], ['complete'], ['head', 'mp'], ['get', 'mp'],
    ['get', 'mp', { range: { offset: MIN - 3, length: 10 } }], ['get', 'mp', { range: { suffix: 9 } }], ['list', { prefix: 'mp' }],
    ['create', 'mp2'], ['part', 2, 'second'], ['part', 1, { $: 'long', n: MIN }], ['complete', [1, 0]], ['get', 'mp2'], ['create', 'mp3'], ['part', 1, 'small'], ['part', 2, 'small'], ['complete'],
    ['create', 'mp4'], ['part', 1, { $: 'long', n: MIN }], ['part', 2, { $: 'long', n: MIN + 1 }], ['complete'], ['part', 3, 'x'], ['complete'], ['completeWith', [{ partNumber: 1, etag: 'wrong' }]], ['completeWith', [{ partNumber: 9, etag: 'x' }]], ['abort'], ['part', 1, 'x'],
    ['create', 'mp5'], ['part', 0, 'x'], ['part', 10001, 'x'], ['part', 10000, 'only'], ['complete'], ['get', 'mp5'], ['create', { $: 'repeat', v: 'k', n: 1025 }], ['resume', 'mp6', 'nobody'], ['part', 1, 'x'], ['get', 'mp3'], ['get', 'mp6'],
  ],
};

// What is no difference: cursors are opaque; storageClass is not shown by the Worker.
const plain = (v) => JSON.parse(JSON.stringify(v, (k, x) => k === 'cursor' ? '<cursor>' : x));

export async function run(test, p) {
  const dir = temp_dir('r2');
  const client = new Cloudflare({ apiToken: p.token, baseURL: p.base, maxRetries: 0 });
  const where = { account_id: p.account };
  const wrangler = async (args, opts) => {
    const r = await p.wrangler(dir, ['r2', ...args], opts);
    assert.equal(r.code, 0, r.all);
    return r;
  };
  const r2_api = (method, target, body, headers) => p.api(method, `/accounts/:account/r2/buckets${target}`, body, headers);

  await test('wrangler makes, lists, shows and updates buckets', async () => {
    write_files(dir, { 'wrangler.jsonc': { name: 'r2-test', main: 'w.js', compatibility_date: '2026-11-01' }, 'w.js': worker });
    await wrangler(['bucket', 'create', 'conformance']);
    await wrangler(['bucket', 'create', 'archive', '--location', 'weur', '--storage-class', 'InfrequentAccess']);
    const [listed, info, again] = await Promise.all([wrangler(['bucket', 'list']), wrangler(['bucket', 'info', 'archive', '--json']), p.wrangler(dir, ['r2', 'bucket', 'create', 'archive'])]);
    assert.match(listed.out, /archive[\s\S]*conformance/);
    const shown = JSON.parse(info.out.slice(info.out.indexOf('{')));
    assert.deepEqual([shown.name, shown.location, shown.default_storage_class, shown.object_count], ['archive', 'WEUR', 'InfrequentAccess', '0']);
    assert.notEqual(again.code, 0);
    assert.match(again.all, /already exists/);
    await wrangler(['bucket', 'update', 'storage-class', 'archive', '-s', 'Standard']);
    assert.equal((await r2_api('GET', '/archive')).json.result.storage_class, 'Standard');
  });

  await test('a Worker with a bucket that is not there is refused at the deployment', async () => {
    const r = await p.api('PUT', '/accounts/:account/workers/scripts/r2-none', '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
      JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01', bindings: [{ type: 'r2_bucket', name: 'BUCKET', bucket_name: 'nobody' }] }) +
      '\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\nexport default {}\r\n--b--', { 'content-type': 'multipart/form-data; boundary=b' });
    assert.equal(r.status, 400);
    assert.match(r.json.errors[0].message, /'BUCKET'.*bucket does not exist/);
  });

  await test('wrangler deploys a Worker with a bucket', async () => {
    write_files(dir, { 'wrangler.jsonc': { name: 'r2-test', main: 'w.js', compatibility_date: '2026-11-01', r2_buckets: [{ binding: 'BUCKET', bucket_name: 'conformance' }] } });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
  });

  const ours = async (list) => {
    const res = await p.worker('r2-test', '/', { method: 'POST', body: JSON.stringify(list) });
    assert.equal(res.status, 200);
    return res.json();
  };
  let mf;
  await test('miniflare starts beside us', async () => {
    mf = new Miniflare(convertV4MiniflareOptions({ modules: true, script: worker, compatibilityDate: '2026-11-01', r2Buckets: ['BUCKET'] }));
    await mf.ready;
  });
  const theirs = async (list) => (await mf.dispatchFetch('http://x/', { method: 'POST', body: JSON.stringify(list) })).json();

  for (const [name, list] of Object.entries(steps))
    await test(`as in miniflare: ${name}`, async () => {
      const [a, b] = [plain(await ours(list)), plain(await theirs(list))];
      for (let i = 0; i < list.length; i++) assert.deepEqual(a[i], b[i], `step ${i}: ${JSON.stringify(list[i]).slice(0, 200)}`);
    });
  await mf?.dispose();

  await test('wrangler puts, gets and deletes objects', async () => {
    fs.writeFileSync(path.join(dir, 'v.bin'), Buffer.from([1, 2, 0, 255]));
    await wrangler(['object', 'put', 'conformance/w/k 1.bin', '--file', 'v.bin', '--remote', '--content-type', 'a/b', '--cache-control', 'no-store']);
    await wrangler(['object', 'get', 'conformance/w/k 1.bin', '--file', 'got.bin', '--remote']);
    assert.deepEqual([...fs.readFileSync(path.join(dir, 'got.bin'))], [1, 2, 0, 255]);
    const [seen] = await ours([['head', 'w/k 1.bin']]);
    assert.deepEqual([seen.size, seen.httpMetadata], [4, { contentType: 'a/b', cacheControl: 'no-store' }]);
    write_files(dir, { 'bulk.json': ['one', 'two', 'three'].map((key) => ({ key: `bulk/${key}`, file: 'v.bin' })) });
    await wrangler(['bulk', 'put', 'conformance', '--filename', 'bulk.json', '--remote']);
    assert.deepEqual((await ours([['list', { prefix: 'bulk/' }]]))[0].objects.map((o) => o.key), ['bulk/one', 'bulk/three', 'bulk/two']);
    await wrangler(['object', 'delete', 'conformance/w/k 1.bin', '--remote']);
    const none = await p.wrangler(dir, ['r2', 'object', 'get', 'conformance/w/k 1.bin', '--file', 'x', '--remote']);
    assert.notEqual(none.code, 0);
    assert.match(none.all, /key does not exist/);
  });

  await test('wrangler sets CORS, lifecycle and locks, and what makes no sense here is refused with a sentence', async () => {
    write_files(dir, { 'cors.json': { rules: [{ allowed: { origins: ['https://a.example'], methods: ['GET'] }, maxAgeSeconds: 60 }] } });
    await wrangler(['bucket', 'cors', 'set', 'archive', '--file', 'cors.json', '-y']);
    assert.match((await wrangler(['bucket', 'cors', 'list', 'archive'])).out, /https:\/\/a\.example/);
    await wrangler(['bucket', 'cors', 'delete', 'archive', '-y']);
    assert.equal((await r2_api('GET', '/archive/cors')).json.errors[0].code, 10059);
    assert.match((await wrangler(['bucket', 'lifecycle', 'list', 'archive'])).out, /Default Multipart Abort Rule/);
    await wrangler(['bucket', 'lifecycle', 'add', 'archive', 'tmp', 'tmp/', '--expire-days', '3', '-y']);
    assert.match((await wrangler(['bucket', 'lifecycle', 'list', 'archive'])).out, /tmp[\s\S]*Expire objects after 3 days/);
    await wrangler(['bucket', 'lock', 'add', 'archive', 'keep', 'keep/', '--retention-days', '1', '-y']);
    assert.match((await wrangler(['bucket', 'lock', 'list', 'archive'])).out, /keep\//);
    assert.equal((await r2_api('PUT', '/archive/objects/keep/a', 'x')).status, 200);
    for (const method of ['PUT', 'DELETE']) assert.deepEqual([method, (await r2_api(method, '/archive/objects/keep/a', method === 'PUT' ? 'y' : undefined)).json.errors[0].code], [method, 10069]);
    assert.equal((await r2_api('PUT', '/archive/lock', { rules: [] })).status, 200);
    assert.equal((await r2_api('DELETE', '/archive/objects/keep/a')).status, 200);
    assert.match((await wrangler(['bucket', 'dev-url', 'get', 'archive'])).out, /disabled|not enabled/i);
    const url = await p.wrangler(dir, ['r2', 'bucket', 'dev-url', 'enable', 'archive', '-y']);
    assert.match(url.all, /this server has no r2\.dev[\s\S]*presigned URL/);
    assert.match((await p.wrangler(dir, ['r2', 'bucket', 'sippy', 'disable', 'archive'])).all, /./);
  });

  await test('events reach a queue: wrangler makes the rules, a consumer pulls the messages', async () => {
    const q = await p.wrangler(dir, ['queues', 'create', 'r2-events']);
    assert.equal(q.code, 0, q.all);
    await wrangler(['bucket', 'notification', 'create', 'archive', '--queue', 'r2-events', '--event-type', 'object-create', 'object-delete', '--prefix', 'in/', '--suffix', '.txt']);
    const id = (await p.api('GET', '/accounts/:account/queues?name=r2-events')).json.result[0].queue_id;
    assert.match((await wrangler(['bucket', 'notification', 'list', 'archive'])).out, /r2-events[\s\S]*in\/[\s\S]*\.txt/);
    assert.equal((await p.api('POST', `/accounts/:account/queues/${id}/consumers`, { type: 'http_pull', settings: {} })).status, 200);
    for (const [method, key] of [['PUT', 'in/a.txt'], ['PUT', 'in/b.bin'], ['PUT', 'out/c.txt'], ['DELETE', 'in/a.txt']]) assert.equal((await r2_api(method, `/archive/objects/${key}`, method === 'PUT' ? 'hello' : undefined)).status, 200);
    const heard = [];
    await until('both events', async () => {
      const r = await p.api('POST', `/accounts/:account/queues/${id}/messages/pull`, { batch_size: 10, visibility_timeout_ms: 60_000 });
      heard.push(...r.json.result.messages.map((m) => JSON.parse(Buffer.from(m.body, 'base64').toString())));
      return heard.length >= 2;
    });
    assert.deepEqual(heard.map(({ eventTime, ...m }) => [Math.abs(new Date(eventTime) - Date.now()) < 60_000, m]), [
      [true, { account: p.account, action: 'PutObject', bucket: 'archive', object: { key: 'in/a.txt', size: 5, eTag: hello.md5 } }],
      [true, { account: p.account, action: 'DeleteObject', bucket: 'archive', object: { key: 'in/a.txt' } }]]);
    await wrangler(['bucket', 'notification', 'delete', 'archive', '--queue', 'r2-events']);
    assert.equal((await p.api('GET', '/accounts/:account/event_notifications/r2/archive/configuration')).json.errors[0].code, 11015);
  });

  await test('the SDK does the same', async () => {
    const at = { ...where, bucket_name: 'of-the-sdk' };
    const b = client.r2.buckets;
    await b.create({ ...where, name: 'of-the-sdk' });
    assert.equal((await b.get('of-the-sdk', where)).name, 'of-the-sdk');
    assert.ok((await b.list(where)).buckets.some((x) => x.name === 'of-the-sdk'));
    const put = await b.objects.upload('s/k 1', 'value', at);
    assert.deepEqual([put.key, put.size], ['s/k 1', '5']);
    const got = await b.objects.get('s/k 1', at);
    assert.deepEqual([await got.text(), got.headers.get('etag')], ['value', `"${put.etag}"`]);
    for (let i = 0; i < 25; i++) await b.objects.upload(`n/${String(i).padStart(2, '0')}`, 'x', at);
    const keys = [];
    for await (const o of b.objects.list('of-the-sdk', { ...where, prefix: 'n/', per_page: 10 })) keys.push(o.key);
    assert.equal(keys.length, 25);
    await assert.rejects(b.delete('of-the-sdk', where), (e) => e.errors[0].code === 10008);
    for (const k of [...keys, 's/k 1']) await b.objects.delete(k, at);
    await b.delete('of-the-sdk', where);
    await assert.rejects(b.get('of-the-sdk', where), (e) => e instanceof Cloudflare.NotFoundError && e.errors[0].code === 10006);
    await assert.rejects(b.objects.get('none', { ...where, bucket_name: 'archive' }), (e) => e instanceof Cloudflare.NotFoundError && e.errors[0].code === 10007);
  });

  await test('large bodies pass with flat memory', async () => {
    const rss = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${p.processes('daemon')[0].pid}/status`, 'utf8'))[1]);
    const n = 64 << 20;
    await r2_api('PUT', '/archive/objects/warm', new Uint8Array(1 << 20));
    const before = rss();
    await Promise.all([1, 2, 3].map((i) => r2_api('PUT', `/archive/objects/large-${i}`, new Uint8Array(n))));
    const [got] = await ours([['put', 'large', { $: 'long', n: 30 << 20 }]]);
    assert.equal(got.size, 30 << 20);
    assert.ok(rss() - before < 40_000, `${rss() - before} KiB more`);
    for (const i of [1, 2, 3]) await r2_api('DELETE', `/archive/objects/large-${i}`);
  });

  await test('what no client should send is refused with its number', async () => {
    const cases = [
      ['GET', '/conformance/objects?per_page=0', undefined, 400, 10022], ['GET', '/conformance/objects?per_page=1001', undefined, 400, 10022], ['GET', '/conformance/objects?cursor=AAAA', undefined, 400, 10029],
      ['PUT', `/conformance/objects/${'k'.repeat(1025)}`, 'x', 400, 10020], ['PUT', '/conformance/objects/%ff', 'x', 400, 10020], ['PUT', '/conformance/objects/a%00b', 'x', 400, 10020], ['PUT', '/conformance/objects/%zz', 'x', 400, 10020],
      ['GET', '/conformance/objects/none', undefined, 404, 10007], ['GET', '/nobody/objects/k', undefined, 404, 10006], ['PUT', '/nobody/objects/k', 'x', 404, 10006], ['DELETE', '/nobody', undefined, 404, 10006],
      ['POST', '', { name: 'Up' }, 400, 10005], ['POST', '', '{', 400, 10040], ['POST', '', { name: 'archive' }, 409, 10004], ['POST', '', { name: 'other', storageClass: 'Cold' }, 400, 10029], ['DELETE', '/conformance', undefined, 409, 10008],
      ['PUT', '/archive/lifecycle', { rules: [{ id: 'x', enabled: true, deleteObjectsTransition: { condition: { type: 'Age' } } }] }, 400, 10029], ['PUT', '/archive/cors', { rules: [{}] }, 400, 10029],
    ];
    for (const [method, target, body, status, code] of cases) {
      const r = await r2_api(method, target, body);
      assert.deepEqual([r.status, r.json?.errors?.[0]?.code], [status, code], `${method} ${target.slice(0, 80)}: ${r.text.slice(0, 300)}`);
    }
  });

  fs.rmSync(dir, { recursive: true, force: true });
}
