// kill -9 of the daemon in the middle of deployments, and deployments that meet each other: the store, the files and the process that serves
// must agree afterwards, and nothing acknowledged may be lost
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { Platform, sleep, temp_dir, until } from '../harness.mjs';

const form = (script, meta = {}) => {
  const part = (name, head, text) => `--q\r\nContent-Disposition: form-data; name="${name}"${head}\r\n\r\n${text}\r\n`;
  return part('metadata', '', JSON.stringify({ main_module: 'i.js', compatibility_date: '2026-04-01', keep_bindings: ['secret_text'], ...meta }))
    + part('i.js', '; filename="i.js"\r\nContent-Type: application/javascript+module', script) + '--q--\r\n';
};
const says = (text) => `export default { fetch(req, env) { return new Response(${JSON.stringify(text)} + ' ' + env.KEY); } };`;

export async function run(test) {
  let p;
  const data = temp_dir('data');
  const put = (name, text, meta) => p.api('PUT', `/accounts/:account/workers/scripts/${name}`, form(says(text), meta), { 'content-type': 'multipart/form-data; boundary=q' });
  const served = async (name) => (await (await p.worker(name, '/', { limit_ms: 5000 })).text()).split(' ');
  const secret = (text) => ({ bindings: [{ name: 'KEY', type: 'secret_text', text }] });

  if (!await test('a platform to deploy to', async () => {
    p = await Platform.start({ data });
    assert.equal((await put('crash', 'v0', secret('k0'))).status, 200);
    assert.deepEqual(await served('crash'), ['v0', 'k0']);
  })) return;

  await test('kill -9 of the daemon in the middle of deployments loses none that was acknowledged', async () => {
    let n = 0, acknowledged = 0, refused = 0;
    for (let round = 0; round < 6; round++) {
      let stop = false;
      const deploying = (async () => {
        while (!stop) {
          const v = ++n;
          const r = await put('crash', `v${v}`, secret(`k${v}`)).catch(() => null);
          if (r?.status === 200) acknowledged = v;
          else { refused++; if (!stop) await sleep(20); }
        }
      })();
      await sleep(150 + 70 * round);
      const [daemon] = p.processes('daemon');
      process.kill(daemon.pid, 'SIGKILL');
      stop = true;
      await deploying;
      await until('the API', async () => (await p.api('GET', '/user/tokens/verify').catch(() => ({}))).status === 200);
      // The last acknowledged one, or one that was under way; never an older one, never half of two. A version that had started and was not
      // recorded may answer until the new daemon has compared what runs with the store.
      let last = '';
      const v = await until('the process and the store to agree', async () => {
        const [now, k] = await served('crash').catch((e) => [String(e)]);
        const code = await p.api('GET', '/accounts/:account/workers/scripts/crash/content/v2');
        last = `${now} ${k}`;
        return k === `k${now.slice(1)}` && code.text.includes(`"${now}"`) && Number(now.slice(1)) >= acknowledged && now;
      }).catch((e) => { throw new Error(`${e.message}: ${last}, acknowledged v${acknowledged}\n${p.log.slice(-3000)}`); });
      n = Math.max(n, Number(v.slice(1)));
    }
    assert.ok(acknowledged > 6, `${acknowledged} acknowledged, ${refused} refused`);
  });

  await test('a deployment that fails changes no settings', async () => {
    const settings = async () => (await p.api('GET', '/accounts/:account/workers/scripts/crash/script-settings')).json.result;
    const tagged = (tag) => ({ ...secret('k'), tags: [tag], observability: { enabled: tag === 'two' } });
    assert.equal((await put('crash', 'fine', tagged('one'))).status, 200);
    const before = await settings();
    assert.deepEqual([before.tags, before.observability.enabled], [['one'], false]);
    const broken = await p.api('PUT', '/accounts/:account/workers/scripts/crash', form('throw new Error("at start");', tagged('two')),
      { 'content-type': 'multipart/form-data; boundary=q' });
    assert.equal(broken.status, 400, broken.text);
    assert.deepEqual(await settings(), before);
    assert.deepEqual(await served('crash'), ['fine', 'k']);
    assert.equal((await put('crash', 'better', tagged('two'))).status, 200);
    assert.deepEqual((await settings()).tags, ['two']);
  });

  await test('of the asset uploads that an account has begun, the oldest ends where there are too many', async () => {
    const begin = async (i) => {
      const manifest = { [`/f${i}.txt`]: { hash: i.toString(16).padStart(32, '0'), size: 4 } };
      const r = await p.api('POST', '/accounts/:account/workers/scripts/crash/assets-upload-session', { manifest });
      assert.equal(r.status, 200, r.text);
      return { jwt: r.json.result.jwt, hash: Object.values(manifest)[0].hash };
    };
    const upload = ({ jwt, hash }) => p.api('POST', '/accounts/:account/workers/assets/upload?base64=true',
      `--q\r\nContent-Disposition: form-data; name="${hash}"; filename="${hash}"\r\nContent-Type: text/plain\r\n\r\nZm91cg==\r\n--q--\r\n`,
      { 'content-type': 'multipart/form-data; boundary=q', authorization: `Bearer ${jwt}` });
    const first = await begin(0), second = await begin(1);
    for (let i = 2; i <= 50; i++) await begin(i);
    const ended = await upload(first);
    assert.equal(ended.status, 401, ended.text);
    assert.match(ended.text, /upload session has ended; start the deployment again/);
    assert.ok((await upload(second)).status < 300);
  });

  await test('no file is left of deployments that a crash cut', async () => {
    const root = `${data}/workers`;
    for (const key of fs.readdirSync(root).filter((f) => /^[0-9a-f]{16}$/.test(f))) {
      const { items } = (await p.api('GET', '/accounts/:account/workers/scripts/crash/versions?per_page=1000')).json.result;
      for (const folder of fs.readdirSync(`${root}/${key}`)) assert.ok(items.some((v) => v.id === folder), folder);
    }
  });

  await test('deployments that meet are done one after the other, or told to come again', async () => {
    const answers = await Promise.all(Array.from({ length: 16 }, (_, i) => put('crash', `m${i}`)));
    const done = answers.filter((r) => r.status === 200).length;
    for (const r of answers)
      if (r.status !== 200) assert.deepEqual([r.status, r.json.errors[0].code], [429, 10035]);
    assert.ok(done >= 1);
    const id = (await p.api('GET', '/accounts/:account/workers/scripts/crash/deployments')).json.result.deployments[0].versions[0].version_id;
    const winner = answers.find((r) => r.json.result?.deployment_id === id.replaceAll('-', ''));
    assert.ok(winner, 'what is deployed was acknowledged');
    const [m] = await served('crash');
    assert.equal(m, `m${answers.indexOf(winner)}`);
  });

  await test('a script that never comes to its end is ended, and the API answers others meanwhile', async () => {
    const slow = p.api('PUT', '/accounts/:account/workers/scripts/hang', form('for (;;) {} export default { fetch() {} };'), { 'content-type': 'multipart/form-data; boundary=q' });
    await sleep(100);
    for (let i = 0; i < 20; i++) {
      const start = Date.now();
      assert.equal((await p.api('GET', '/accounts/:account/workers/scripts')).status, 200);
      assert.ok(Date.now() - start < 2000);
    }
    const r = await slow;
    assert.deepEqual([r.status, r.json.errors[0].code], [400, 10021], r.text);
    assert.match(r.json.errors[0].message, /never end/);
    assert.equal((await p.worker('hang')).status, 404);
  });

  await test('a restart serves what was deployed', async () => {
    const before = await served('crash');
    assert.equal((await p.stop()).code, 0);
    p = await Platform.start({ data });
    await until('the Worker', async () => (await served('crash').catch(() => [])).join() === before.join());
  });

  await test('a cold start that a deployment overlaps ends with it', async () => {
    assert.equal((await p.stop()).code, 0);
    p = await Platform.start({ data });
    const script = `let x = 0; for (let i = 0; i < 1e9; i++) x = (x * 31 + i) | 0; ${says('new')}`;
    const deploying = p.api('PUT', '/accounts/:account/workers/scripts/crash', form(script), { 'content-type': 'multipart/form-data; boundary=q' });
    await until('the new process', () => p.processes('workerd').length > 0);
    await served('crash'); // starts the old version on the socket that the new one will take
    const r = await deploying;
    assert.equal(r.status, 200, r.text);
    await until('one process', () => p.processes('workerd').length === 1);
    for (let i = 0; i < 20; i++) assert.equal((await served('crash'))[0], 'new');
  });

  await p.stop();
  fs.rmSync(data, { recursive: true, force: true });
}
