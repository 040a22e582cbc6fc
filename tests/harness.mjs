// harness.mjs - what the whole-system tests share: a counter of tests, a platform under test on a free port, stock wrangler in front of it
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
export const shared = process.env.SV_SHARED_DATA ?? path.join(root, '../shared/data');
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// ---- counting ----

export const counts = { passed: 0, failed: 0, skipped: 0 };
export class Skip extends Error {}
export const skip = (why) => { throw new Skip(why); };

const say = (mark, name, ms, more = '') => console.log(`${mark} ${name}${ms >= 1000 ? ` (${(ms / 1000).toFixed(1)} s)` : ''}${more}`);

// Runs one named test, prints its line, and goes on whatever happened. A test may call skip('why').
export async function test(name, fn, limit_ms = 180_000) {
  const start = Date.now();
  let timer;
  try {
    const limit = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`not done after ${limit_ms} ms`)), limit_ms); });
    await Promise.race([fn(), limit]);
    counts.passed++;
    say('ok     ', name, Date.now() - start);
    return true;
  } catch (e) {
    if (e instanceof Skip) {
      counts.skipped++;
      say('skipped', name, 0, `: ${e.message}`);
    } else {
      counts.failed++;
      say('FAILED ', name, Date.now() - start, `\n${String(e.stack ?? e).replace(/^/gm, '        ')}`);
    }
    return false;
  } finally {
    clearTimeout(timer);
  }
}

// ---- programs ----

// Runs a program to its end: {code, signal, out, err, all}.
export function command(argv, { env, cwd = root, input, limit_ms = 120_000 } = {}) {
  return new Promise((done) => {
    const child = spawn(argv[0], argv.slice(1), { cwd, env: env ?? process.env, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    let out = '', err = '', all = '';
    child.stdout.on('data', (d) => { out += d; all += d; });
    child.stderr.on('data', (d) => { err += d; all += d; });
    child.on('error', (e) => done({ code: 127, out, err: String(e), all: String(e) }));
    if (input !== undefined) child.stdin.end(input);
    const timer = setTimeout(() => child.kill('SIGKILL'), limit_ms);
    child.on('close', (code, signal) => { clearTimeout(timer); done({ code, signal, out, err, all }); });
  });
}

export const temp_dir = (name) => fs.mkdtempSync(path.join(os.tmpdir(), `selvedge-${name}-`));

export function write_files(dir, files) {
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    fs.writeFileSync(path.join(dir, name), typeof text === 'string' || text instanceof Uint8Array ? text : JSON.stringify(text, null, 2));
  }
  return dir;
}

// ---- HTTP ----

// One request on a connection of its own. Resolves at the head: {status, reason, headers, stream, text(), json(), close()}.
export function request({ port, socketPath, method = 'GET', path: target = '/', host, headers = {}, body, agent = false, limit_ms = 60_000 }) {
  return new Promise((done, fail) => {
    const r = http.request({ ...(socketPath ? { socketPath } : { host: '127.0.0.1', port }), method, path: target, agent,
      headers: { host: host ?? `localhost:${port}`, ...(body !== undefined && !headers['content-length'] && typeof body.pipe !== 'function'
        ? { 'content-length': Buffer.byteLength(body) } : {}), ...headers } });
    r.setTimeout(limit_ms, () => r.destroy(new Error(`no answer from ${host ?? ''}${target} within ${limit_ms} ms`)));
    r.on('error', fail);
    r.on('response', (res) => {
      const text = async () => {
        const parts = [];
        for await (const d of res) parts.push(d);
        return Buffer.concat(parts).toString('utf8');
      };
      done({ status: res.statusCode, reason: res.statusMessage, headers: res.headers, stream: res, text, json: async () => JSON.parse(await text()), close: () => r.destroy() });
    });
    if (body !== undefined && typeof body.pipe === 'function') body.pipe(r);
    else r.end(body);
  });
}

// The data of each server-sent event, as it comes.
export async function* events(stream) {
  let text = '';
  for await (const d of stream) {
    text += d;
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2))
      for (const line of text.slice(0, end).split('\n'))
        if (line.startsWith('data: ')) yield line.slice(6);
  }
}

// ---- processes ----

// {pid, ppid, argv} of every process below `pid`.
export function descendants(pid) {
  const all = fs.readdirSync('/proc').filter((d) => /^\d+$/.test(d)).flatMap((d) => {
    try {
      const stat = fs.readFileSync(`/proc/${d}/stat`, 'utf8');
      const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return [{ pid: Number(d), ppid: Number(ppid), state, argv: fs.readFileSync(`/proc/${d}/cmdline`, 'utf8').split('\0') }];
    } catch { return []; } // ended meanwhile
  });
  const found = [];
  for (let level = [pid]; level.length; ) {
    const next = all.filter((p) => level.includes(p.ppid) && p.state !== 'Z');
    found.push(...next);
    level = next.map((p) => p.pid);
  }
  return found;
}

export async function until(what, fn, limit_ms = 10_000, step_ms = 20) {
  for (const end = Date.now() + limit_ms; ; await sleep(step_ms)) {
    const v = await fn();
    if (v) return v;
    if (Date.now() > end) throw new Error(`waited ${limit_ms} ms for ${what}`);
  }
}

