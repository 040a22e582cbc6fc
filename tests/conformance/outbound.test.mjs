// A Worker's fetch() and connect(): the world, but never this machine or its neighbours
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { temp_dir, write_files } from '../harness.mjs';

const worker = `import { connect } from 'cloudflare:sockets';
export default { async fetch(request) {
  const to = new URL(request.url).searchParams.get('to');
  if (to.startsWith('tcp:')) {
    const socket = connect(to.slice(4));
    try { await socket.opened; return new Response('open'); } catch (e) { return new Response('refused: ' + e.message); }
  }
  try {
    const r = await fetch(to, { redirect: 'manual', method: request.method, body: request.body });
    return new Response(r.status + ' ' + await r.text());
  } catch (e) { return new Response('failed: ' + e.message); }
} };`;

export async function run(test, p) {
  let hits = 0;
  const server = http.createServer((q, s) => { hits++; s.end('secret of this machine'); });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const port = server.address().port;
  const dir = write_files(temp_dir('outbound'), { 'wrangler.jsonc': { name: 'outbound', main: 'index.js', compatibility_date: '2026-04-01' }, 'index.js': worker });
  const get = async (to, opts) => (await p.worker('outbound', `/?to=${encodeURIComponent(to)}`, opts)).text();

  await test('fetch() reaches no address of this machine or its network', async () => {
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    for (const host of ['127.0.0.1', 'localhost', '[::1]', '0.0.0.0', '10.0.0.1', '192.168.0.1', '169.254.169.254', '[::ffff:127.0.0.1]', '2130706433', '0x7f.1']) {
      const text = await get(`http://${host}:${port}/`);
      assert.match(text, /^(502|504|failed)/, `${host}: ${text}`);
      assert.doesNotMatch(text, /secret/);
    }
    assert.match(await get(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'x'.repeat(100_000) }), /^(502|failed)/);
    assert.equal(hits, 0);
  });

  await test('connect() is refused, and says so', async () => {
    assert.match(await get(`tcp:127.0.0.1:${port}`), /^refused/);
    assert.equal(hits, 0);
  });

  await test('a name that does not resolve is an error of the fetch, not of the Worker', async () => {
    assert.match(await get('http://no-such-host.invalid/'), /^(502|failed)/);
  });
  server.close();
  fs.rmSync(dir, { recursive: true });
}
