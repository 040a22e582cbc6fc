// run.mjs - every test there is; the last line counts them. `node tests/run.mjs [unit] [address] [thread] [fuzz] [system]` runs parts.
//
//   unit     the C unit tests in the build that is shipped
//   address  the same under the address and undefined-behaviour sanitizers
//   thread   those of the folders with threads, under the thread sanitizer
//   fuzz     each target of tests/fuzz for a few seconds, from its seeds
//   system   the whole platform with real clients: tests/conformance, tests/faults
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Platform, command, counts, root, test } from './harness.mjs';

const FUZZ_SECONDS = Number(process.env.FUZZ_SECONDS ?? 4);
const THREADED = ['base', 'http', 'db', 'nn', 'vec', 'engine', 'account', 'ai', 'kv', 'r2', 'd1', 'cache', 'vectorize', 'queues', 'analytics']; // suites
const LIBRARIES = [.../foreach dir : \[([^\]]*)\]/.exec(fs.readFileSync(path.join(root, 'meson.build'), 'utf8'))[1].matchAll(/'(\w+)'/g)].map((m) => m[1]).filter((l) => l !== 'cmd');
const jobs = String(os.cpus().length);
const now = () => ((Date.now() - started) / 1000).toFixed(0).padStart(4);
const started = Date.now();
const heading = (text) => console.log(`\n${now()} s  ${text}`);

async function must(argv, opts) {
  const r = await command(argv, { limit_ms: 1_800_000, ...opts });
  if (r.code !== 0) throw new Error(`${argv.join(' ')}: exit ${r.code ?? r.signal}\n${r.all.slice(-6000)}`);
  return r;
}

async function configure(dir, options, env) {
  if (!fs.existsSync(path.join(root, dir, 'build.ninja')))
    await must(['meson', 'setup', dir, ...options], { env: { ...process.env, ...env } });
}

// Counts what cmocka prints for each test.
function count_cmocka(suite, output) {
  let failed = 0;
  const seen = new Set(); // a failed test is listed again at the end
  for (const [, mark, name] of output.matchAll(/^\[ +(OK|FAILED|SKIPPED) +\] (\S+)$/gm))
    if (seen.has(name)) continue;
    else if (seen.add(name) && mark === 'OK') counts.passed++;
    else if (mark === 'SKIPPED') { counts.skipped++; console.log(`skipped ${suite}: ${name}`); }
    else { failed++; }
  counts.failed += failed;
  return failed;
}

async function unit(dir, label, suites, env = {}) {
  heading(`unit tests, ${label}`);
  try {
    await must(['ninja', '-C', dir, '-j', jobs]);
  } catch (e) {
    await test(`build ${dir}`, () => { throw e; });
    return;
  }
  const log = path.join(root, dir, 'meson-logs/testlog.json');
  fs.rmSync(log, { force: true });
  await command(['meson', 'test', '-C', dir, '--no-rebuild', ...suites.flatMap((s) => ['--suite', s])],
    { limit_ms: 1_800_000, env: { ...process.env, SV_SHARED_DATA: process.env.SV_SHARED_DATA ?? path.join(root, '../shared/data'), ...env } });
  for (const line of fs.readFileSync(log, 'utf8').split('\n').filter(Boolean)) {
    const t = JSON.parse(line);
    const output = `${t.stdout ?? ''}\n${t.stderr ?? ''}`;
    const before = { ...counts };
    const failed = count_cmocka(t.name, output);
    if (t.result !== 'OK' && failed === 0) counts.failed++; // died between its tests
    const n = counts.passed - before.passed;
    const good = t.result === 'OK' && failed === 0;
    console.log(`${good ? 'ok     ' : 'FAILED '} ${t.name}: ${n} tests${t.duration >= 1 ? ` (${t.duration.toFixed(1)} s)` : ''}`);
    if (!good) console.log(output.slice(-8000).replace(/^/gm, '        '));
  }
}

// A target's first line names the libraries it needs and, where it is worth more than a moment, for how long CI runs it:
//   /* links: http base */    /* links: models; seconds: 60 */
async function fuzz() {
  const dir = 'build-fuzz';
  heading(`fuzz targets, ${FUZZ_SECONDS} s and more each, ${jobs} at a time`);
  await configure(dir, ['-Db_sanitize=address,undefined', '-Db_lundef=false', '--buildtype=debugoptimized', '-Dwerror=false'],
    { CC: 'clang', CFLAGS: '-fsanitize=fuzzer-no-link' });
  const ninja = fs.readFileSync(path.join(root, dir, 'build.ninja'), 'utf8');
  const archives = [...ninja.matchAll(/^build (\S+\.a):/gm)].map((m) => m[1]);
  await test('build the libraries for fuzzing', () => must(['ninja', '-C', dir, '-j', jobs, ...archives]), 1_800_000);

  const targets = fs.readdirSync(path.join(root, 'tests/fuzz')).filter((f) => f.endsWith('_fuzz.c')).sort();
  await Promise.all(Array.from({ length: Number(jobs) }, async () => {
    for (let file; (file = targets.shift()); ) await fuzz_one(dir, file, archives);
  }));
}

