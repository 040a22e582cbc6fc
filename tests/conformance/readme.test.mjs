// The README is run as written: its commands are taken from the text, with only the port and the data folder put in
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { command, root, shared, skip, temp_dir, write_files } from '../harness.mjs';

const blocks = () => fs.readFileSync(path.join(root, 'README.md'), 'utf8').split(/\n(?! {4})/).map((b) => b.split('\n').filter((l) => l.startsWith('    ')).map((l) => l.slice(4)).join('\n')).filter(Boolean);

export async function run(test, p) {
  const here = (text) => text.replaceAll('localhost:8787', `localhost:${p.port}`).replaceAll('data/account', `${p.data}/account`).replaceAll('data/token', `${p.data}/token`);
  const block = (what) => { const b = blocks().find((x) => x.includes(what)); assert.ok(b, `README has no block with ${what}`); return here(b); };
  const bash = (text, opts) => command(['bash', '-ec', text], opts);

  await test('README: the curl line streams an answer', async () => {
    const r = await bash(block('curl -N'));
    assert.equal(r.code, 0, r.all);
    assert.match(r.out, /data: \{"response":"/);
    assert.match(r.out, /data: \[DONE\]/);
  });

  await test('README: the variables, then wrangler in a project', async () => {
    const dir = write_files(temp_dir('readme'), { 'wrangler.jsonc': { name: 'readme', main: 'index.js', compatibility_date: '2026-04-01' }, 'index.js': 'export default { fetch: (r, env) => new Response(env.KEY ?? "none") };' });
    const exports = block('export CLOUDFLARE_API_BASE_URL');
    assert.ok(exports.split('\n').every((l) => l.startsWith('export ')));
    const [deploy, others] = block('wrangler deploy').split('\n');
    assert.match(deploy, /^wrangler deploy/);
    const [put, list, , remove] = others.split(';');
    const env = { ...process.env, CI: 'true', WRANGLER_SEND_METRICS: 'false', XDG_CONFIG_HOME: dir };
    const r = await bash(`${exports}\ncd ${dir}\n${deploy}\necho -n word | ${put}\n${list}`, { env });
    assert.equal(r.code, 0, r.all);
    assert.equal(await (await p.worker('readme', '/')).text(), 'word');
    const gone = await bash(`${exports}\ncd ${dir}\n${remove} --force`, { env });
    assert.equal(gone.code, 0, gone.all);
    assert.equal((await p.worker('readme', '/')).status, 404);
    fs.rmSync(dir, { recursive: true });
  });

  await test('README: models import and list', async () => {
    const gguf = path.join(shared, 'models/stories260K/stories260K.gguf');
    if (!fs.existsSync(gguf)) skip('no shared data');
    const text = block('models import').replaceAll('build/selvedge', p.exe).replace('path/to/model.gguf', gguf).replace(/(models \w+)/g, `$1 --data ${p.data}`);
    const r = await bash(text);
    assert.equal(r.code, 0, r.all);
    const id = /--as (\S+)/.exec(text)[1];
    assert.ok(r.out.includes(id));
    assert.equal((await p.run(id, { prompt: 'Once', raw: true, max_tokens: 3 })).status, 200);
    assert.equal((await p.cli(['models', 'remove', id])).code, 0);
  });

  await test('README: status, metrics, token', async () => {
    const status = await p.cli(['status']);
    assert.equal(status.code, 0, status.all);
    assert.match(status.out, /running at http:/);
    assert.ok((await p.metric('selvedge_http_requests_total')) > 0);
    assert.match(fs.readFileSync(path.join(root, 'README.md'), 'utf8'), /selvedge token create/);
  });

  await test('docs/limits.md is what the program prints', async () => {
    assert.equal((await command([p.exe, 'limits'])).out, fs.readFileSync(path.join(root, 'docs/limits.md'), 'utf8'));
  });
}
