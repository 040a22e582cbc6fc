// examples/ingest: a file arrives by S3, its notification reaches the queue, the Worker reads it, a model answers, the result is kept. Deployed as it is; then the
// processes are killed at each stage, and every file that was acknowledged has its result all the same.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import path from 'node:path';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Platform, command, root, sleep, until } from '../harness.mjs';

const example = path.join(root, 'examples/ingest');

export async function run(test) {
  let p, s3;
  const api = (method, target, body) => p.api(method, `/accounts/:account${target}`, body);
  const result = async (key) => { const r = await p.worker('ingest', `/results/${key}`, { limit_ms: 10_000 }); return r.status === 200 ? r.json() : (await r.text(), null); };
  const backlog = async (queue) => (await api('GET', `/queues?name=${queue}`)).json.result[0].queue_id;
  const waiting = async () => (await api('GET', `/queues/${await backlog('ingest-arrivals')}/metrics`)).json.result.backlog_count;
  // A file of its own for each key: acknowledged when this returns.
  const put = async (key) => {
    const text = `Please tell me about ${key}.`;
    await until(`${key} to be taken`, () => s3.send(new PutObjectCommand({ Bucket: 'ingest-inbox', Key: key, Body: text })).catch(() => null), 30_000);
    return { key, etag: crypto.createHash('md5').update(text).digest('hex'), size: text.length };
  };
  const whole = async (files) => {
    for (const f of files) {
      const r = await until(`the result of ${f.key}`, () => result(f.key).catch(() => null), 90_000, 100);
      assert.deepEqual({ key: f.key, etag: r.etag, size: r.size }, f);
      assert.ok(r.response.length > 0);
    }
    await until('the queue to be empty', async () => await waiting().catch(() => 1) === 0, 60_000, 100);
    const dead = (await api('GET', `/queues/${await backlog('ingest-failed')}/metrics`)).json.result;
    assert.equal(dead.backlog_count, 0);
  };
  const kill = (...kinds) => { for (const k of kinds) for (const v of p.processes(k)) try { process.kill(v.pid, 'SIGKILL'); } catch { /* it was faster */ } };

  if (!await test('examples/ingest is deployed as it is', async () => {
    p = await Platform.start();
    const env = { ...process.env, CLOUDFLARE_API_BASE_URL: p.base, CLOUDFLARE_ACCOUNT_ID: p.account, CLOUDFLARE_API_TOKEN: p.token };
    for (let i = 0; i < 2; i++) { // again is fine
      const made = await command([path.join(example, 'prepare')], { env });
      assert.equal(made.code, 0, made.all);
      const r = await p.wrangler(example, ['deploy']);
      assert.equal(r.code, 0, r.all);
    }
    s3 = new S3Client({ region: 'auto', endpoint: `http://127.0.0.1:${p.port}/s3/${p.account}`, forcePathStyle: true, credentials: {
      accessKeyId: (await p.api('GET', '/user/tokens/verify')).json.result.id, secretAccessKey: crypto.createHash('sha256').update(p.token).digest('hex') } });
  })) return;

  await test('a file that arrives has its result, and one that is replaced has a new one', async () => {
    await whole([await put('first.txt')]);
    const r = await p.worker('ingest', '/inbox/first.txt', { method: 'PUT', body: 'And now something else.' });
    assert.equal(r.status, 201);
    const { etag } = await r.json();
    await until('the new result', async () => (await result('first.txt')).etag === etag, 30_000, 100);
    assert.deepEqual(await (await p.worker('ingest', '/results')).json(), ['first.txt']);
  });

  await test('a kill right after the acknowledgement of a file loses nothing', async () => {
    const files = [];
    for (let i = 0; i < 4; i++) {
      files.push(await put(`acknowledged-${i}.txt`));
      kill('daemon');
    }
    await whole(files);
  });

  for (const kinds of [['daemon'], ['workerd'], ['engine'], ['daemon', 'workerd', 'engine']])
    await test(`a kill of ${kinds.join(', ')} while the pipeline works loses nothing`, async () => {
      const files = [];
      for (let i = 0; i < 3; i++) {
        files.push(await put(`${kinds.join('-')}-${i}.txt`));
        await until('the message', async () => await waiting().catch(() => 0) > 0 || await result(files[i].key).catch(() => null), 20_000);
        await sleep(i * 600); // in the queue; about to be read; being read
        kill(...kinds);
      }
      await whole(files);
    });

  await test('and the platform ends as it should', async () => assert.equal((await p.stop()).code, 0));
}
