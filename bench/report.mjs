// report.mjs - a line of `make bench`: printed, and appended as one JSON object to build/bench.jsonl
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { command, root } from '../tests/harness.mjs';

export const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
export const median = (v) => [...v].sort((a, b) => a - b)[v.length >> 1];
export const quantile = (v, q) => [...v].sort((a, b) => a - b)[Math.min(v.length - 1, Math.floor(v.length * q))];
export const cpu = /model name\s*: (.*)/.exec(fs.readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? os.arch();
const digits = (v) => (v === null || v === undefined ? '' : v >= 100 ? v.toFixed(0) : v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(2) : v.toPrecision(3));

// `ours` and `theirs` are numbers, or the numbers of all rounds, of which the median counts and the range is kept. Where there are several
// peers (peers: {name: numbers}), the best one is `theirs`. lower: the smaller number is the better one.
export function report(name, unit, ours, { peer = null, theirs = null, peers = null, lower = false, limit = null, goal = '', note = '' } = {}) {
  const one = (v) => (Array.isArray(v) ? (v.length ? median(v) : null) : v);
  const range = (v) => (Array.isArray(v) && v.length > 1 ? [Math.min(...v), Math.max(...v)] : undefined);
  for (const [who, v] of Object.entries(peers ?? {})) {
    const m = one(v);
    if (m !== null && m !== undefined && (theirs === null || (lower ? m < one(theirs) : m > one(theirs)))) { peer = who; theirs = v; }
  }
  const a = one(ours), b = one(theirs), ratio = b && a !== null ? (a / b).toFixed(2) : '';
  const spread = range(ours) ? `${digits(range(ours)[0])} to ${digits(range(ours)[1])}` : '';
  const others = Object.entries(peers ?? {}).filter(([who, v]) => who !== peer && one(v)).map(([who, v]) => `${who} ${digits(one(v))}`);
  const more = [spread, limit ? `limit ${digits(limit)}` : '', ...others, note].filter(Boolean).join('; ');
  console.log(`${name.padEnd(44)} ${digits(a).padStart(9)} ${unit.padEnd(11)} ${digits(b).padStart(9)} ${(peer ?? '').padEnd(24)} ${ratio.padStart(5)}  ${goal}${more ? `  (${more})` : ''}`);
  fs.appendFileSync(path.join(root, 'build/bench.jsonl'), JSON.stringify({ case: name, unit, ours: a, range: range(ours), peer, theirs: b,
    peers: peers ? Object.fromEntries(Object.entries(peers).map(([who, v]) => [who, one(v)])) : undefined, limit, machine: `${cpu}, ${os.cpus().length} cores` }) + '\n');
}

// Builds programs of bench/ that the usual build leaves out.
export async function make(...names) {
  const r = await command(['ninja', '-C', path.join(root, 'build'), ...names.map((n) => `bench/${n}`)], { limit_ms: 600_000 });
  if (r.code !== 0) throw new Error(r.all);
}
