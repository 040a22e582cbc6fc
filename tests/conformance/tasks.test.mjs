// The tasks besides text generation, with small random models: REST, the binding of a deployed Worker, OpenAI's and Cloudflare's SDKs
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import Cloudflare from 'cloudflare';
import OpenAI from 'openai';
import { root, temp_dir, until, write_files } from '../harness.mjs';

const BGE = '@cf/baai/bge-small-en-v1.5', M3 = '@cf/baai/bge-m3', SST = '@cf/huggingface/distilbert-sst-2-int8', RERANKER = '@cf/baai/bge-reranker-base', QWEN = '@cf/qwen/qwen3-embedding-0.6b',
  M2M = '@cf/meta/m2m100-1.2b', BART = '@cf/facebook/bart-large-cnn';
const MODELS = { bert: BGE, 'xlm-roberta': M3, distilbert: SST, 'xlm-roberta-reranker': RERANKER, 'qwen3-embedding': QWEN, '../seq2seq/m2m_100': M2M, '../seq2seq/bart': BART };
const goldens = JSON.parse(fs.readFileSync(path.join(root, 'tests/reference/encoders-tiny.json'), 'utf8'));

// Answers whatever it is asked with what the binding said, or with the exception.
const worker = `export default { async fetch(request, env) {
  const { model, input, options } = await request.json();
  try { return Response.json({ answer: await env.AI.run(model, input, options), id: env.AI.lastRequestId }); }
  catch (e) { return Response.json({ name: e.name, message: e.message }, { status: 400 }); }
} };`;

const unit = (v) => { const n = Math.hypot(...v); return v.map((x) => x / n); };
const close = (got, want, by = 1e-4) => {
  assert.equal(got.length, want.length);
  want.forEach((x, i) => assert.ok(Math.abs(x - got[i]) < by, `number ${i}: ${got[i]}, wanted ${x}`));
};

