// The Cache API: the same calls in a deployed Worker and in miniflare; freshness, bounds between Workers, a restart
//
// Where we differ from miniflare on purpose (RFC 9111 and the hosted service are on our side):
//   - Date stays what the response said, or is absent; miniflare writes the time of the put
//   - Age counts while the response lies there; miniflare keeps the age of the put
//   - stale-while-revalidate and stale-if-error keep nothing alive, as the hosted Cache API documents; miniflare adds them to the lifetime
//   - Cache-Control is kept as it came, also where `private=set-cookie` has been obeyed; miniflare cuts that out of it
//   - a 204 is kept; in miniflare it is lost
//   - a 416 says that it has no bytes; miniflare does not say
//   - the last 0 bytes (`bytes=-0`) cannot be had: 416; miniflare sends everything
//   - several ranges at once are answered by the whole response; miniflare sends multipart/byteranges
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { Miniflare, convertV4MiniflareOptions } from 'miniflare';
import { sleep, temp_dir, until, write_files } from '../harness.mjs';

// Steps: [method, cache name or null, url, headers or cf of the request, {status, headers, body} of a put]
const worker = `
  export default {
    async fetch(req) {
      const out = [];
      for (const [method, name, url, init, res] of await req.json()) {
        try {
          const cache = name === null ? caches.default : await caches.open(name);
          const r = new Request(url, init ?? {});
          if (method === 'put') {
            const body = res.long ? new Uint8Array(res.long).map((_, i) => i * 7 % 251) : res.stream ? new Blob([res.stream]).stream() : res.body ?? null;
            out.push(String(await cache.put(r, new Response(body, res))));
          } else if (method === 'delete') {
            out.push(await cache.delete(r));
          } else {
            const got = await cache.match(method === 'match-url' ? url : r);
            const body = got && await got.arrayBuffer();
            out.push(got ? { status: got.status, headers: Object.fromEntries([...got.headers].filter(([k]) => k !== 'date' && !(got.status === 416 && k === 'content-length'))), n: body.byteLength,
              body: body.byteLength > 100 ? new Uint8Array(await crypto.subtle.digest('SHA-256', body)).join() : new TextDecoder().decode(body) } : null);
          }
        } catch (e) { out.push(String(e)); }
      }
      return Response.json(out);
    },
  };`;

const fresh = { 'cache-control': 'max-age=60' };
const u = 'http://c.example';
const put = (path, res, init, name = null) => ['put', name, u + path, init, res];
const match = (path, headers, name = null) => ['match', name, u + path, headers && { headers }];
const del = (path, name = null) => ['delete', name, u + path];

