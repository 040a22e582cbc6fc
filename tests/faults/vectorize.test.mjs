// kill -9 of the daemon while vectors come in: what was acknowledged is there afterwards, whole, and a call that was not is there whole or not at all
import assert from 'node:assert/strict';
import { Platform, sleep } from '../harness.mjs';

export async function run(test) {
  let p;
  if (!await test('a platform to write vectors to', async () => { p = await Platform.start(); })) return;
  const at = '/accounts/:account/vectorize/v2/indexes';
  const BATCH = 5, ROUNDS = 6;

  await test('kill -9 at random moments loses no acknowledged mutation and halves none', async () => {
    assert.equal((await p.api('POST', at, { name: 'crash', config: { dimensions: 4, metric: 'euclidean' } })).status, 200);
    assert.equal((await p.api('POST', `${at}/crash/metadata_index/create`, { propertyName: 'batch', indexType: 'number' })).status, 200);
    const known = new Map(); // batch -> 'taken', 'deleted', or what it was when nobody answered
    let n = 0;
    for (let round = 0; round < ROUNDS; round++) {
      let stop = false;
      const writer = async () => {
        while (!stop) {
          const b = n++;
          const lines = Array.from({ length: BATCH }, (_, i) => JSON.stringify({ id: `${b}-${i}`, values: [b, i, 1, 1], metadata: { batch: b } })).join('\n');
          const r = await p.api('POST', `${at}/crash/upsert`, lines).catch(() => null);
          known.set(b, r?.status === 200 ? 'taken' : 'unknown');
          if (r?.status === 200 && b % 4 === 3) {
            known.set(b, 'unknown');
            const gone = await p.api('POST', `${at}/crash/delete_by_ids`, { ids: Array.from({ length: BATCH }, (_, i) => `${b}-${i}`) }).catch(() => null);
            if (gone?.status === 200) known.set(b, 'deleted');
          }
          if (r?.status !== 200) await sleep(20);
        }
      };
      const writers = [writer(), writer(), writer()];
      for (const enough = n + 5 + Math.floor(Math.random() * 60); n < enough;) await sleep(2); // batches, not time: a slow machine writes as many
      const [daemon] = p.processes('daemon');
      process.kill(daemon.pid, 'SIGKILL');
      for (const end = Date.now() + 15_000; ; await sleep(20)) {
        const back = await p.api('GET', `${at}/crash/info`).catch(() => null);
        if (back?.status === 200 && !p.processes('daemon').some((d) => d.pid === daemon.pid)) break;
        if (Date.now() > end) throw new Error('the daemon is not back');
      }
      stop = true;
      await Promise.all(writers);
      for (const [b, state] of known) {
        const r = await p.api('POST', `${at}/crash/get_by_ids`, { ids: Array.from({ length: BATCH }, (_, i) => `${b}-${i}`) });
        const found = r.json.result.length;
        if (state === 'taken') assert.equal(found, BATCH, `batch ${b} was acknowledged, ${found} of it are there after round ${round}`);
        else if (state === 'deleted') assert.equal(found, 0, `batch ${b} was deleted, ${found} of it are back after round ${round}`);
        else assert.ok(found === 0 || found === BATCH, `batch ${b}: ${found} of ${BATCH}`);
        known.set(b, found ? 'taken' : 'deleted');
        for (const v of r.json.result) assert.deepEqual(v.values, [b, Number(v.id.split('-')[1]), 1, 1]);
      }
      const info = (await p.api('GET', `${at}/crash/info`)).json.result;
      assert.equal(info.vectorCount, [...known.values()].filter((s) => s === 'taken').length * BATCH);
      const some = [...known].filter(([, s]) => s === 'taken').map(([b]) => b).pop();
      const q = await p.api('POST', `${at}/crash/query`, { vector: [some, 0, 1, 1], topK: 20, filter: { batch: some } });
      assert.equal(q.json.result.count, BATCH);
      assert.equal(q.json.result.matches[0].id, `${some}-0`);
    }
    assert.ok(known.size > 20, `${known.size} batches`);
  });

  await test('the platform drains', async () => { assert.equal((await p.stop()).code, 0); });
}
