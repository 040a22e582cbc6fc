// Bad input: the right code, flat memory, and the next request works
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { Readable } from 'node:stream';
import { Platform, root, request, sleep, temp_dir, until } from '../harness.mjs';

const TINY = '@cf/selvedge/tiny-chat';

export async function run(test) {
  let p;
  if (!await test('a platform to be treated badly', async () => { p = await Platform.start(); })) return;
  const rss_kb = (pid) => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  const daemon = () => p.processes('daemon')[0].pid;
  const auth = { authorization: `Bearer ${p.token}` };
  const fine = async () => assert.equal((await p.run(TINY, { prompt: 'Hello.', max_tokens: 2 })).status, 200);

  // Sends raw bytes, returns all that came back until the end or `ms`.
  const raw = (bytes, ms = 3000, port = p.port) => new Promise((done) => {
    let text = '';
    const s = net.connect(port, '127.0.0.1', () => s.write(bytes));
    s.on('data', (d) => { text += d; });
    s.on('error', () => {});
    s.on('close', () => done(text));
    setTimeout(() => s.destroy(), ms);
  });

  await test('100 MB of JSON are refused with 413, and memory stays flat', async () => {
    await fine();
    const before = rss_kb(daemon());
    const chunk = Buffer.from(' '.repeat(1 << 20));
    for (let i = 0; i < 3; i++) {
      const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${TINY}`, headers: { ...auth, 'content-type': 'application/json', 'content-length': String(100 << 20) },
        body: Readable.from((function* () { for (let k = 0; k < 100; k++) yield chunk; })()) }).catch((e) => ({ status: e.code }));
      assert.ok(r.status === 413 || r.status === 'EPIPE' || r.status === 'ECONNRESET', String(r.status));
      if (r.status === 413) assert.match(await r.text(), /3006/);
    }
    const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${TINY}`, headers: auth,
      body: Readable.from((function* () { for (let k = 0; k < 100; k++) yield chunk; })()) }).catch((e) => ({ status: e.code }));
    assert.ok(r.status === 413 || r.status === 'EPIPE' || r.status === 'ECONNRESET', String(r.status));
    assert.ok(rss_kb(daemon()) - before < 60_000, `grew by ${rss_kb(daemon()) - before} kB`);
    await fine();
  });

  await test('bodies cut short, half heads and nonsense harm nobody', async () => {
    const head = `POST /client/v4/accounts/${p.account}/ai/run/${TINY} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${p.token}\r\n`;
    await Promise.all([raw(`${head}content-length: 1000\r\n\r\n{"prompt":`, 300), raw(`${head}transfer-encoding: chunked\r\n\r\nzz\r\n`, 1500), raw(head, 300), raw('\0\x01\x02\xff'.repeat(1000), 1000),
      raw('GET / HTTP/9.9\r\n\r\n', 1000), raw(`${head}content-length: -5\r\n\r\n`, 1000), raw(`${head}content-length: 5\r\ncontent-length: 6\r\n\r\nhello`, 1000)]);
    const big = await raw(`GET / HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(200_000)}\r\n\r\n`, 3000);
    assert.match(big, /^HTTP\/1\.[01] 4(31|00|13)/);
    await fine();
  });

  await test('slow heads are ended by the time limit and do not stop others', async () => {
    const sockets = Array.from({ length: 200 }, () => net.connect(p.port, '127.0.0.1'));
    let closed = 0;
    for (const s of sockets) { s.on('error', () => {}); s.on('close', () => closed++); s.on('data', () => {}); s.write('GET / HTTP/1.1\r\nx: '); }
    const drip = setInterval(() => { for (const s of sockets) if (!s.destroyed) s.write('y'); }, 500);
    const start = Date.now();
    await fine();
    assert.ok(Date.now() - start < 3000);
    await until('slow clients to be ended', () => closed === 200, 25_000, 200);
    clearInterval(drip);
  });

  await test('clients that leave mid-stream, a hundred times over, leave nothing behind', async () => {
    const before = rss_kb(daemon());
    for (let round = 0; round < 10; round++)
      await Promise.all(Array.from({ length: 10 }, async (_, i) => {
        const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${TINY}`, headers: auth,
          body: JSON.stringify({ prompt: 'Tell me a long story.', temperature: 3, max_tokens: 400, stream: true }) });
        if (r.status === 200 && i % 2) await new Promise((done) => r.stream.once('data', done));
        r.close();
      }));
    await until('no generation in flight', async () => (await p.metric('selvedge_ai_in_flight')) === 0, 5000);
    assert.ok(rss_kb(daemon()) - before < 60_000, `grew by ${rss_kb(daemon()) - before} kB`);
    await fine();
  });

  await test('truncated and damaged model files are refused by name, and the engine lives', async () => {
    const dir = temp_dir('gguf');
    const whole = fs.readFileSync(path.join(root, 'models/tiny-chat.gguf'));
    const engine = p.processes('engine')[0].pid;
    let seed = 1;
    const random = (n) => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return seed % n; };
    for (let i = 0; i < 24; i++) {
      const file = path.join(dir, `broken-${i}.gguf`);
      let bytes;
      if (i < 8) bytes = whole.subarray(0, [0, 3, 4, 100, 5000, 40_000, whole.length >> 1, whole.length - 1][i]);
      else { bytes = Buffer.from(whole); for (let k = 0; k < 1 + i; k++) bytes[random(60_000)] = random(256); }
      fs.writeFileSync(file, bytes);
      const r = await p.cli(['models', 'import', file, '--as', `test/broken-${i}`]);
      if (i < 8) {
        assert.equal(r.code, 1, `${i}: ${r.all}`);
        assert.match(r.err, /broken-\d+\.gguf/);
        assert.equal(r.err.trim().split('\n').length, 1);
      } else if (r.code === 0) { // the damage hit a name or a weight: it may run, it may not crash
        const answer = await p.run(`test/broken-${i}`, { prompt: 'Hello.', max_tokens: 4 });
        assert.ok([200, 400, 500, 502, 503].includes(answer.status), `${answer.status}`);
      } else assert.equal(r.code, 1, r.all);
    }
    assert.equal(p.processes('engine')[0].pid, engine);
    await fine();
    fs.rmSync(dir, { recursive: true });
  });

  await test('SIGTERM still drains and exits 0', async () => { assert.equal((await p.stop()).code, 0); await sleep(0); });
}