async function fuzz_one(dir, file, archives) {
  const name = file.slice(0, -'_fuzz.c'.length);
  const first = fs.readFileSync(path.join(root, 'tests/fuzz', file), 'utf8').split('\n')[0];
  const wanted = /links:([^*;]*)/.exec(first)?.[1].trim().split(/[\s,]+/) ?? LIBRARIES;
  const seconds = process.env.FUZZ_SECONDS ? FUZZ_SECONDS : Number(/seconds: *(\d+)/.exec(first)?.[1] ?? FUZZ_SECONDS);
  await test(`fuzz ${name}`, async () => {
    const top = Math.max(...wanted.map((w) => LIBRARIES.indexOf(w)));
    const below = new Set(LIBRARIES.slice(0, top + 1));
    const libs = archives.filter((l) => { const own = /\/libsv-(\w+)\.a$/.exec(l)?.[1]; return !LIBRARIES.includes(own) || below.has(own); });
    const exe = path.join(root, dir, `${name}_fuzz`);
    await must(['clang', '-std=gnu17', '-D_GNU_SOURCE', `-DSV_SOURCE_ROOT="${root}"`, '-Isrc', '-isystem', '/usr/share/include/llhttp', '-DLLHTTP_STRICT_MODE=1', '-g', '-O1',
      '-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=undefined', `tests/fuzz/${file}`, '-o', exe, '-Wl,--start-group', ...libs.map((l) => `${dir}/${l}`), '-Wl,--end-group',
      '-ljansson', '-lcrypto', '-lsqlite3', '-lcurl', '-lexpat', '-lwslay', '-lseccomp', '-ljpeg', '-lpng', '-lwebpdemux', '-lwebp', '-lgif', '-lz', '-lm', '-lpthread']);
    const seeds = path.join(root, 'tests/fuzz/seeds', name);
    const corpus = path.join(root, dir, 'corpus', name);
    fs.mkdirSync(corpus, { recursive: true });
    const r = await command([exe, `-max_total_time=${seconds}`, '-timeout=10', '-rss_limit_mb=2048', '-print_final_stats=1', `-artifact_prefix=${dir}/crash-${name}-`, corpus,
      ...(fs.existsSync(seeds) ? [seeds] : [])], { limit_ms: (seconds + 300) * 1000 });
    if (r.code !== 0) throw new Error(`exit ${r.code ?? r.signal}\n${r.all.slice(-5000)}`);
    console.log(`        ${name}: ${/number_of_executed_units: *(\d+)/.exec(r.all)?.[1]} inputs`);
  }, (seconds + 900) * 1000);
}

// A file of tests/conformance wants a running platform and shares one with the others; one of tests/faults starts its own.
async function system() {
  heading('the whole platform');
  let platform;
  const only = process.env.TESTS && new RegExp(process.env.TESTS); // which files, by name
  const files = (folder) => fs.readdirSync(path.join(root, 'tests', folder)).filter((f) => f.endsWith('.test.mjs') && (!only || only.test(f))).sort().map((f) => path.join(root, 'tests', folder, f));
  if (!await test('the platform starts', async () => { platform = await Platform.start(); })) return;
  for (const file of files('conformance')) {
    heading(path.basename(file));
    const before = counts.failed;
    await (await import(file)).run(test, platform);
    if (counts.failed > before) console.log(platform.log.slice(-6000).replace(/^/gm, '        log: '));
  }
  await test('SIGTERM drains and exits 0', async () => {
    const exit = await platform.stop();
    if (exit.code !== 0) throw new Error(`exit ${JSON.stringify(exit)}\n${platform.log.slice(-3000)}`);
  });
  for (const file of files('faults')) {
    heading(path.basename(file));
    const before = counts.failed;
    await (await import(file)).run(test);
    if (counts.failed > before) console.log(Platform.last.log.slice(-6000).replace(/^/gm, '        log: '));
  }
}

const parts = process.argv.slice(2);
const wanted = (part) => parts.length === 0 || parts.includes(part);
try {
  if (wanted('unit')) await unit('build', 'the build that is shipped', []);
  if (wanted('system')) await system();
  if (wanted('address')) {
    await configure('build-address', ['-Db_sanitize=address,undefined', '-Db_lundef=false', '--buildtype=debugoptimized', '-Dwerror=false']);
    await unit('build-address', 'address and undefined-behaviour sanitizers', [], { UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1', ASAN_OPTIONS: 'detect_leaks=1:allocator_may_return_null=1' });
  }
  if (wanted('thread')) {
    await configure('build-thread', ['-Db_sanitize=thread', '-Db_lundef=false', '--buildtype=debugoptimized', '-Dwerror=false']);
    await unit('build-thread', 'thread sanitizer', THREADED, { TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1:die_after_fork=0' });
  }
  if (wanted('fuzz')) await fuzz();
} catch (e) {
  counts.failed++;
  console.log(`FAILED  the run itself\n${e.stack}`);
}
console.log(`\n${now()} s`);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed ? 1 : 0);