// ---- the platform under test ----

const running = new Set(); // a run that fails leaves nothing behind
process.on('exit', () => { for (const child of running) child.kill('SIGKILL'); });

export class Platform {
  // Starts `selvedge serve` on a free port and waits until its API answers. opts: {data, args, exe, port, env}
  static async start(opts = {}) {
    const p = new Platform();
    Platform.last = p;
    p.exe = opts.exe ?? process.env.SELVEDGE_EXE ?? path.join(root, 'build/selvedge');
    p.owns_data = !opts.data;
    p.data = opts.data ?? temp_dir('data');
    p.args = opts.args ?? [];
    p.log = '';
    const listen_file = path.join(p.data, 'listen');
    fs.rmSync(listen_file, { force: true });
    p.child = spawn(p.exe, ['serve', '--data', p.data, '--listen', `127.0.0.1:${opts.port ?? 0}`, ...p.args], { cwd: root, env: { ...process.env, ...opts.env }, stdio: ['ignore', 'inherit', 'pipe'] });
    p.child.stderr.on('data', (d) => { p.log = (p.log + d).slice(-200_000); });
    running.add(p.child);
    p.ended = new Promise((done) => p.child.on('exit', (code, signal) => { running.delete(p.child); p.exit = { code, signal }; done(p.exit); }));
    await until('the platform to listen', () => {
      if (p.exit) throw new Error(`serve ended with ${JSON.stringify(p.exit)}:\n${p.log}`);
      return fs.existsSync(listen_file) && fs.existsSync(path.join(p.data, 'token')) && fs.readFileSync(listen_file, 'utf8').trim();
    });
    p.port = Number(fs.readFileSync(listen_file, 'utf8').trim().split(':').pop());
    p.token = fs.readFileSync(path.join(p.data, 'token'), 'utf8').trim();
    p.account = fs.readFileSync(path.join(p.data, 'account'), 'utf8').trim();
    p.base = `http://localhost:${p.port}/client/v4`;
    await until('the API', async () => {
      if (p.exit) throw new Error(`serve ended with ${JSON.stringify(p.exit)}:\n${p.log}`);
      return (await p.api('GET', '/user/tokens/verify').catch(() => ({}))).status === 200;
    }).catch((e) => { p.child.kill('SIGKILL'); throw new Error(`${e.message}\n${p.log}`); });
    return p;
  }

  // A call of the REST API; path below /client/v4, ":account" filled in. {status, headers, json, text}
  async api(method, target, body, headers = {}) {
    const res = await request({ port: this.port, method, path: `/client/v4${target.replace(':account', this.account)}`,
      headers: { authorization: `Bearer ${this.token}`, ...(body !== undefined && typeof body === 'object' && !(body instanceof Uint8Array) ? { 'content-type': 'application/json' } : {}), ...headers },
      body: body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body) });
    const text = await res.text();
    let json;
    try { json = JSON.parse(text); } catch { /* not JSON: text tells */ }
    return { status: res.status, headers: res.headers, json, text };
  }

  run(model, input) { return this.api('POST', `/accounts/:account/ai/run/${model}`, input); }

  // A request to a deployed Worker, through the front door.
  worker(name, target = '/', opts = {}) { return request({ port: this.port, host: `${name}.localhost:${this.port}`, path: target, ...opts }); }

  // Stock wrangler in `dir`.
  wrangler(dir, args, opts = {}) {
    return command([process.execPath, path.join(root, 'node_modules/wrangler/bin/wrangler.js'), ...args], { cwd: dir, ...opts, env: {
      ...process.env, CLOUDFLARE_API_BASE_URL: this.base, CLOUDFLARE_ACCOUNT_ID: this.account, CLOUDFLARE_API_TOKEN: this.token, WRANGLER_SEND_METRICS: 'false',
      WRANGLER_HIDE_BANNER: 'true', CI: 'true', CLOUDFLARE_CF_FETCH_ENABLED: 'false', XDG_CONFIG_HOME: path.join(this.data, 'wrangler'), WRANGLER_LOG_PATH: path.join(this.data, 'wrangler/logs'),
      NO_COLOR: '1', ...opts.env } });
  }

  cli(args, opts) { return command([this.exe, ...args, '--data', this.data], opts); }

  // Descendants by what they are: 'daemon', 'engine', 'haproxy', 'workerd'.
  processes(kind) {
    return descendants(this.child.pid).filter((p) => kind === 'daemon' || kind === 'engine' ? p.argv[1] === kind : path.basename(p.argv[0]) === kind);
  }

  // The sum of a counter over its labels.
  async metric(name) {
    const text = await (await request({ port: this.port, path: '/metrics' })).text();
    return [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce((sum, m) => sum + Number(m[1]), 0);
  }

  // SIGTERM; the exit as {code, signal}.
  async stop() {
    if (!this.exit) this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 30_000);
    await this.ended;
    clearTimeout(timer);
    if (this.owns_data) fs.rmSync(this.data, { recursive: true, force: true });
    return this.exit;
  }
}
