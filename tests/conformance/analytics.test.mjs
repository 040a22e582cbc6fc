// The Analytics Engine: a deployed Worker writes data points, the SQL API answers about them
//
// miniflare takes points and forgets them, so what it can be compared in is what writeDataPoint() returns and throws.
import assert from 'node:assert/strict';
import { temp_dir, until, write_files } from '../harness.mjs';

const worker = `
  export default {
    async fetch(req, env) {
      const { points = [], many = 0 } = await req.json();
      const out = [];
      for (const p of points) {
        try { out.push(String(env.AE.writeDataPoint(p))); } catch (e) { out.push(e.name + ': ' + e.message); }
      }
      for (let i = 0; i < many; i++) env.AE.writeDataPoint({ blobs: ['many', String(i % 3)], doubles: [i], indexes: ['m' + i] });
      env.AE.writeDataPoint({ blobs: [new TextEncoder().encode('bytes').buffer, null], doubles: [NaN] });
      return Response.json(out);
    },
  };`;

export async function run(test, p) {
  const dir = temp_dir('analytics');
  const sql = async (text) => { const r = await p.api('POST', '/accounts/:account/analytics_engine/sql', text, { 'content-type': 'text/plain' }); return r; };
  const rows = async (text) => { const r = await sql(text); assert.equal(r.status, 200, JSON.stringify(r.json)); return r.json.data; };

  await test('wrangler deploys a Worker with a dataset', async () => {
    write_files(dir, { 'wrangler.jsonc': { name: 'ae-test', main: 'w.js', compatibility_date: '2026-11-01', analytics_engine_datasets: [{ binding: 'AE', dataset: 'visits' }] }, 'w.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
  });

  await test('writeDataPoint() returns nothing, and throws where a point is too large', async () => {
    const out = await (await p.worker('ae-test', '/', { method: 'POST', body: JSON.stringify({ many: 601, points: [
      { blobs: ['/a', null, 'x'], doubles: [1.5, 2], indexes: ['u1'] }, {}, { indexes: ['a', 'b'] }, { blobs: Array(21).fill('') }, { doubles: Array(21).fill(0) },
      { indexes: ['x'.repeat(97)] }, { blobs: ['x'.repeat(16001)] }, { blobs: 'text' }] }) })).json();
    assert.deepEqual(out.slice(0, 2), ['undefined', 'undefined']);
    for (const [i, text] of ['Maximum of 1 indexes', 'Maximum of 20 blobs', 'Maximum of 20 doubles', 'exceeds 96 bytes', 'exceeds 16000 bytes', 'must be an array'].entries())
      assert.match(out[i + 2], new RegExp(`^TypeError: writeDataPoint\\(\\): .*${text}`));
  });

  await test('what a request wrote is there, whole', async () => {
    await until('the points', async () => (await sql('SELECT count() AS n FROM visits')).json.data?.[0].n === 604);
    assert.deepEqual(await rows("SELECT blob2, count() AS n, sum(_sample_interval * double1) AS total, max(double1) AS top FROM visits WHERE blob1 = 'many' AND timestamp > NOW() - INTERVAL '1' DAY GROUP BY blob2 ORDER BY blob2"),
      [0, 1, 2].map((k) => { const of = Array.from({ length: 601 }, (_, i) => i).filter((i) => i % 3 === k); return { blob2: String(k), n: of.length, total: of.reduce((a, b) => a + b, 0), top: of.at(-1) }; }));
    assert.deepEqual(await rows("SELECT blob1, blob2, blob3, double1, double2, index1, dataset FROM visits WHERE index1 = 'u1'"),
      [{ blob1: '/a', blob2: '', blob3: 'x', double1: 1.5, double2: 2, index1: 'u1', dataset: 'visits' }]);
    assert.deepEqual(await rows("SELECT blob1, double1 FROM visits WHERE blob1 = 'bytes'"), [{ blob1: 'bytes', double1: 0 }]);
  });

  await test('SHOW TABLES, formats, GET, and columns with their types', async () => {
    assert.deepEqual((await rows('SHOW TABLES')).map((r) => r.dataset), ['visits']);
    const r = await sql('SELECT count() AS n, max(timestamp) AS last FROM visits');
    assert.deepEqual(r.json.meta, [{ name: 'n', type: 'UInt64' }, { name: 'last', type: 'DateTime' }]);
    assert.match(r.json.data[0].last, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
    const get = await p.api('GET', `/accounts/:account/analytics_engine/sql?query=${encodeURIComponent("SELECT 'Hello' AS message FORMAT JSONEachRow")}`);
    assert.equal(get.text, '{"message":"Hello"}\n');
    assert.equal((await sql('SELECT 1, 2 FORMAT TabSeparated')).text, '1\t2\n');
  });

  await test('queries that cannot be are refused with their place', async () => {
    for (const [text, status, want] of [['SELECT x FROM visits', 400, /'x': there is no column/], ['SELECT 1 FROM nothing', 404, /no dataset 'nothing'/], ['DROP TABLE points', 400, /SELECT is expected/],
      ['', 400, /SELECT is expected/], ['SELECT ' + '1,'.repeat(40000) + '1', 400, /at most 65536/], ['SELECT sum(sum(double1)) FROM visits', 400, /misuse of aggregate/]]) {
      const r = await sql(text);
      assert.equal(r.status, status, text.slice(0, 60));
      assert.match(r.json.errors[0].message, want);
    }
  });
}
