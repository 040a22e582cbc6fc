// Cron triggers: set by wrangler and the SDK, run by the clock, by hand, and after a time in which nothing ran
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import Cloudflare from 'cloudflare';
import { temp_dir, until, write_files } from '../harness.mjs';

const worker = `
  const seen = [];
  export default {
    fetch: () => Response.json(seen),
    async scheduled(controller, env, ctx) {
      seen.push({ cron: controller.cron, at: controller.scheduledTime });
      if (controller.cron === '0 17 * * SUN') throw new Error('not on Sundays');
      ctx.waitUntil(new Promise((done) => setTimeout(done, 300)).then(() => seen.push('waited')));
    },
  };`;

export async function run(test, p) {
  const dir = temp_dir('schedules');
  const client = new Cloudflare({ apiToken: p.token, baseURL: p.base, maxRetries: 0 });
  const api = (method, target, body) => p.api(method, `/accounts/:account/workers/scripts/timed${target}`, body);
  const config = (crons) => write_files(dir, { 'w.js': worker, 'wrangler.jsonc': { name: 'timed', main: 'w.js', compatibility_date: '2026-11-01', triggers: { crons } } });
  const seen = async () => (await p.worker('timed')).json();
  const runs = async () => (await api('GET', '/schedules/runs')).json.result.runs;

  await test('wrangler deploys a Worker with schedules, and changes them', async () => {
    config(['0 0 1 1 *', '*/5 0 * * *']);
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    assert.match(r.all, /schedule: 0 0 1 1 \*/);
    config(['0 0 1 1 *', '0 17 * * SUN']);
    const again = await p.wrangler(dir, ['triggers', 'deploy']);
    assert.equal(again.code, 0, again.all);
    const { schedules } = (await api('GET', '/schedules')).json.result;
    assert.deepEqual(schedules.map((s) => s.cron), ['0 0 1 1 *', '0 17 * * SUN']);
    assert.ok(schedules.every((s) => !Number.isNaN(Date.parse(s.created_on)) && !Number.isNaN(Date.parse(s.modified_on))));
    const sdk = await client.workers.scripts.schedules.get('timed', { account_id: p.account });
    assert.equal(sdk.schedules.length, 2);
  });

  await test('what is no cron expression is refused by its field', async () => {
    config(['0 0 * * 8']);
    const r = await p.wrangler(dir, ['triggers', 'deploy']);
    assert.notEqual(r.code, 0);
    assert.match(r.all, /day of week '8'/);
    for (const body of ['{}', '[{}]', '[7]', 'x', [{ cron: 7 }], [{ cron: '\u0000* * * * *' }], [{ cron: '*'.repeat(10_000) }]]) assert.equal((await api('PUT', '/schedules', body)).status, 400);
    assert.equal((await api('GET', '/schedules')).json.result.schedules.length, 2);
    assert.equal((await p.api('PUT', '/accounts/:account/workers/scripts/nobody/schedules', [{ cron: '* * * * *' }])).status, 404);
  });

  await test('a run by hand calls scheduled() and waits for its waitUntil', async () => {
    const r = await api('POST', '/schedules/run', { cron: '0 0 1 1 *' });
    assert.equal(r.status, 200, r.text);
    await until('the outcome', async () => (await runs())[0].outcome);
    const s = await seen();
    assert.equal(s.length, 2);
    assert.equal(s[0].cron, '0 0 1 1 *');
    assert.ok(Math.abs(s[0].at - Date.now()) < 60_000);
    assert.equal(s[1], 'waited');
    const last = (await runs())[0];
    assert.deepEqual([last.id, last.cron, last.outcome, last.trigger], [r.json.result.id, '0 0 1 1 *', 'ok', 'manual']);
    assert.ok(Date.parse(last.ended_on) - Date.parse(last.started_on) >= 290);
    assert.equal((await api('POST', '/schedules/run', { cron: '9 9 9 9 *' })).json.errors[0].code, 10101);
  });

  await test('an exception is the outcome of its run', async () => {
    await api('POST', '/schedules/run', { cron: '0 17 * * SUN' });
    await until('the outcome', async () => (await runs())[0].outcome === 'exception');
  });

  await test('what was missed while nothing ran is run once, for the last time that was missed', async () => {
    await api('PUT', '/schedules', [{ cron: '*/10 * * * *' }]);
    const before = (await runs()).length;
    const db = new DatabaseSync(path.join(p.data, 'workers.db'));
    db.exec('PRAGMA busy_timeout = 5000');
    process.kill(p.processes('daemon')[0].pid, 'SIGKILL');
    db.exec(`UPDATE schedule SET next_ms = ${Math.floor(Date.now() / 600_000) * 600_000 - 100 * 600_000}`);
    db.close();
    await until('the run', async () => (await runs().catch(() => []))[0]?.outcome === 'ok', 20_000);
    const all = await runs();
    assert.equal(all.length, before + 1);
    assert.equal(all[0].trigger, 'cron');
    const at = Date.parse(all[0].scheduled_on);
    assert.equal(at % 600_000, 0);
    assert.ok(Date.now() - at < 20 * 60_000, all[0].scheduled_on);
    assert.ok((await seen()).some((s) => s.cron === '*/10 * * * *' && s.at === at));
  });

  await test('a Worker takes its schedules and runs with it', async () => {
    assert.equal((await api('DELETE', '')).status, 200);
    assert.equal((await api('GET', '/schedules')).status, 404);
  });
  fs.rmSync(dir, { recursive: true, force: true });
}
