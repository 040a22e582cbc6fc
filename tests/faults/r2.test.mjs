// kill -9 of the daemon under puts, uploads in parts and replacements: what was acknowledged is there, whole and right; what was not is there
// whole or not at all; and the folder holds no file that nobody names
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import * as s3 from '@aws-sdk/client-s3';
import { Platform, temp_dir, until } from '../harness.mjs';
import { credentials } from '../conformance/s3.test.mjs';

const ROUNDS = 20;
const CLIENTS = 6;
const SIZES = [1000, 65_536, 70_000, 400_000];
const Bucket = 'killed';

// The bytes of a version of a key: anybody can tell whether they are right.
function content(key, version, n) {
  const seed = crypto.createHash('sha256').update(`${key}/${version}`).digest();
  const out = Buffer.alloc(n, seed);
  out.write(`${key}/${version}/${n}\n`);
  return out;
}

function is_whole(body, key) {
  const [k, version, n] = /^(\S+)\/(\d+)\/(\d+)\n/.exec(body.subarray(0, 200).toString('latin1'))?.slice(1) ?? [];
  return k === key && Number(n) === body.length && body.equals(content(key, version, body.length)) ? Number(version) : -1;
}

export async function run(test) {
  const data = temp_dir('r2-kill');
  let p, client;
  const send = (name, input) => client.send(new s3[`${name}Command`](input));
  if (!await test('a platform with a bucket', async () => {
    p = await Platform.start({ data });
    client = new s3.S3Client({ region: 'auto', endpoint: `http://127.0.0.1:${p.port}/s3/${p.account}`, forcePathStyle: true, credentials: await credentials(p), maxAttempts: 1 });
    await send('CreateBucket', { Bucket });
  })) return;

  await test(`${ROUNDS} kills of the daemon under ${CLIENTS} writers lose nothing`, async () => {
    const acked = new Map(); // key -> the last version that was acknowledged
    const begun = new Map(); // key -> the last that was sent
    for (let round = 0; round < ROUNDS; round++) {
      let n_acked = 0, dead = false;
      const enough = 5 + round * 2;
      const writers = Array.from({ length: CLIENTS }, async (_, w) => {
        for (let i = 0; !dead; i++) {
          const key = i % 3 ? `same-${w}` : `k-${round}-${w}-${i}`;
          const version = (begun.get(key) ?? 0) + 1;
          const n = SIZES[(i + w) % SIZES.length];
          begun.set(key, version);
          try {
            await send('PutObject', { Bucket, Key: key, Body: content(key, version, n) });
            acked.set(key, version);
            n_acked++;
          } catch (e) {
            if (!dead && !/socket|ECONN|502|503|Unknown|EPIPE|hang up/i.test(`${e} ${e.$metadata?.httpStatusCode}`)) throw e;
            return;
          }
        }
      });
      await until('acknowledged writes', () => n_acked >= enough, 30_000, 2);
      dead = true;
      process.kill(p.processes('daemon')[0].pid, 'SIGKILL');
      await Promise.all(writers);
      await until('the daemon', () => send('HeadBucket', { Bucket }).then(() => true, () => false));
      for (const [key, version] of begun) {
        const got = await send('GetObject', { Bucket, Key: key }).catch((e) => { if (e.name === 'NoSuchKey') return null; throw e; });
        if (!got) { assert.ok(!acked.has(key), `${key} was acknowledged and is gone`); continue; }
        const v = is_whole(Buffer.from(await got.Body.transformToByteArray()), key);
        assert.ok(v >= (acked.get(key) ?? 1) && v <= version, `${key}: version ${v}, acknowledged ${acked.get(key)}, sent ${version}`);
        if (key.startsWith('k-')) begun.delete(key); // looked at once
      }
    }
  }, 240_000);

  await test('after the kills every file is named by a row, and every row names a file', async () => {
    const folder = path.join(data, 'r2/big');
    process.kill(p.processes('daemon')[0].pid, 'SIGKILL');
    await until('the daemon', () => send('HeadBucket', { Bucket }).then(() => true, () => false));
    const db = new DatabaseSync(path.join(data, 'r2/r2.db'), { readOnly: true });
    const named = db.prepare('SELECT file, n FROM pieces UNION ALL SELECT file, n FROM parts').all();
    assert.ok(named.length > 0);
    assert.deepEqual(fs.readdirSync(folder).sort(), named.map((r) => r.file).sort());
    for (const r of named) assert.equal(fs.statSync(path.join(folder, r.file)).size, r.n);
    db.close();
  });
  await p.stop();
  fs.rmSync(data, { recursive: true, force: true });
}