const steps = {
  'put, match and delete': [
    match('/a'), put('/a', { body: 'one', headers: { ...fresh, 'x-h': '1', 'content-type': 'text/plain' } }), match('/a'), ['match-url', null, u + '/a'], match('/A'), match('/a?x=1'), match('/a/'), match('/a#frag'),
    put('/a?x=1', { body: 'query', headers: fresh }), match('/a?x=1'), match('/a'), put('/a', { body: 'two', headers: fresh }), match('/a'), del('/a'), match('/a'), del('/a'), match('/a?x=1'),
    put('/', { body: 'root', headers: fresh }), match('/'), ['match', null, 'https://c.example/', null], ['match', null, 'http://other.example/', null], put('/x%2Fy', { body: 'enc', headers: fresh }), match('/x%2Fy'), match('/x/y'),
    put('/empty', { headers: fresh }), match('/empty'), put('/s', { stream: 'streamed', headers: fresh }), match('/s'), put('/ü \u{1F600}', { body: 'uni', headers: fresh }), match('/ü \u{1F600}'),
  ],
  'named caches': [
    put('/n', { body: 'default', headers: fresh }), put('/n', { body: 'mine', headers: fresh }, null, 'mine'), match('/n'), match('/n', null, 'mine'), match('/n', null, 'yours'), del('/n', 'mine'), match('/n', null, 'mine'), match('/n'),
  ],
  'what may be stored, and for how long': [
    ...['no-store', 'private', 'private, max-age=60', 'no-cache', 'max-age=0', 's-maxage=60, max-age=0', 'max-age=60, s-maxage=0', 'public', 'immutable', 'max-age="60"', 'max-age=abc', 'proxy-revalidate, max-age=60']
      .flatMap((c, i) => [put(`/cc${i}`, { body: c, headers: { 'cache-control': c } }), match(`/cc${i}`)]),
    put('/none', { body: 'x' }), match('/none'), put('/cookie', { body: 'x', headers: { ...fresh, 'set-cookie': 'a=b' } }), match('/cookie'),
    put('/exp', { body: 'x', headers: { expires: 'Fri, 01 Jan 2100 00:00:00 GMT' } }), match('/exp'), put('/exp', { body: 'x', headers: { expires: 'Fri, 01 Jan 2010 00:00:00 GMT' } }), match('/exp'), put('/exp', { body: 'x', headers: { expires: '0' } }), match('/exp'),
    put('/lm', { body: 'x', headers: { 'last-modified': 'Fri, 01 Jan 2010 00:00:00 GMT' } }), match('/lm'), put('/age', { body: 'x', headers: { ...fresh, age: '30' } }), match('/age'), put('/age', { body: 'x', headers: { ...fresh, age: '90' } }), match('/age'),
    ...[200, 203, 206, 301, 302, 304, 307, 308, 400, 404, 410, 418, 500, 503].flatMap((status) => [put(`/st${status}`, { status, body: status === 304 ? null : 'x', headers: { ...fresh, location: '/y' } }), match(`/st${status}`)]),
    put('/vary', { body: 'x', headers: { ...fresh, vary: '*' } }), match('/vary'), put('/vary', { body: 'x', headers: { ...fresh, vary: 'accept' } }), match('/vary', { accept: 'y' }),
    ['put', null, u + '/post', { method: 'POST', body: 'b' }, { body: 'x', headers: fresh }], ['match', null, u + '/a', { method: 'POST', body: 'b' }], ['match', null, u + '/', { method: 'HEAD' }],
    put('/auth', { body: 'x', headers: fresh }, { headers: { authorization: 'Bearer x' } }), match('/auth'), put('/keep', { body: 'kept', headers: fresh }), put('/keep', { body: 'no', headers: { 'cache-control': 'no-store' } }), match('/keep'), put('/keep', { body: 'stale', headers: { 'cache-control': 'max-age=0' } }), match('/keep'),
  ],
  'conditions and ranges': [
    put('/e', { body: '0123456789', headers: { ...fresh, etag: '"tag"', 'last-modified': 'Fri, 01 Jan 2010 00:00:00 GMT', 'content-type': 'text/plain' } }),
    ...['"tag"', 'W/"tag"', '"other"', '*', '"x", "tag"', 'tag', '"x","y"'].map((t) => match('/e', { 'if-none-match': t })),
    ...['Fri, 01 Jan 2010 00:00:00 GMT', 'Thu, 31 Dec 2009 00:00:00 GMT', 'Fri, 01 Jan 2100 00:00:00 GMT', 'nonsense'].map((t) => match('/e', { 'if-modified-since': t })),
    ...['bytes=0-0', 'bytes=2-5', 'bytes=5-', 'bytes=-3', 'bytes=0-99', 'bytes=-99', 'bytes=10-', 'bytes=5-2', 'bytes=', 'bytes=x', 'lines=1-2', 'BYTES = 1 - 2', 'bytes=-'].map((range) => match('/e', { range })),
    match('/e', { range: 'bytes=0-1', 'if-none-match': '"tag"' }), match('/e', { 'cache-control': 'no-cache' }),
    put('/w', { body: 'x', headers: { ...fresh, etag: 'W/"weak"' } }), match('/w', { 'if-none-match': '"weak"' }),
  ],
  'big responses': [
    put('/big', { long: 32768, headers: fresh }), match('/big'), put('/big', { long: 3_000_001, headers: fresh }), match('/big'), match('/big', { range: 'bytes=2999990-' }), match('/big', { range: 'bytes=100000-200000' }), put('/big', { body: 'small', headers: fresh }), match('/big'),
  ],
  'cf.cacheKey': [
    ['put', null, u + '/k1', { cf: { cacheKey: 'http://own/key' } }, { body: 'keyed', headers: fresh }], ['match', null, u + '/k2', { cf: { cacheKey: 'http://own/key' } }], match('/k1'), ['delete', null, u + '/k3', { cf: { cacheKey: 'http://own/key' } }],
  ],
};

