// Real weights with a published answer: stories260K, greedy, byte for byte, by every way in
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import OpenAI from 'openai';
import { Platform, shared, skip, temp_dir, write_files } from '../harness.mjs';

const ID = '@cf/karpathy/stories260k';
const folder = path.join(shared, 'models/stories260K');
const START = 'Once upon a time';

const worker = `export default { async fetch(request, env) {
  const input = await request.json();
  if (input.stream) return new Response(await env.AI.run('${ID}', input), { headers: { 'content-type': 'text/event-stream' } });
  return Response.json(await env.AI.run('${ID}', input));
} };`;

export async function run(test, p) {
  const input = { prompt: START, raw: true, temperature: 0, max_tokens: 190 };
  let expected;
  const continues = (text) => {
    const whole = START + text;
    assert.equal(whole, expected.slice(0, whole.length));
    assert.ok(whole.length > 430, `only ${whole.length} characters`);
  };

  if (!await test('models import puts real weights under an id of the owner\'s choice', async () => {
    if (!fs.existsSync(path.join(folder, 'stories260K.gguf'))) skip('no shared data');
    expected = fs.readFileSync(path.join(folder, 'expected-greedy-200.txt'), 'utf8');
    const r = await p.cli(['models', 'import', path.join(folder, 'stories260K.gguf'), '--as', ID]);
    assert.equal(r.code, 0, r.all);
    assert.match((await p.cli(['models', 'list'])).out, /@cf\/karpathy\/stories260k/);
    assert.equal((await p.cli(['models', 'verify'])).code, 0);
  })) return;

  await test('REST continues the published text', async () => {
    const r = await p.run(ID, input);
    assert.equal(r.status, 200, r.text);
    continues(r.json.result.response);
    assert.equal(r.json.result.usage.completion_tokens, 190);
  });

  await test('OpenAI completions continues it too', async () => {
    const openai = new OpenAI({ baseURL: `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/ai/v1`, apiKey: p.token, maxRetries: 0 });
    const r = await openai.completions.create({ model: ID, prompt: START, temperature: 0, max_tokens: 190 });
    continues(r.choices[0].text);
    let text = '';
    for await (const chunk of await openai.completions.create({ model: ID, prompt: START, temperature: 0, max_tokens: 190, stream: true })) text += chunk.choices[0]?.text ?? '';
    assert.equal(text, r.choices[0].text);
  });

  await test('a deployed Worker continues it too, whole and streamed', async () => {
    const dir = write_files(temp_dir('stories'), { 'wrangler.jsonc': { name: 'stories', main: 'index.js', compatibility_date: '2026-04-01', ai: { binding: 'AI' } }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    continues((await (await p.worker('stories', '/', { method: 'POST', body: JSON.stringify(input) })).json()).response);
    const streamed = await (await p.worker('stories', '/', { method: 'POST', body: JSON.stringify({ ...input, stream: true }) })).text();
    continues(streamed.split('\n').filter((l) => l.startsWith('data: {')).map((l) => JSON.parse(l.slice(6)).response ?? '').join(''));
    fs.rmSync(dir, { recursive: true });
  });

  await test('eight different requests at once change nothing', async () => {
    const starts = ['Lily', 'The dog', 'One day', 'A big', 'Tom and', 'She said', 'In the park'];
    const ask = async (prompt) => (await p.run(ID, { ...input, prompt, max_tokens: 100 })).json.result.response;
    const alone = [];
    for (const s of starts) alone.push(await ask(s));
    const [story, ...company] = await Promise.all([p.run(ID, input), ...starts.map(ask)]);
    continues(story.json.result.response);
    assert.deepEqual(company, alone);
  });

  for (const threads of [1, 2])
    await test(`${threads} compute thread${threads > 1 ? 's' : ''} give the same bytes`, async () => {
      const one = await Platform.start({ args: ['--threads', String(threads)] });
      try {
        assert.equal((await one.cli(['models', 'import', path.join(folder, 'stories260K.gguf'), '--as', ID])).code, 0);
        const all = await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map((i) => one.run(ID, { ...input, max_tokens: 190 - i })));
        for (const r of all) {
          assert.equal(r.status, 200, r.text);
          assert.ok((START + r.json.result.response) === expected.slice(0, START.length + r.json.result.response.length));
        }
      } finally { await one.stop(); }
    });

  await test('models remove takes it away while the daemon runs', async () => {
    assert.equal((await p.cli(['models', 'remove', ID])).code, 0);
    assert.equal((await p.run(ID, input)).json.errors[0].code, 5007);
    assert.equal((await p.cli(['models', 'remove', ID])).code, 1);
  });
}
