// Stock wrangler from the first deployment to the last deletion: modules, variables, secrets, versions, rollback, assets, service bindings,
// and what it is told about things this release does not have
import assert from 'node:assert/strict';
import fs from 'node:fs';
import Cloudflare from 'cloudflare';
import { sleep, temp_dir, until, write_files } from '../harness.mjs';

const config = (name, more = {}) => ({ name, main: 'src/index.ts', compatibility_date: '2026-11-01', ...more });

const hello = (version) => `
  import note from './note.txt';
  import data from './data.bin';
  import add from './add.wasm';
  export default {
    async fetch(req: Request, env: any) {
      const { exports } = new WebAssembly.Instance(add);
      return Response.json({ v: ${version}, greet: env.GREET ?? null, obj: env.OBJ ?? null, key: env.KEY ?? null, key2: env.KEY2 ?? null, id: env.V?.id ?? null, note,
        bytes: data.byteLength, sum: (exports as any).add(2, 3), url: req.url });
    },
  };`;

// (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
const add_wasm = Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);

export async function run(test, p) {
  const dirs = [];
  const project = (files) => { const d = temp_dir('project'); dirs.push(d); return write_files(d, files); };
  const wrangler = async (dir, args, opts) => {
    const r = await p.wrangler(dir, args, opts);
    assert.equal(r.code, 0, r.all);
    return r;
  };
  const refused = async (dir, args, words) => {
    const r = await p.wrangler(dir, args);
    assert.notEqual(r.code, 0, r.all);
    assert.match(r.all, words);
    assert.doesNotMatch(r.all, /\n\s+at .*wrangler-dist/); // an answer it understood, not a stack
    return r;
  };
  const get = async (name, target = '/', opts) => (await p.worker(name, target, opts)).text();
  const json = async (name, target) => JSON.parse(await get(name, target));
  const api = async (method, target, body) => (await p.api(method, `/accounts/:account/workers${target}`, body)).json;

  const one = project({
    'wrangler.jsonc': config('dep-one', { vars: { GREET: 'hi', OBJ: { a: [1, 2] } }, version_metadata: { binding: 'V' }, ai: { binding: 'AI' }, observability: { enabled: true } }),
    'src/index.ts': hello(1), 'src/note.txt': 'a note\n', 'src/data.bin': new Uint8Array([0, 1, 2, 255]), 'src/add.wasm': add_wasm,
  });

  await test('wrangler deploys text, data and wasm modules, variables and the version', async () => {
    const r = await wrangler(one, ['deploy']);
    assert.match(r.all, /Current Version ID: [0-9a-f-]{36}/);
    const id = r.all.match(/Current Version ID: ([0-9a-f-]{36})/)[1];
    assert.deepEqual(await json('dep-one', '/x?y=1'), { v: 1, greet: 'hi', obj: { a: [1, 2] }, key: null, key2: null, id, note: 'a note\n', bytes: 4, sum: 5,
      url: `http://dep-one.localhost:${p.port}/x?y=1` });
  });

  await test('a secret is set, listed and deleted, and survives the next deployment', async () => {
    await wrangler(one, ['secret', 'put', 'KEY'], { input: 's3cr3t ü\n' });
    assert.equal((await json('dep-one')).key, 's3cr3t ü');
    assert.deepEqual(JSON.parse((await wrangler(one, ['secret', 'list'])).out), [{ name: 'KEY', type: 'secret_text' }]);
    write_files(one, { 'src/index.ts': hello(2) });
    await wrangler(one, ['deploy']);
    const now = await json('dep-one');
    assert.deepEqual([now.v, now.key], [2, 's3cr3t ü']);
    write_files(one, { 'bulk.json': { KEY: 'changed', KEY2: 'second' } });
    await wrangler(one, ['secret', 'bulk', 'bulk.json']);
    assert.deepEqual([(await json('dep-one')).key, (await json('dep-one')).key2], ['changed', 'second']);
    await wrangler(one, ['secret', 'delete', 'KEY2'], { input: 'y\n' });
    assert.deepEqual([(await json('dep-one')).key, (await json('dep-one')).key2], ['changed', null]);
    await refused(one, ['secret', 'delete', 'NOTHING'], /10056|not found/i);
  });

  await test('no secret is readable in the store, the configuration or the API', async () => {
    const seen = JSON.stringify([await api('GET', '/scripts/dep-one/settings'), await api('GET', '/scripts/dep-one/versions/latest')]);
    assert.doesNotMatch(seen, /changed/);
    for (const f of fs.readdirSync(p.data, { recursive: true, withFileTypes: true }))
      if (f.isFile()) assert.ok(!fs.readFileSync(`${f.parentPath}/${f.name}`).includes('s3cr3t'), f.name);
  });

  await test('versions are uploaded, listed, viewed and deployed', async () => {
    write_files(one, { 'src/index.ts': hello(3) });
    const up = await wrangler(one, ['versions', 'upload', '--tag', 'three', '--message', 'the third']);
    const id = up.all.match(/Worker Version ID: ([0-9a-f-]{36})/)[1];
    assert.equal((await json('dep-one')).v, 2);
    assert.match((await wrangler(one, ['versions', 'list'])).all, new RegExp(id));
    const view = (await wrangler(one, ['versions', 'view', id])).all;
    assert.match(view, /the third/);
    assert.match(view, /KEY/);
    await wrangler(one, ['versions', 'deploy', `${id}@100%`, '-y']);
    const now = await json('dep-one');
    assert.deepEqual([now.v, now.id, now.key], [3, id, 'changed']);
    assert.match((await wrangler(one, ['deployments', 'status'])).all, new RegExp(id));
    assert.match((await wrangler(one, ['deployments', 'list'])).all, new RegExp(id));
    await wrangler(one, ['versions', 'secret', 'put', 'LATER'], { input: 'x' });
    assert.match((await wrangler(one, ['versions', 'secret', 'list', '--latest-version'])).all, /LATER/);
  });

  await test('a rollback serves the version before', async () => {
    await wrangler(one, ['rollback', '-y', '--message', 'back']);
    assert.equal((await json('dep-one')).v, 2);
  });

  await test('a split deployment is refused with a sentence', async () => {
    const { items } = (await api('GET', '/scripts/dep-one/versions')).result;
    const r = await p.api('POST', '/accounts/:account/workers/scripts/dep-one/deployments',
      { strategy: 'percentage', versions: items.slice(0, 2).map((v) => ({ version_id: v.id, percentage: 50 })) });
    assert.equal(r.status, 400);
    assert.match(r.json.errors[0].message, /split traffic/);
  });

  await test('pages past the end of the version list are empty', async () => {
    assert.deepEqual((await api('GET', '/scripts/dep-one/versions?page=99')).result.items, []);
  });

  await test('a script that throws at its top level is refused with its own words, and the old one serves on', async () => {
    write_files(one, { 'src/index.ts': 'throw new Error("at the top"); export default {};' });
    await refused(one, ['deploy'], /at the top[\s\S]*10021/);
    const form = ['metadata"\r\n\r\n{"main_module":"index.js"}', 'index.js"; filename="index.js"\r\nContent-Type: application/javascript+module\r\n\r\nexport default {}; nonsense(']
      .map((part) => `--q\r\nContent-Disposition: form-data; name="${part}\r\n`).join('') + '--q--\r\n';
    const r = await p.api('PUT', '/accounts/:account/workers/scripts/dep-one', form, { 'content-type': 'multipart/form-data; boundary=q' });
    assert.deepEqual([r.status, r.json.errors[0].code], [400, 10021]);
    assert.match(r.json.errors[0].message, /^Uncaught SyntaxError/);
    assert.equal((await json('dep-one')).v, 2);
  });

  await test('redeployed under load, no request fails', async () => {
    let stop = false, n = 0;
    const failed = [], versions = new Set();
    const client = async () => {
      while (!stop) {
        try {
          const r = await p.worker('dep-one');
          const t = await r.text();
          if (r.status !== 200) failed.push(r.status); else versions.add(JSON.parse(t).v);
        } catch (e) { failed.push(String(e)); }
        n++;
      }
    };
    const clients = Array.from({ length: 8 }, client);
    for (const v of [4, 5]) {
      write_files(one, { 'src/index.ts': hello(v) });
      await wrangler(one, ['deploy']);
    }
    await sleep(200);
    stop = true;
    await Promise.all(clients);
    assert.deepEqual(failed, []);
    assert.deepEqual([...versions].sort(), [2, 4, 5]);
    assert.ok(n > 100, `${n} requests`);
  });

  const site = project({
    'wrangler.jsonc': config('dep-site', { main: 'src/index.js', assets: { directory: 'public', binding: 'ASSETS', not_found_handling: '404-page', run_worker_first: ['/api/*'] } }),
    'src/index.js': `export default { async fetch(req, env) {
      const u = new URL(req.url);
      if (u.pathname === '/api/asset') return env.ASSETS.fetch(new URL('/about', req.url));
      return new Response('script ' + u.pathname); } }`,
    'public/index.html': '<h1>front</h1>', 'public/about.html': 'about us', 'public/404.html': 'nothing here', 'public/a b/ü.txt': 'odd name',
    'public/style.css': 'body{}', 'public/_headers': '/style.css\n  x-test: yes\n', 'public/_redirects': '/old /about 302\n', 'public/api/shadow': 'hidden',
  });

  await test('static assets: types, etags, clean URLs, _headers, _redirects, 404 page, worker first', async () => {
    await wrangler(site, ['deploy']);
    const front = await p.worker('dep-site');
    assert.match(front.headers['content-type'], /^text\/html/);
    assert.equal(await front.text(), '<h1>front</h1>');
    assert.ok(front.headers.etag);
    const again = await p.worker('dep-site', '/', { headers: { 'if-none-match': front.headers.etag } });
    assert.equal(again.status, 304);
    await again.text();
    assert.equal(await get('dep-site', '/about'), 'about us');
    const css = await p.worker('dep-site', '/style.css');
    assert.match(css.headers['content-type'], /^text\/css/);
    assert.equal(css.headers['x-test'], 'yes');
    await css.text();
    const old = await p.worker('dep-site', '/old');
    assert.deepEqual([old.status, old.headers.location], [302, '/about']);
    await old.text();
    assert.equal(await get('dep-site', `/a%20b/${encodeURIComponent('ü')}.txt`), 'odd name');
    const none = await p.worker('dep-site', '/none');
    assert.deepEqual([none.status, await none.text()], [404, 'nothing here']);
    assert.equal(await get('dep-site', '/api/shadow'), 'script /api/shadow');
    assert.equal(await get('dep-site', '/api/asset'), 'about us');
  });

  await test('only changed assets are uploaded again', async () => {
    write_files(site, { 'public/about.html': 'about us, changed' });
    const r = await wrangler(site, ['deploy']);
    assert.match(r.all, /1 (new or modified|file)|Uploaded 1 /);
    assert.equal(await get('dep-site', '/about'), 'about us, changed');
    assert.equal(await get('dep-site', '/'), '<h1>front</h1>');
  });

  await test('assets alone, without a script, as a single page application', async () => {
    const spa = project({ 'wrangler.jsonc': { name: 'dep-spa', compatibility_date: '2026-11-01', assets: { directory: 'public', not_found_handling: 'single-page-application' } },
      'public/index.html': 'the app', 'public/x.js': '1' });
    await wrangler(spa, ['deploy']);
    assert.equal(await get('dep-spa', '/'), 'the app');
    assert.equal(await get('dep-spa', '/deep/link', { headers: { 'sec-fetch-mode': 'navigate', accept: 'text/html' } }), 'the app');
    await wrangler(spa, ['delete', '--force']);
    assert.equal((await p.worker('dep-spa')).status, 404);
  });

  await test('an asset upload is refused without its own token, with another account\'s, with wrong bytes', async () => {
    const up = (token, body, type = 'multipart/form-data; boundary=q') => p.api('POST', '/accounts/:account/workers/assets/upload?base64=true', body, { authorization: `Bearer ${token}`, 'content-type': type });
    assert.equal((await up(p.token, '--q--\r\n')).status, 401);
    const hash = 'a'.repeat(31) + String(Date.now() % 10);
    const s = (await api('POST', '/scripts/dep-site/assets-upload-session', { manifest: { '/f.txt': { hash, size: 3 } } })).result;
    assert.deepEqual(s.buckets, [[hash]]);
    const form = (text) => `--q\r\nContent-Disposition: form-data; name="${hash}"; filename="${hash}"\r\nContent-Type: text/plain\r\n\r\n${text}\r\n--q--\r\n`;
    assert.equal((await up(s.jwt, form('AAAAAAAA'))).status, 400);
    assert.equal((await up(s.jwt, form('!!!'))).status, 400);
    assert.equal((await up(s.jwt.slice(0, -3) + 'AAA', form('YWJj'))).status, 401);
    for (const bad of ['/../x', 'x', '/a//b', '/%2e%2e/x', '/a%00b'])
      assert.equal((await p.api('POST', '/accounts/:account/workers/scripts/dep-site/assets-upload-session', { manifest: { [bad]: { hash, size: 3 } } })).status, 400, bad);
    const done = await up(s.jwt, form('YWJj'));
    assert.equal(done.status, 201);
    assert.equal(JSON.parse(Buffer.from(done.json.result.jwt.split('.')[1], 'base64url')).complete, true);
  });

  const front = project({
    'wrangler.jsonc': config('dep-front', { main: 'src/index.js', services: [{ binding: 'BACK', service: 'dep-back' }, { binding: 'NAMED', service: 'dep-back', entrypoint: 'Named' }] }),
    'src/index.js': `export default { async fetch(req, env) {
      return Response.json([await env.BACK.add(1, 2), await env.NAMED.hello('you'), await (await env.BACK.fetch('http://back/path')).text()]); } }`,
  });
  const back = (v) => `import { WorkerEntrypoint } from 'cloudflare:workers';
    export class Named extends WorkerEntrypoint { hello(n) { return 'hello ' + n; } }
    export default class extends WorkerEntrypoint { add(a, b) { return a + b; } fetch(req) { return new Response('back ${v} ' + new URL(req.url).pathname); } }`;

  await test('a service binding to a Worker that is not there is refused', async () => {
    await refused(front, ['deploy'], /dep-back.*not found/);
    assert.equal((await p.worker('dep-front')).status, 404);
  });

  const behind = project({ 'wrangler.jsonc': config('dep-back', { main: 'src/index.js', workers_dev: false }), 'src/index.js': back(1) });

  await test('Workers call each other: methods, named entrypoints, fetch; the one behind has no address', async () => {
    await wrangler(behind, ['deploy']);
    await wrangler(front, ['deploy']);
    assert.deepEqual(await json('dep-front'), [3, 'hello you', 'back 1 /path']);
    const closed = await p.worker('dep-back');
    assert.equal(closed.status, 404);
    assert.match(await closed.text(), /no public address/);
    write_files(behind, { 'src/index.js': back(2) });
    await wrangler(behind, ['deploy']);
    await until('the caller to see the new version', async () => (await json('dep-front'))[2] === 'back 2 /path');
  });

  await test('deleting a Worker that is bound needs force, and breaks that binding only', async () => {
    const r = await p.api('DELETE', '/accounts/:account/workers/scripts/dep-back');
    assert.equal(r.status, 400);
    assert.match(r.json.errors[0].message, /dep-front/);
    await wrangler(behind, ['delete', '--force']);
    assert.equal((await p.worker('dep-front')).status, 500);
    assert.equal((await api('GET', '/services/dep-back')).errors[0].code, 10090);
  });

  await test('bindings of kinds that are not here are refused by name and kind', async () => {
    const kv = project({ 'wrangler.jsonc': config('dep-kv', { main: 'src/index.js', kv_namespaces: [{ binding: 'CACHE', id: '0'.repeat(32) }] }), 'src/index.js': 'export default { fetch() { return new Response("x") } }' });
    await refused(kv, ['deploy'], /CACHE[\s\S]*kv_namespace/);
    const far = project({ 'wrangler.jsonc': config('dep-far', { main: 'src/index.js', hyperdrive: [{ binding: 'FAR', id: '0'.repeat(32) }] }), 'src/index.js': 'export default { fetch() { return new Response("x") } }' });
    await refused(far, ['deploy'], /FAR[\s\S]*hyperdrive[\s\S]*Hyperdrive/);
    assert.equal((await api('GET', '/services/dep-kv')).success, false);
    assert.equal((await api('GET', '/services/dep-far')).success, false);
  });

  await test('a consumer of a queue that is not there is refused with a sentence', async () => {
    const source = { 'src/index.js': 'export default { fetch() { return new Response("x") }, queue() {} }' };
    await refused(project({ ...source, 'wrangler.jsonc': config('dep-queue', { main: 'src/index.js', queues: { consumers: [{ queue: 'q' }] } }) }), ['deploy'], /[Qq]ueue/);
  });

  await test('names, and uploads that make no sense', async () => {
    assert.equal((await p.api('PUT', '/accounts/:account/workers/scripts/Bad_Name', '--x--\r\n', { 'content-type': 'multipart/form-data; boundary=x' })).status, 400);
    assert.equal((await p.api('PUT', '/accounts/:account/workers/scripts/dep-odd', 'not a form')).status, 400);
    assert.equal((await api('GET', '/scripts/dep-odd/settings')).errors[0].code, 10007);
    assert.equal((await p.api('GET', '/accounts/:account/workers/scripts/dep-one/versions/00000000-0000-4000-8000-000000000000')).status, 404);
    assert.equal((await p.api('POST', '/accounts/:account/workers/scripts/dep-one/deployments', '{"versions":')).status, 400);
    assert.equal((await p.api('GET', `/accounts/${'0'.repeat(32)}/workers/scripts`)).json.success, false);
  });

  await test('secret put on a name that is not there makes a stub of it', async () => {
    const d = project({ 'wrangler.jsonc': config('dep-stub', { main: 'src/index.js' }), 'src/index.js': 'export default { fetch(r, env) { return new Response(env.EARLY) } }' });
    await wrangler(d, ['secret', 'put', 'EARLY'], { input: 'bird' });
    await wrangler(d, ['deploy']);
    assert.equal(await get('dep-stub'), 'bird');
    await wrangler(d, ['delete', '--force']);
  });

  await test('the SDK uploads, makes versions, deploys, edits settings and secrets, and reads its pages to the end', async () => {
    const cf = new Cloudflare({ apiToken: p.token, baseURL: p.base }), account_id = p.account, { scripts } = cf.workers;
    const files = [new File(['export default { fetch(r, env) { return new Response("sdk " + env.A) } }'], 'w.mjs', { type: 'application/javascript+module' })];
    const vars = (text) => [{ type: 'plain_text', name: 'A', text }];
    const all = async (pages) => { const list = []; for await (const x of pages) list.push(x); return list; };
    const up = await scripts.update('dep-sdk', { account_id, files, metadata: { main_module: 'w.mjs', compatibility_date: '2026-04-01', compatibility_flags: ['nodejs_compat'], bindings: [...vars('one'), { type: 'ai', name: 'AI' }] } });
    assert.deepEqual([up.id, up.compatibility_date, await get('dep-sdk')], ['dep-sdk', '2026-04-01', 'sdk one']);
    const v = await scripts.versions.create('dep-sdk', { account_id, files, metadata: { main_module: 'w.mjs', bindings: vars('two') } });
    assert.equal(await get('dep-sdk'), 'sdk one');
    await scripts.deployments.create('dep-sdk', { account_id, strategy: 'percentage', versions: [{ percentage: 100, version_id: v.id }] });
    assert.equal(await get('dep-sdk'), 'sdk two');
    await scripts.scriptAndVersionSettings.edit('dep-sdk', { account_id, settings: { bindings: vars('three') } });
    assert.equal(await get('dep-sdk'), 'sdk three');
    await scripts.secrets.update('dep-sdk', { account_id, name: 'S', text: 'x', type: 'secret_text' });
    assert.deepEqual((await all(scripts.secrets.list('dep-sdk', { account_id }))).map((s) => s.name), ['S']);
    assert.deepEqual((await all(scripts.versions.list('dep-sdk', { account_id, per_page: 2 }))).map((x) => x.number), [4, 3, 2, 1]);
    assert.ok((await all(scripts.list({ account_id }))).some((s) => s.id === 'dep-sdk'));
    await assert.rejects(scripts.settings.get('dep-nobody', { account_id }), Cloudflare.NotFoundError);
    await scripts.delete('dep-sdk', { account_id });
  });

  await test('delete takes everything of a Worker with it', async () => {
    for (const dir of [one, site, front]) await wrangler(dir, ['delete', '--force']);
    const left = (await api('GET', '/scripts')).result.map((s) => s.id).filter((n) => n.startsWith('dep-'));
    assert.deepEqual(left, []);
    const folders = fs.readdirSync(`${p.data}/workers`).filter((f) => /^[0-9a-f]{16}$/.test(f) && fs.readdirSync(`${p.data}/workers/${f}`).length);
    const scripts = (await api('GET', '/scripts')).result.map((s) => s.id);
    assert.equal(folders.length, scripts.length, `${scripts}: ${folders.flatMap((f) => [f, ...fs.readdirSync(`${p.data}/workers/${f}`)])}`);
    await until('its process to end', () => p.processes('workerd').length <= folders.length, 40_000, 100);
  });

  for (const d of dirs) fs.rmSync(d, { recursive: true, force: true });
}