export async function run(test, p) {
  const dir = temp_dir('cache');
  const call = async (name, list) => (await p.worker(name, '/', { method: 'POST', body: JSON.stringify(list) })).json();
  const upload = (name) => p.api('PUT', `/accounts/:account/workers/scripts/${name}`, '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' +
    JSON.stringify({ main_module: 'w.js', compatibility_date: '2026-11-01' }) +
    `\r\n--b\r\nContent-Disposition: form-data; name="w.js"; filename="w.js"\r\nContent-Type: application/javascript+module\r\n\r\n${worker}\r\n--b--`, { 'content-type': 'multipart/form-data; boundary=b' });

  let mf;
  await test('two Workers with caches are deployed, miniflare starts beside them', async () => {
    for (const name of ['cache-one', 'cache-two']) assert.equal((await upload(name)).status, 200);
    mf = new Miniflare(convertV4MiniflareOptions({ modules: true, script: worker, compatibilityDate: '2026-11-01', cfProperty: false }));
    await mf.ready;
  });

  for (const [name, list] of Object.entries(steps))
    await test(`as in miniflare: ${name}`, async () => {
      const [ours, theirs] = await Promise.all([call('cache-one', list), mf.dispatchFetch('http://x/', { method: 'POST', body: JSON.stringify(list) }).then((r) => r.json())]);
      for (let i = 0; i < list.length; i++) assert.deepEqual(ours[i], theirs[i], `step ${i}: ${JSON.stringify(list[i])}`);
    });
  await mf?.dispose();

  await test('age counts, nothing stale comes back, and dates stay', async () => {
    const date = 'Fri, 01 Jan 2010 00:00:00 GMT';
    await call('cache-one', [put('/short', { body: 'x', headers: { 'cache-control': 'max-age=1, stale-while-revalidate=100, stale-if-error=100' } }), put('/long', { body: 'x', headers: { ...fresh, age: '7', date } })]);
    await sleep(1100);
    const [short, gone, long] = await call('cache-one', [match('/short'), del('/short'), match('/long')]);
    assert.deepEqual([short, gone], [null, false]);
    assert.ok(Number(long.headers.age) >= 8, long.headers.age);
  });

  await test('a 204 is kept', async () => {
    assert.equal((await call('cache-one', [put('/st204', { status: 204, headers: fresh }), match('/st204')]))[1].status, 204);
  });

  await test('private=set-cookie drops the cookie', async () => {
    const [, got] = await call('cache-one', [put('/pc', { body: 'x', headers: { 'cache-control': 'private=set-cookie, max-age=60', 'set-cookie': 'a=b' } }), match('/pc')]);
    assert.deepEqual([got.status, got.headers['set-cookie'], got.headers['cache-control']], [200, undefined, 'private=set-cookie, max-age=60']);
  });

  await test('several ranges give the whole', async () => {
    const [, got] = await call('cache-one', [put('/r', { body: '0123456789', headers: fresh }), match('/r', { range: 'bytes=0-1,4-5' })]);
    assert.deepEqual([got.status, got.body], [200, '0123456789']);
  });

  await test('a Worker does not see what another keeps', async () => {
    await call('cache-one', [put('/mine', { body: 'x', headers: fresh })]);
    assert.deepEqual(await call('cache-two', [match('/mine'), del('/mine')]), [null, false]);
    assert.equal((await call('cache-one', [match('/mine')]))[0].body, 'x');
  });

  await test('what was kept is there after kill -9 of the daemon', async () => {
    await call('cache-one', [put('/kept', { body: 'small', headers: fresh }), put('/kept-big', { long: 200_000, headers: fresh })]);
    process.kill(p.processes('daemon')[0].pid, 'SIGKILL');
    await until('the daemon', async () => (await p.api('GET', '/user/tokens/verify').catch(() => ({}))).status === 200);
    const [a, b] = await call('cache-one', [match('/kept'), match('/kept-big')]);
    assert.deepEqual([a.body, b.n], ['small', 200_000]);
  });

  fs.rmSync(dir, { recursive: true, force: true });
}
