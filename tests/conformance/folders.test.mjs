// Hugging Face folders: imported as they are, then chatted with by every way in; the answers are those of transformers on the same weights
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import OpenAI from 'openai';
import { root, temp_dir, write_files } from '../harness.mjs';

const reference = path.join(root, 'tests/reference');
const cases = JSON.parse(fs.readFileSync(path.join(reference, 'families-tiny.json'))).filter((c) => c.chat); // one of each family and what it may ask for
const id_of = (c) => `@cf/test/folder-${c.file}`;
const messages = (c) => [{ role: 'user', content: c.chat.content }];
// Where the folder names the token that ended the answer, there is room for more; elsewhere the answer goes on and is cut.
const room = (c) => (c.chat.ended ? c.chat.n_answer + 20 : c.chat.n_answer);

const worker = `export default { async fetch(request, env) {
  const { model, input } = await request.json();
  const out = await env.AI.run(model, input);
  return input.stream ? new Response(out) : Response.json(out);
} };`;

export async function run(test, p) {
  const input = (c) => ({ messages: messages(c), temperature: 0, max_tokens: room(c) });
  const openai = new OpenAI({ baseURL: `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/ai/v1`, apiKey: p.token, maxRetries: 0 });

  if (!await test('folders of each family are imported, with weights in one file or in shards', async () => {
    assert.ok(cases.length >= 11);
    assert.ok(cases.some((c) => fs.existsSync(path.join(reference, c.file, 'model-00002-of-00002.safetensors'))));
    for (const c of cases) {
      const r = await p.cli(['models', 'import', path.join(reference, c.file), '--as', id_of(c)]);
      assert.equal(r.code, 0, r.all);
      assert.match(r.out, /for Text Generation/);
    }
    const { out } = await p.cli(['models', 'list']);
    for (const c of cases) assert.ok(out.includes(id_of(c)), out);
  })) return;

  for (const c of cases)
    await test(`${c.file} answers as transformers does`, async () => {
      const r = await p.run(id_of(c), input(c));
      assert.equal(r.status, 200, r.text);
      assert.equal(r.json.result.response, c.chat.text);
      assert.equal(r.json.result.usage.prompt_tokens, c.chat.n_prompt);
    });

  await test("OpenAI's SDK gets the same, whole and streamed, and why it ended", async () => {
    for (const c of cases.filter((c) => ['qwen2', 'llama-bias'].includes(c.file))) { // two shards; an end of its own
      const ask = { model: id_of(c), messages: messages(c), temperature: 0, max_tokens: room(c) };
      const r = await openai.chat.completions.create(ask);
      assert.equal(r.choices[0].message.content, c.chat.text);
      assert.equal(r.choices[0].finish_reason, c.chat.ended ? 'stop' : 'length');
      assert.equal(r.usage.prompt_tokens, c.chat.n_prompt);
      let text = '', end;
      for await (const chunk of await openai.chat.completions.create({ ...ask, stream: true })) {
        text += chunk.choices[0]?.delta?.content ?? '';
        end = chunk.choices[0]?.finish_reason ?? end;
      }
      assert.equal(text, c.chat.text);
      assert.equal(end, c.chat.ended ? 'stop' : 'length');
    }
  });

  await test('so does a deployed Worker', async () => {
    const dir = write_files(temp_dir('folders'), { 'wrangler.jsonc': { name: 'folders', main: 'index.js', compatibility_date: '2026-04-01', ai: { binding: 'AI' } }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    const c = cases.find((c) => c.file === 'llama3');
    const ask = async (stream) => (await p.worker('folders', '/', { method: 'POST', body: JSON.stringify({ model: id_of(c), input: { ...input(c), stream } }) })).text();
    assert.equal(JSON.parse(await ask(false)).response, c.chat.text);
    const streamed = (await ask(true)).split('\n').filter((l) => l.startsWith('data: {')).map((l) => JSON.parse(l.slice(6)).response ?? '').join('');
    assert.equal(streamed, c.chat.text);
    fs.rmSync(dir, { recursive: true });
  });

  await test('a folder that asks for what we do not compute is refused by the member of its config', async () => {
    const dir = temp_dir('folder');
    fs.cpSync(path.join(reference, 'llama3'), dir, { recursive: true });
    const config = JSON.parse(fs.readFileSync(path.join(dir, 'config.json')));
    fs.writeFileSync(path.join(dir, 'config.json'), JSON.stringify({ ...config, rope_parameters: { rope_type: 'dynamic', factor: 2 } }));
    const r = await p.cli(['models', 'import', dir, '--as', '@cf/test/folder-refused']);
    assert.equal(r.code, 1);
    assert.match(r.err, /'rope_type': 'dynamic' is not supported; supported: default, linear, llama3, yarn/);
    fs.rmSync(path.join(dir, 'model-00002-of-00002.safetensors'));
    assert.match((await p.cli(['models', 'import', dir, '--as', '@cf/test/folder-refused'])).err, /model-00002-of-00002.safetensors/);
    fs.rmSync(dir, { recursive: true });
  });

  await test('they are removed', async () => {
    for (const c of cases) assert.equal((await p.cli(['models', 'remove', id_of(c)])).code, 0);
    assert.equal((await p.run(id_of(cases[0]), input(cases[0]))).json.errors[0].code, 5007); // no such model
  });
}
