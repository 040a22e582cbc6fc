// kill -9 under an asynchronous batch: what was acknowledged is computed, each entry once
import assert from 'node:assert/strict';
import path from 'node:path';
import { Platform, root, sleep, until } from '../harness.mjs';

const ID = 'me/embedder', N = 600;

export async function run(test) {
  await test('a batch outlives kill -9 of the daemon and of the engine', async () => {
    const p = await Platform.start();
    try {
      assert.equal((await p.cli(['models', 'import', path.join(root, 'tests/reference/encoders/bert'), '--as', ID])).code, 0);
      const requests = Array.from({ length: N }, (_, i) => ({ text: [`stone ${i % 7}`, 'river'], external_reference: `r${i}` }));
      const alone = (await p.run(ID, { text: ['stone 3', 'river'] })).json.result;
      const queued = await p.api('POST', `/accounts/:account/ai/run/${ID}?queueRequest=true`, { requests });
      assert.equal(queued.status, 200, queued.text);
      const { request_id } = queued.json.result;
      for (const kind of ['daemon', 'engine', 'daemon']) {
        await sleep(100);
        const [victim] = p.processes(kind);
        process.kill(victim.pid, 'SIGKILL');
        await until(`another ${kind}`, () => p.processes(kind).some((x) => x.pid !== victim.pid));
      }
      const done = await until('the end of the batch', async () => {
        const r = await p.run(ID, { request_id }).catch(() => ({}));
        return r.json?.result?.responses && r.json.result;
      }, 120_000, 200);
      assert.equal(done.responses.length, N);
      done.responses.forEach((r, i) => {
        assert.equal(r.id, i);
        assert.equal(r.success, true, JSON.stringify(r));
        assert.equal(r.external_reference, `r${i}`);
      });
      assert.deepEqual(done.responses[3].result, alone);
    } finally { await p.stop(); }
  });
}
