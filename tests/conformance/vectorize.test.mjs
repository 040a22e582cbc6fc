// Vectorize as its clients know it: every command of stock wrangler, the cloudflare SDK, a Worker with the binding; filters against a second
// opinion, and what must be refused
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import Cloudflare from 'cloudflare';
import { temp_dir, write_files } from '../harness.mjs';

// A generator of the same numbers in every run.
export function random(seed) {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const ndjson = (vectors) => vectors.map((v) => JSON.stringify(v)).join('\n');
const V2 = '/accounts/:account/vectorize/v2/indexes';
const near = (a, b, e = 1e-5) => assert.ok(Math.abs(a - b) <= e * Math.max(1, Math.abs(b)), `${a} is not near ${b}`);

const worker = `
  const one = async (f) => { try { return await f(); } catch (e) { return { error: e.message }; } };
  export default {
    async fetch(req, env) {
      const { method, args } = await req.json();
      return Response.json(await one(() => env.VEC[method](...args)) ?? null);
    },
  };`;

export async function run(test, p) {
  const dirs = [];
  const project = (files) => { const d = temp_dir('project'); dirs.push(d); return write_files(d, files); };
  const dir = project({ 'wrangler.jsonc': { name: 'vec', compatibility_date: '2026-04-01' } });
  const wrangler = async (args, opts) => {
    const r = await p.wrangler(dir, ['vectorize', ...args], opts);
    assert.equal(r.code, 0, `${args.join(' ')}\n${r.all}`);
    return r.out;
  };
  const json = async (args) => { const out = await wrangler(args); return JSON.parse(out.slice(out.search(/[[{]/))); };
  const call = async (method, target, body, headers) => {
    const r = await p.api(method, `${V2}${target}`, body, headers);
    assert.equal(r.status, 200, `${method} ${target}: ${r.status} ${r.text}`);
    assert.equal(r.json.success, true);
    return r.json.result;
  };
  const refused = async (status, code, method, target, body, headers) => {
    const r = await p.api(method, `${V2}${target}`, body, headers);
    assert.equal(r.status, status, r.text);
    assert.equal(r.json.success, false);
    assert.equal(r.json.errors[0].code, code, r.text);
    return r.json.errors[0].message;
  };
  const make = (name, dimensions, metric = 'cosine') => call('POST', '', { name, config: { dimensions, metric } });
  const put = (name, vectors) => call('POST', `/${name}/upsert`, ndjson(vectors), { 'content-type': 'application/x-ndjson' });

  await test('wrangler: every vectorize command', async () => {
    await wrangler(['create', 'cli', '--dimensions', '3', '--metric', 'cosine', '--description', 'of the command line']);
    const preset = await json(['create', 'cli-preset', '--preset', '@cf/baai/bge-base-en-v1.5', '--json']);
    assert.deepEqual(preset.config, { dimensions: 768, metric: 'cosine' });
    assert.deepEqual((await json(['list', '--json'])).map((i) => i.name).filter((n) => n.startsWith('cli')), ['cli', 'cli-preset']);
    const got = await json(['get', 'cli', '--json']);
    assert.equal(got.description, 'of the command line');
    assert.deepEqual(got.config, { dimensions: 3, metric: 'cosine' });

    await wrangler(['create-metadata-index', 'cli', '--property-name', 'kind', '--type', 'string']);
    await wrangler(['create-metadata-index', 'cli', '--property-name', 'year', '--type', 'number']);
    assert.deepEqual((await json(['list-metadata-index', 'cli', '--json'])).map((m) => [m.propertyName, m.indexType]), [['kind', 'string'], ['year', 'number']]);

    fs.writeFileSync(path.join(dir, 'v.ndjson'), ndjson([
      { id: '1', values: [1, 0, 0], metadata: { kind: 'a', year: 1999, more: [1, 2] } },
      { id: '2', values: [0.8, 0.6, 0], namespace: 'n', metadata: { kind: 'b', year: 2005 } },
      { id: '3', values: [0, 1, 0], metadata: { kind: 'a', year: 2010 } }]));
    assert.match(await wrangler(['insert', 'cli', '--file', 'v.ndjson']), /Successfully enqueued 3 vectors/);
    fs.writeFileSync(path.join(dir, 'u.ndjson'), ndjson([{ id: '3', values: [0, 0, 1], metadata: { kind: 'c', year: 2011 } }]));
    assert.match(await wrangler(['upsert', 'cli', '--file', 'u.ndjson', '--batch-size', '1']), /Successfully enqueued 1 vectors/);

    const info = await json(['info', 'cli', '--json']);
    assert.equal(info.vectorCount, 3);
    assert.equal(info.dimensions, 3);
    assert.match(info.processedUpToMutation, /^[0-9a-f]{8}-/);
    assert.ok(Math.abs(Date.parse(info.processedUpToDatetime) - Date.now()) < 120_000);

    const found = await json(['query', 'cli', '--vector', '1', '0', '0', '--top-k', '2', '--return-metadata', 'all', '--return-values', 'true']);
    assert.deepEqual(found.matches.map((m) => m.id), ['1', '2']);
    assert.deepEqual(found.matches[0].metadata, { kind: 'a', year: 1999, more: [1, 2] });
    assert.deepEqual(found.matches[1].values, [0.8, 0.6, 0]);
    assert.equal(found.matches[1].namespace, 'n');
    const by_id = await json(['query', 'cli', '--vector-id', '3', '--filter', '{"year":{"$gt":2004}}', '--return-metadata', 'indexed']);
    assert.deepEqual(by_id.matches.map((m) => m.id), ['3', '2']);
    assert.deepEqual(by_id.matches[0].metadata, { kind: 'c', year: 2011 });

    assert.deepEqual((await json(['get-vectors', 'cli', '--ids', '2', '9', '1'])).map((v) => v.id), ['2', '1']);
    const page = await json(['list-vectors', 'cli', '--count', '2', '--json']);
    assert.equal(page.vectors.length, 2);
    assert.equal(page.isTruncated, true);
    const rest = await json(['list-vectors', 'cli', '--count', '2', '--cursor', page.nextCursor, '--json']);
    assert.deepEqual([...page.vectors, ...rest.vectors].map((v) => v.id).sort(), ['1', '2', '3']);
    assert.equal(rest.isTruncated, false);
    await wrangler(['delete-vectors', 'cli', '--ids', '1', '3', 'unknown']);
    assert.equal((await json(['info', 'cli', '--json'])).vectorCount, 1);
    await wrangler(['delete-metadata-index', 'cli', '--property-name', 'kind']);
    assert.deepEqual((await json(['list-metadata-index', 'cli', '--json'])).map((m) => m.propertyName), ['year']);

    const again = await p.wrangler(dir, ['vectorize', 'create', 'cli', '--dimensions', '3', '--metric', 'cosine']);
    assert.notEqual(again.code, 0);
    assert.match(again.all, /duplicate_name/);
    await wrangler(['delete', 'cli', '-y']);
    await wrangler(['delete', 'cli-preset', '-y']);
    const gone = await p.wrangler(dir, ['vectorize', 'get', 'cli']);
    assert.notEqual(gone.code, 0);
    assert.match(gone.all, /not_found/);
  });

  await test('cloudflare SDK: every method', async () => {
    const client = new Cloudflare({ apiToken: p.token, baseURL: p.base });
    const a = { account_id: p.account };
    const v = client.vectorize.indexes;
    const made = await v.create({ ...a, name: 'sdk', config: { dimensions: 2, metric: 'euclidean' } });
    assert.equal(made.config.metric, 'euclidean');
    assert.ok(Date.parse(made.created_on) > 0);
    assert.equal((await v.info('sdk', a)).processedUpToMutation, null);
    const body = ndjson([{ id: 'a', values: [0, 0], metadata: { t: { u: true } } }, { id: 'b', values: [3, 4], namespace: 'x' }]);
    const file = (text) => new File([text], 'v.ndjson', { type: 'application/x-ndjson' });
    const first = await v.insert('sdk', { ...a, body: file(body) });
    assert.equal((await v.info('sdk', a)).processedUpToMutation, first.mutationId);
    await v.insert('sdk', { ...a, body: file(ndjson([{ id: 'a', values: [9, 9] }])) }); // what is there stays
    assert.deepEqual((await v.getByIDs('sdk', { ...a, ids: ['a', 'b'] })).map((x) => x.values), [[0, 0], [3, 4]]);
    const query = await v.query('sdk', { ...a, vector: [0, 0], topK: 5, returnMetadata: 'all', returnValues: true });
    assert.equal(query.count, 2);
    assert.deepEqual(query.matches.map((m) => [m.id, m.score]), [['a', 0], ['b', 5]]); // a distance: smaller is closer
    assert.deepEqual(query.matches[0].metadata, { t: { u: true } });
    await v.upsert('sdk', { ...a, body: file(ndjson([{ id: 'a', values: [1, 0], metadata: { t: { u: false } } }])) });
    assert.deepEqual((await v.query('sdk', { ...a, vector: [0, 0], filter: { 't.u': false } })).matches.map((m) => [m.id, m.score]), [['a', 1]]);
    await assert.rejects(v.upsert('sdk', { ...a, body: file('{"id":"c","values":[1,1]}\nbroken') }), /line 2.*No line of this call was taken/);
    assert.equal((await v.info('sdk', a)).vectorCount, 2);
    await v.upsert('sdk', { ...a, 'unparsable-behavior': 'discard', body: file('{"id":"c","values":[1,1]}\nbroken') });
    assert.equal((await v.info('sdk', a)).vectorCount, 3);
    const list = await v.listVectors('sdk', { ...a, count: 2 });
    assert.equal(list.totalCount, 3);
    assert.equal((await v.listVectors('sdk', { ...a, count: 2, cursor: list.nextCursor })).vectors.length, 1);
    await v.metadataIndex.create('sdk', { ...a, propertyName: 't.u', indexType: 'boolean' });
    await v.metadataIndex.create('sdk', { ...a, propertyName: 't.u', indexType: 'boolean' }); // again is fine
    assert.deepEqual((await v.metadataIndex.list('sdk', a)).metadataIndexes, [{ propertyName: 't.u', indexType: 'boolean' }]);
    await v.metadataIndex.delete('sdk', { ...a, propertyName: 't.u' });
    await v.deleteByIDs('sdk', { ...a, ids: ['a'] });
    assert.equal((await v.info('sdk', a)).vectorCount, 2);
    assert.ok((await Array.fromAsync(v.list(a))).some((i) => i.name === 'sdk'));
    assert.equal((await v.get('sdk', a)).name, 'sdk');
    await v.delete('sdk', a);
    await assert.rejects(v.get('sdk', a), /3000|not_found/);
  });

  await test('a Worker with the binding: every method, and errors in its words', async () => {
    await make('bound', 3);
    const d = project({ 'wrangler.jsonc': { name: 'vec', main: 'src/index.js', compatibility_date: '2026-04-01', vectorize: [{ binding: 'VEC', index_name: 'bound' }] }, 'src/index.js': worker });
    const deployed = await p.wrangler(d, ['deploy']);
    assert.equal(deployed.code, 0, deployed.all);
    const env = async (method, ...args) => {
      const r = await p.worker('vec', '/', { method: 'POST', body: JSON.stringify({ method, args }) });
      const text = await r.text();
      assert.equal(r.status, 200, text);
      return JSON.parse(text);
    };
    const inserted = await env('insert', [{ id: '1', values: [1, 0, 0], namespace: 'n', metadata: { 'k': 'é"\n', n: 1.5 } }, { id: '2', values: [0.6, 0.8, 0] }]);
    assert.match(inserted.mutationId, /^[0-9a-f-]{36}$/);
    assert.deepEqual(await env('insert', []).then((x) => typeof x.mutationId), 'string');
    await env('upsert', [{ id: '2', values: [0, 1, 0], metadata: { n: 2 } }]);
    const info = await env('describe');
    assert.equal(info.vectorCount, 2);
    assert.equal(info.dimensions, 3);
    const all = await env('query', [1, 0, 0], { topK: 7, returnValues: true, returnMetadata: true });
    assert.deepEqual(all, { count: 2, matches: [{ id: '1', score: 1, values: [1, 0, 0], namespace: 'n', metadata: { 'k': 'é"\n', n: 1.5 } }, { id: '2', score: 0, values: [0, 1, 0], metadata: { n: 2 } }] });
    assert.deepEqual(await env('query', [1, 0, 0]), { count: 2, matches: [{ id: '1', score: 1 , namespace: 'n'}, { id: '2', score: 0 }] });
    assert.deepEqual((await env('query', [1, 0, 0], { namespace: 'n', returnMetadata: false })).matches.map((m) => m.id), ['1']);
    assert.deepEqual((await env('query', [1, 0, 0], { filter: { n: { $gt: 1.5 } } })).matches.map((m) => m.id), ['2']);
    assert.deepEqual((await env('queryById', '2', { topK: 1 })).matches.map((m) => m.id), ['2']);
    assert.deepEqual(await env('getByIds', ['2', 'none']), [{ id: '2', values: [0, 1, 0], metadata: { n: 2 } }]);
    assert.match((await env('query', [1, 0])).error, /^VECTOR_QUERY_ERROR \(code = 40006\): invalid query vector, expected 3 dimensions, and got 2 dimensions/);
    assert.match((await env('insert', [{ id: '3', values: [1] }])).error, /^VECTOR_INSERT_ERROR \(code = 40012\)/);
    assert.match((await env('upsert', [{ id: 'x'.repeat(65), values: [1, 0, 0] }])).error, /^VECTOR_UPSERT_ERROR \(code = 40008\)/);
    assert.match((await env('query', [1, 0, 0], { topK: 101 })).error, /\(code = 40025\): max top K is 100, but got 101/);
    assert.match((await env('query', [1, 0, 0], { topK: 51, returnMetadata: 'all' })).error, /\(code = 40025\): max top K is 50/);
    assert.match((await env('upsert', Array.from({ length: 1001 }, (_, i) => ({ id: `${i}`, values: [1, 0, 0] })))).error, /40011\): vectors of one call: 1001, at most 1000/);
    assert.match((await env('queryById', 'none')).error, /^VECTOR_QUERY_ERROR \(code = 40014\)/);
    assert.match((await env('deleteByIds', ['1'])).mutationId, /^[0-9a-f-]{36}$/);
    assert.equal((await env('describe')).vectorCount, 1);

    const missing = await p.wrangler(project({ 'wrangler.jsonc': { name: 'vec2', main: 'src/index.js', compatibility_date: '2026-04-01', vectorize: [{ binding: 'VEC', index_name: 'nowhere' }] }, 'src/index.js': worker }), ['deploy']);
    assert.notEqual(missing.code, 0);
    assert.match(missing.all, /nowhere/);
    await call('DELETE', '/bound');
    assert.match((await env('describe')).error, /3000/);
    await p.wrangler(d, ['delete', '--force']);
  });

  await test('filters, scores and namespaces agree with brute force', async () => {
    const rnd = random(7), dims = 8, n = 600;
    const pick = (list) => list[Math.floor(rnd() * list.length)];
    const vectors = Array.from({ length: n }, (_, i) => {
      const metadata = {};
      if (rnd() < 0.8) metadata.s = pick(['red', 'green', 'blue', 'größe', '']);
      if (rnd() < 0.8) metadata.n = Math.floor(rnd() * 20) / 2;
      if (rnd() < 0.5) metadata.b = rnd() < 0.5;
      if (rnd() < 0.3) metadata.o = { p: pick([1, 'one', true, null]) };
      if (rnd() < 0.1) metadata.s = pick([5, null, true]);
      return { id: `v${i}`, values: Array.from({ length: dims }, () => Math.fround(rnd() * 2 - 1)), ...(rnd() < 0.3 ? { namespace: pick(['x', 'y']) } : {}), metadata };
    });
    const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const measures = { cosine: (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)), euclidean: (a, b) => Math.sqrt(a.reduce((s, x, i) => s + (x - b[i]) ** 2, 0)), 'dot-product': dot };
    const get = (m, key) => key.split('.').reduce((o, k) => (o && typeof o === 'object' ? o[k] : undefined), m) ?? null;
    const holds = {
      $eq: (v, x) => v === x, $ne: (v, x) => v !== x, $in: (v, x) => x.includes(v), $nin: (v, x) => !x.includes(v),
      $lt: (v, x) => typeof v === typeof x && v < x, $lte: (v, x) => typeof v === typeof x && v <= x, $gt: (v, x) => typeof v === typeof x && v > x, $gte: (v, x) => typeof v === typeof x && v >= x };
    const takes = (filter, m) => Object.entries(filter).every(([key, c]) => (c !== null && typeof c === 'object' ? Object.entries(c).every(([op, x]) => holds[op](get(m, key), x)) : get(m, key) === c));
    const value = () => pick(['red', 'green', 'größe', '', 3, 2.5, 7, true, false, null]);
    const condition = () => pick([value, () => ({ $eq: value() }), () => ({ $ne: value() }), () => ({ $in: [value(), value()] }), () => ({ $nin: [value(), value()] }),
      () => ({ $gte: 2, $lt: 7.5 }), () => ({ $gt: pick([1, 'blue']) }), () => ({ $lte: pick([8, 'green']) })])();
    const operators = new Set();
    for (const [metric, measure] of Object.entries(measures)) {
      const name = `brute-${metric}`;
      await make(name, dims, metric);
      for (let at = 0; at < n; at += 200) await put(name, vectors.slice(at, at + 200));
      if (metric === 'cosine') await call('POST', `/${name}/metadata_index/create`, { propertyName: 'n', indexType: 'number' }); // covers what was there
      for (let round = 0; round < 60; round++) {
        const vector = Array.from({ length: dims }, () => Math.fround(rnd() * 2 - 1));
        const filter = Object.fromEntries(Array.from({ length: 1 + Math.floor(rnd() * 2) }, () => [pick(['s', 'n', 'b', 'o.p', 'absent']), condition()]));
        JSON.stringify(filter, (k, v) => (k.startsWith('$') && operators.add(k), v));
        const namespace = rnd() < 0.3 ? pick(['x', 'y', 'z']) : undefined;
        const expected = vectors.filter((v) => (!namespace || v.namespace === namespace) && takes(filter, v.metadata))
          .map((v) => ({ id: v.id, score: measure(v.values, vector) })).sort((a, b) => (metric === 'euclidean' ? a.score - b.score : b.score - a.score)).slice(0, 20);
        const got = await call('POST', `/${name}/query`, { vector, topK: 20, filter, namespace });
        assert.deepEqual(got.matches.map((m) => m.id), expected.map((m) => m.id), `${metric} ${JSON.stringify(filter)} in ${namespace}`);
        got.matches.forEach((m, i) => near(m.score, expected[i].score));
        assert.equal(got.count, expected.length);
      }
      // deletion by the same language
      const doomed = { n: { $lt: 3 }, b: { $ne: true } };
      const rest = vectors.filter((v) => !takes(doomed, v.metadata));
      const deleted = await call('POST', `/${name}/delete_by_filter`, { filter: doomed });
      assert.equal(deleted.count, n - rest.length);
      const info = await call('GET', `/${name}/info`);
      assert.equal(info.vectorCount, rest.length);
      assert.equal(info.processedUpToMutation, deleted.mutationId);
      assert.equal((await call('POST', `/${name}/query`, { vector: vectors[0].values, topK: 100, filter: doomed })).count, 0);
      await call('DELETE', `/${name}`);
    }
    assert.equal(operators.size, 8, [...operators].join());
  });

  await test('what goes in comes out: float32 values digit by digit', async () => {
    const rnd = random(11), dims = 768;
    await make('digits', dims, 'dot-product');
    const sent = Array.from({ length: 20 }, (_, i) => ({ id: `${i}`, values: Array.from({ length: dims }, () => (rnd() - 0.5) * 10 ** (Math.floor(rnd() * 30) - 20)) }));
    await put('digits', sent);
    const got = await call('POST', '/digits/get_by_ids', { ids: sent.map((v) => v.id) });
    got.forEach((v, i) => assert.deepEqual(v.values.map(Math.fround), sent[i].values.map(Math.fround)));
    await call('DELETE', '/digits');
  });

  await test('bad input gets its error, and nothing is lost or half applied', async () => {
    await make('hostile', 3);
    await put('hostile', [{ id: 'kept', values: [1, 0, 0], metadata: { a: 1 } }]);
    const up = (text) => ['POST', '/hostile/upsert', text, { 'content-type': 'application/x-ndjson' }];
    const line = (more, id = 'b') => ndjson([{ id, values: [1, 1, 1], ...more }]);
    assert.match(await refused(400, 40012, ...up(line({ values: [1, 2] }))), /expected 3 dimensions, and got 2/);
    assert.match(await refused(400, 40001, ...up('{"id":"b","values":[1,NaN,1]}')), /line 1.*NaN/);
    assert.match(await refused(400, 40001, ...up('{"id":"b","values":[1,null,1]}')), /NaN and infinities/);
    assert.match(await refused(400, 40001, ...up('{"id":"b","values":[1,Infinity,1]}')), /Infinity/);
    await refused(400, 40001, ...up('{"id":"b","values":[1,1e39,1]}'));
    assert.match(await refused(400, 40001, ...up(line({ values: [0, 0, 0] }))), /zeros/);
    await refused(400, 40008, ...up(line({}, 'x'.repeat(65))));
    await refused(400, 40008, ...up(line({}, 'é'.repeat(33))));
    await refused(400, 40009, ...up(line({ namespace: 'x'.repeat(65) })));
    await refused(400, 40010, ...up(line({ metadata: { a: 'x'.repeat(10240) } })));
    await refused(400, 40001, ...up(line({ metadata: [1] })));
    await refused(400, 40001, ...up('{"id":"b","values":[1,1,1],"metadata":{"a":}}'));
    await refused(400, 40001, ...up(`{"id":"b","values":[1,1,1],"metadata":${'{"a":'.repeat(1500)}1${'}'.repeat(1500)}}`));
    await refused(400, 40001, ...up('[[[[[['.repeat(10000)));
    await refused(400, 40001, 'POST', '/hostile/upsert?unparsable-behavior=maybe', '', {});
    await refused(400, 40001, 'POST', '/hostile/upsert', '--q\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--q--\r\n', { 'content-type': 'multipart/form-data; boundary=q' });

    const many = (n) => Array.from({ length: n }, (_, i) => `{"id":"m${i}","values":[1,${i},1]}`);
    assert.match(await refused(400, 40011, ...up(many(5001).join('\n'))), /5001, at most 5000/);
    const broken = many(5000);
    broken[3999] = '{"id":"m3999","values":[1,2';
    assert.match(await refused(400, 40001, ...up(broken.join('\n'))), /^line 4000: .*No line of this call was taken/);
    assert.equal((await call('GET', '/hostile/info')).vectorCount, 1);
    const r = await p.api('POST', `${V2}/hostile/upsert?unparsable-behavior=discard`, broken.join('\n'), { 'content-type': 'application/x-ndjson' });
    assert.equal(r.status, 200, r.text);
    assert.equal(r.json.messages.length, 1);
    assert.match(r.json.messages[0].message, /^line 4000 was not taken/);
    assert.equal((await call('GET', '/hostile/info')).vectorCount, 5000);

    const q = (more) => ['POST', '/hostile/query', { vector: [1, 0, 0], ...more }];
    await refused(400, 40006, ...q({ vector: [1, 0] }));
    await refused(400, 40025, ...q({ topK: 0 }));
    await refused(400, 40025, ...q({ topK: -1 }));
    await refused(400, 40025, ...q({ topK: 1.5 }));
    await refused(400, 40025, ...q({ topK: '5' }));
    assert.match(await refused(400, 40025, ...q({ topK: 101 })), /max top K is 100, but got 101/);
    await refused(400, 40025, ...q({ topK: 51, returnValues: true }));
    await refused(400, 40025, ...q({ topK: 51, returnMetadata: 'all' }));
    assert.equal((await call(...q({ topK: 100 }))).count, 100);
    assert.equal((await call(...q({ topK: 50, returnMetadata: 'all' }))).count, 50);
    await refused(400, 40026, ...q({ returnMetadata: 'some' }));
    await refused(400, 40026, ...q({ returnMetadata: 1 }));
    await refused(400, 40001, ...q({ returnValues: 'yes' }));
    await refused(400, 40001, ...q({ vectorId: 'kept' }));
    await refused(400, 40001, 'POST', '/hostile/query', {});
    await refused(400, 40001, 'POST', '/hostile/query', '{"vector":[1,0,0]');
    await refused(404, 40014, 'POST', '/hostile/query', { vectorId: 'unknown' });
    for (const filter of [{}, [], 'a', { a: { $near: 1 } }, { a: { b: 1 } }, { a: [1] }, { $eq: 1 }, { a: { $gt: true } }, { '': 1 }])
      await refused(400, 40022, ...q({ filter }));
    await refused(400, 40022, ...q({ filter: { a: { $in: Array.from({ length: 500 }, (_, i) => i * 100000) } } }));
    let deep = 1;
    for (let i = 0; i < 200; i++) deep = { a: deep };
    await refused(400, 40022, ...q({ filter: deep }));

    await refused(400, 40007, 'POST', '/hostile/get_by_ids', { ids: Array.from({ length: 21 }, (_, i) => `${i}`) });
    await refused(400, 40007, 'POST', '/hostile/delete_by_ids', { ids: Array.from({ length: 1001 }, (_, i) => `${i}`) });
    await refused(400, 40001, 'POST', '/hostile/get_by_ids', { ids: [1] });
    await refused(400, 40001, 'POST', '/hostile/delete_by_ids', { ids: 'kept' });
    await refused(400, 40022, 'POST', '/hostile/delete_by_filter', {});
    await refused(400, 40022, 'POST', '/hostile/delete_by_filter', { filter: {} });
    await refused(400, 40021, 'GET', '/hostile/list?count=1001');
    await refused(400, 40021, 'GET', '/hostile/list?count=0');
    await refused(400, 40021, 'GET', '/hostile/list?cursor=nonsense');
    await refused(404, 40005, 'POST', '/hostile/metadata_index/delete', { propertyName: 'a' });
    await refused(400, 40004, 'POST', '/hostile/metadata_index/create', { propertyName: 'a', indexType: 'date' });
    for (let i = 0; i < 10; i++) await call('POST', '/hostile/metadata_index/create', { propertyName: `p${i}`, indexType: 'number' });
    await refused(400, 40004, 'POST', '/hostile/metadata_index/create', { propertyName: 'p10', indexType: 'number' });
    await refused(400, 40004, 'POST', '/hostile/metadata_index/create', { propertyName: 'p1', indexType: 'string' });

    for (const target of ['/none/info', '/none/list', '/..%2F..%2Fetc/info']) await refused(404, 3000, 'GET', target);
    await refused(400, 3001, 'POST', '', { name: 'Bad Name', config: { dimensions: 3, metric: 'cosine' } });
    await refused(400, 3001, 'POST', '', { name: 'wide', config: { dimensions: 4097, metric: 'cosine' } });
    await refused(400, 3001, 'POST', '', { name: 'wide' });
    await refused(400, 3002, 'POST', '', { name: 'hostile', config: { dimensions: 3, metric: 'cosine' } });
    const kept = await call('POST', '/hostile/get_by_ids', { ids: ['kept'] });
    assert.deepEqual(kept, [{ id: 'kept', values: [1, 0, 0], metadata: { a: 1 } }]);
    const folders = () => fs.readdirSync(path.join(p.data, 'vectorize')).length;
    const before = folders();
    await call('DELETE', '/hostile');
    assert.equal(folders(), before - 1);
  });

  for (const d of dirs) fs.rmSync(d, { recursive: true, force: true });
}