export async function run(test, p) {
  const singles = (model) => goldens[model].cases.filter((c) => c.texts.length === 1 && c.texts[0]);
  const texts = singles('bert').map((c) => c.texts[0]);
  const openai = new OpenAI({ baseURL: `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/ai/v1`, apiKey: p.token, maxRetries: 0 });
  const cloudflare = new Cloudflare({ baseURL: p.base.replace('localhost', '127.0.0.1'), apiToken: p.token, maxRetries: 0 });
  const ask_worker = async (model, input, options) => (await p.worker('tasks', '/', { method: 'POST', body: JSON.stringify({ model, input, options }) })).json();
  const refused = (r, status, code, says) => {
    assert.equal(r.status, status, r.text);
    assert.equal(r.json.errors[0].code, code);
    assert.match(r.json.errors[0].message, says);
  };

  if (!await test('models import says what each folder is', async () => {
    const says = { bert: /a text encoder \(bert, .*\), for Text Embeddings/, 'xlm-roberta': /a text encoder \(xlm-roberta, .*\), for Text Embeddings/,
      distilbert: /a text classifier \(distilbert, .*\), for Text Classification/, 'xlm-roberta-reranker': /a reranker \(xlm-roberta, .*\), for Text Classification/,
      'qwen3-embedding': /a text encoder \(qwen3, .*\), for Text Embeddings/, '../seq2seq/m2m_100': /a translator \(m2m_100, .*\), for Translation/,
      '../seq2seq/bart': /a summariser \(bart, .*\), for Summarization/ };
    for (const [folder, id] of Object.entries(MODELS)) {
      const r = await p.cli(['models', 'import', path.join(root, 'tests/reference/encoders', folder), '--as', id]);
      assert.equal(r.code, 0, r.all);
      assert.match(r.out, says[folder]);
    }
    const wrong = await p.cli(['models', 'import', path.join(root, 'tests/reference/encoders/bert'), '--as', '@cf/meta/llama-3.2-1b-instruct']);
    assert.equal(wrong.code, 1);
    assert.match(wrong.err, /is a text encoder \(bert\), for Text Embeddings; @cf\/meta\/llama-3\.2-1b-instruct is a model for Text Generation/);
    assert.match((await p.cli(['models', 'list'])).out, /bge-reranker-base .* Text Classification/);
  })) return;

  await test('a Worker with the AI binding is deployed', async () => {
    const dir = write_files(temp_dir('tasks'), { 'wrangler.jsonc': { name: 'tasks', main: 'index.js', compatibility_date: '2026-04-01', ai: { binding: 'AI' } }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    fs.rmSync(dir, { recursive: true });
  });

  await test('models/search and models/schema know the tasks', async () => {
    const found = (await p.api('GET', '/accounts/:account/ai/models/search?task=Text%20Embeddings&search=bge-small')).json.result;
    assert.equal(found[0].name, BGE);
    assert.equal(found[0].task.name, 'Text Embeddings');
    assert.equal(found[0].properties.find((x) => x.property_id === 'output_dimensions').value, '36');
    for (const id of Object.values(MODELS)) {
      const schema = (await p.api('GET', `/accounts/:account/ai/models/schema?model=${id}`)).json.result;
      assert.equal(schema.input.type, 'object', id);
      assert.ok(schema.output.type, id);
    }
  });

  await test('text embeddings: REST, both SDKs and a Worker give the numbers of transformers', async () => {
    const rest = await p.run(BGE, { text: texts });
    assert.equal(rest.status, 200, rest.text);
    const { shape, data, pooling } = rest.json.result;
    assert.deepEqual(Object.keys(rest.json.result), ['shape', 'data', 'pooling']);
    assert.deepEqual(shape, [texts.length, 36]);
    assert.equal(pooling, 'mean');
    singles('bert').forEach((c, i) => close(data[i], unit(c.mean)));
    assert.deepEqual(await cloudflare.ai.run(BGE, { account_id: p.account, text: texts }), rest.json.result);
    const bound = await ask_worker(BGE, { text: texts });
    assert.deepEqual(bound.answer, rest.json.result);
    assert.match(bound.id, /^[0-9a-f-]{36}$/);
    for (const encoding_format of [undefined, 'float', 'base64']) { /* the SDK decodes its own default, base64 */
      const r = await openai.embeddings.create({ model: BGE, input: texts, encoding_format });
      assert.equal(r.object, 'list');
      assert.equal(r.model, BGE);
      assert.equal(r.usage.prompt_tokens, singles('bert').reduce((n, c) => n + c.ids.length, 0));
      assert.equal(r.usage.total_tokens, r.usage.prompt_tokens);
      r.data.forEach((d, i) => {
        assert.equal(d.index, i);
        const v = encoding_format === 'base64' ? Array.from(new Float32Array(new Uint8Array(Buffer.from(d.embedding, 'base64')).buffer)) : d.embedding;
        close(v, data[i], 1e-6);
      });
    }
  });

  await test('text embeddings: pooling cls, one text, and bge-m3 with contexts and query', async () => {
    const [first] = singles('bert');
    const one = (await p.run(BGE, { text: first.texts[0], pooling: 'cls' })).json.result;
    assert.deepEqual(one.shape, [1, 36]);
    assert.equal(one.pooling, 'cls');
    close(one.data[0], unit(first.cls));
    const cases = singles('xlm-roberta'), contexts = cases.map((c) => ({ text: c.texts[0] }));
    const plain = (await ask_worker(M3, { contexts, truncate_inputs: true })).answer;
    assert.deepEqual(plain.shape, [cases.length, 36]);
    assert.equal(plain.pooling, 'cls');
    cases.forEach((c, i) => close(plain.response[i], unit(c.cls)));
    const ranked = (await ask_worker(M3, { query: cases[1].texts[0], contexts, truncate_inputs: true })).answer.response;
    const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const want = cases.map((c, id) => ({ id, score: dot(unit(c.cls), unit(cases[1].cls)) })).sort((a, b) => b.score - a.score);
    assert.deepEqual(ranked.map((r) => r.id).sort(), want.map((r) => r.id).sort());
    assert.equal(ranked[0].id, 1);
    ranked.forEach((r, i) => assert.ok(Math.abs(r.score - want[i].score) < 1e-4));
  });

  await test('qwen3-embedding: the last token, queries with an instruction, documents without', async () => {
    const golden = JSON.parse(fs.readFileSync(path.join(root, 'tests/reference/embedders-tiny.json'), 'utf8'))['qwen3-embedding'].cases;
    const documents = golden.map((c) => c.texts[0]);
    const rest = (await p.run(QWEN, { documents })).json.result;
    assert.deepEqual(Object.keys(rest).sort(), ['data', 'shape']);
    golden.forEach((c, i) => close(rest.data[i], unit(c.last)));
    assert.deepEqual((await ask_worker(QWEN, { text: documents })).answer, rest);
    const query = (await ask_worker(QWEN, { queries: 'river', instruction: 'Find' })).answer;
    assert.deepEqual(query, (await ask_worker(QWEN, { text: 'Instruct: Find\nQuery:river' })).answer);
    assert.equal((await openai.embeddings.create({ model: QWEN, input: 'river', dimensions: 16 })).data[0].embedding.length, 16);
    refused(await p.run(QWEN, { queries: 'a', documents: 'b' }), 400, 5006, /at a time/);
  });

  await test('text classification: every class with its softmax', async () => {
    for (const c of singles('distilbert').slice(0, 3)) {
      const rest = await p.run(SST, { text: c.texts[0] });
      assert.equal(rest.status, 200, rest.text);
      const sum = c.logits.reduce((n, x) => n + Math.exp(x), 0);
      assert.deepEqual(rest.json.result.map((r) => r.label), ['NEGATIVE', 'POSITIVE']);
      close(rest.json.result.map((r) => r.score), c.logits.map((x) => Math.exp(x) / sum));
      assert.deepEqual((await ask_worker(SST, { text: c.texts[0] })).answer, rest.json.result);
      assert.deepEqual(await cloudflare.ai.run(SST, { account_id: p.account, text: c.texts[0] }), rest.json.result);
    }
  });

  await test('reranking: the sigmoid of each pair, best first, top_k of them', async () => {
    const pairs = goldens['xlm-roberta-reranker'].cases.filter((c) => c.texts.length === 2);
    const query = pairs[0].texts[0], of_query = pairs.filter((c) => c.texts[0] === query), contexts = of_query.map((c) => ({ text: c.texts[1] }));
    const want = of_query.map((c, id) => ({ id, score: 1 / (1 + Math.exp(-c.logits[0])) })).sort((a, b) => b.score - a.score);
    const rest = await p.run(RERANKER, { query, contexts });
    assert.equal(rest.status, 200, rest.text);
    const got = rest.json.result.response;
    assert.equal(got.length, want.length);
    got.forEach((r, i) => assert.ok(Math.abs(r.score - want[i].score) < 1e-4 && r.id === want[i].id));
    assert.deepEqual((await ask_worker(RERANKER, { query, contexts, top_k: 1 })).answer.response, got.slice(0, 1));
    assert.deepEqual(await cloudflare.ai.run(RERANKER, { account_id: p.account, query, contexts }), rest.json.result);
  });

  await test('translation and summarization: REST, the Cloudflare SDK and a Worker write what transformers writes', async () => {
    const golden = JSON.parse(fs.readFileSync(path.join(root, 'tests/reference/seq2seq-tiny.json'), 'utf8'));
    for (const [kind, model, input, field] of [['m2m_100', M2M, (text) => ({ text, target_lang: 'fr' }), 'translated_text'], ['bart', BART, (input_text) => ({ input_text }), 'summary']])
      for (const c of golden[kind].slice(0, 3)) {
        const rest = await p.run(model, input(c.text));
        assert.equal(rest.status, 200, rest.text);
        assert.deepEqual(rest.json.result, { [field]: c.written });
        assert.deepEqual((await ask_worker(model, input(c.text))).answer, rest.json.result);
        assert.deepEqual(await cloudflare.ai.run(model, { account_id: p.account, ...input(c.text) }), rest.json.result);
      }
    refused(await p.run(M2M, { text: 'a' }), 400, 5006, /target_lang/);
    refused(await p.run(M2M, { text: 'a', target_lang: 'klingon' }), 400, 5006, /no language/);
    refused(await p.run(BART, { input_text: '' }), 400, 5006, /at least 1 character/);
  });

  await test('error rows: 101 texts, empty ones, none, over-long ones, other types, bytes that are no UTF-8', async () => {
    refused(await p.run(BGE, { text: Array(101).fill('a') }), 400, 5006, /'\/text' must have 1 to 100 texts, got 101/);
    refused(await p.run(BGE, { text: '' }), 400, 5006, /at least 1 character/);
    refused(await p.run(BGE, { text: ['a', ''] }), 400, 5006, /'\/text\/1' must have at least 1 character/);
    refused(await p.run(BGE, {}), 400, 5006, /required properties at '\/' are 'text'/);
    refused(await p.run(BGE, { text: 7 }), 400, 5006, /Type mismatch of '\/text'/);
    refused(await p.run(BGE, { text: 'a', pooling: 'max' }), 400, 5006, /mean, cls/);
    refused(await p.api('POST', `/accounts/:account/ai/run/${BGE}`, Buffer.from('{"text":"\xff\xfe"}', 'latin1')), 400, 5006, /no JSON/);
    refused(await p.api('POST', `/accounts/:account/ai/run/${BGE}`, Buffer.from([0x89, 0x50, 0x4e, 0x47])), 400, 5006, /no binary input/);
    const long = 'river '.repeat(300_000);
    assert.equal((await p.run(BGE, { text: long })).status, 200); // read up to its length, as the hosted service does
    refused(await p.run(M3, { text: long }), 400, 5021, /tokens/);
    assert.equal((await p.run(M3, { text: long, truncate_inputs: true })).status, 200);
    refused(await p.run(BGE, { text: Array(90).fill('x'.repeat(120_000)) }), 413, 3006, /Request too large/);
    refused(await p.run(RERANKER, { query: 'a' }), 400, 5006, /'contexts'/);
    refused(await p.run(RERANKER, { query: 'a', contexts: [{ text: 'a' }], top_k: 0 }), 400, 5006, /top_k/);
    refused(await p.run(SST, { text: '' }), 400, 5006, /at least 1 character/);
    refused(await p.run('@cf/facebook/no-such', { text: 'a' }), 400, 5007, /No such model/);
    const thrown = await ask_worker(BGE, { text: '' });
    assert.match(thrown.message, /5006: .*at least 1 character/);
    await assert.rejects(openai.embeddings.create({ model: BGE, input: '' }), (e) => e.status === 400 && e.param === 'input' && e.code === '5006');
    await assert.rejects(openai.embeddings.create({ model: '@cf/no/such', input: 'a' }), (e) => e.code === 'model_not_found');
    await assert.rejects(openai.embeddings.create({ model: '@cf/selvedge/tiny-chat', input: 'a' }), /it is a model for Text Generation/);
    await assert.rejects(cloudflare.ai.run(BGE, { account_id: p.account, text: '' }), (e) => e.status === 400);
  });

  await test('asynchronous batches: queueRequest by REST and by a Worker, polled until they are done', async () => {
    const requests = singles('bert').map((c, i) => ({ text: c.texts[0], external_reference: `ref-${i}` })).concat([{ text: '' }]);
    const check = (done) => {
      assert.equal(done.responses.length, requests.length);
      singles('bert').forEach((c, i) => {
        const { id, success, result, external_reference } = done.responses[i];
        assert.deepEqual({ id, success, external_reference }, { id: i, success: true, external_reference: `ref-${i}` });
        close(result.data[0], unit(c.mean));
      });
      const last = done.responses.at(-1);
      assert.equal(last.success, false);
      assert.equal(last.errors[0].code, 5006);
      assert.ok(done.usage.total_tokens > 0);
    };
    const rest = await p.api('POST', `/accounts/:account/ai/run/${BGE}?queueRequest=true`, { requests });
    assert.equal(rest.status, 200, rest.text);
    assert.equal(rest.json.result.status, 'queued');
    assert.equal(rest.json.result.model, BGE);
    const { request_id } = rest.json.result;
    check(await until('the batch', async () => { const r = (await p.run(BGE, { request_id })).json.result; return r.responses && r; }));
    const bound = (await ask_worker(BGE, { requests }, { queueRequest: true })).answer;
    assert.match(bound.request_id, /^[0-9a-f-]{36}$/);
    check(await until('the batch', async () => { const r = (await ask_worker(BGE, { request_id: bound.request_id })).answer; return r.responses && r; }));
    refused(await p.run(M3, { request_id }), 400, 5006, /names no batch/); // of another model
    refused(await p.api('POST', `/accounts/:account/ai/run/${SST}?queueRequest=true`, { requests }), 400, 5006, /not supported/);
  });

  await test('fifty callers at once get what each would alone, and tokens are metered', async () => {
    const before = await p.metric('selvedge_ai_prompt_tokens_total');
    const alone = await p.run(BGE, { text: texts });
    const all = await Promise.all(Array.from({ length: 50 }, (_, i) => p.run(BGE, { text: i % 2 ? texts : [texts[i % texts.length]] })));
    all.forEach((r, i) => {
      assert.equal(r.status, 200, r.text);
      assert.deepEqual(r.json.result.data, i % 2 ? alone.json.result.data : [alone.json.result.data[i % texts.length]]);
    });
    assert.ok(await p.metric('selvedge_ai_prompt_tokens_total') > before);
    assert.equal(await p.metric('selvedge_ai_in_flight'), 0);
  });

  await test('an embedding answers while long generations run', async () => {
    const END = 2, chat = { model: '@cf/selvedge/tiny-chat', messages: [{ role: 'user', content: 'What is Selvedge?' }], max_tokens: 400, logit_bias: { [END]: -100 } };
    let running = 4;
    const generations = Array.from({ length: 4 }, async (_, seed) => {
      const r = await openai.chat.completions.create({ ...chat, seed: seed + 1 });
      running--;
      return r;
    });
    const r = await p.run(BGE, { text: texts[0] });
    const left = running;
    assert.equal(r.status, 200, r.text);
    for (const g of await Promise.all(generations)) assert.equal(g.usage.completion_tokens, 400);
    assert.equal(left, 4, 'it waited for a generation'); // each is 400 steps
  });

  await test('models remove takes them away', async () => {
    for (const id of Object.values(MODELS)) assert.equal((await p.cli(['models', 'remove', id])).code, 0);
    refused(await p.run(BGE, { text: 'a' }), 400, 5007, /models import PATH --as/);
  });
}
