// Workers AI over REST and the OpenAI dialect: raw wire first, then the real SDKs
import assert from 'node:assert/strict';
import Cloudflare from 'cloudflare';
import OpenAI from 'openai';
import { events, request, sleep, until } from '../harness.mjs';

const TINY = '@cf/selvedge/tiny-chat';
const question = { messages: [{ role: 'user', content: 'What is Selvedge?' }], temperature: 0, max_tokens: 48 };

export async function run(test, p) {
  const stream_of = (target, body, headers = {}) => request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}${target}`,
    headers: { authorization: `Bearer ${p.token}`, 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  const code_of = (r) => r.json?.errors?.[0]?.code;
  let answer;

  await test('ai/run answers in the envelope, with usage that adds up', async () => {
    const r = await p.run(TINY, question);
    assert.equal(r.status, 200, r.text);
    assert.equal(r.json.success, true);
    assert.deepEqual(r.json.errors, []);
    answer = r.json.result.response;
    assert.equal(typeof answer, 'string');
    assert.ok(answer.length > 0);
    const u = r.json.result.usage;
    assert.equal(u.prompt_tokens + u.completion_tokens, u.total_tokens);
    assert.ok(u.completion_tokens > 0 && u.completion_tokens <= 48);
    assert.ok(r.headers['cf-ai-req-id'], 'cf-ai-req-id');
  });

  await test('ai/run streams the same text as events, with padding, usage and [DONE]', async () => {
    const r = await stream_of(`/ai/run/${TINY}`, { ...question, stream: true });
    assert.equal(r.status, 200);
    assert.match(r.headers['content-type'], /^text\/event-stream/);
    const got = [];
    for await (const e of events(r.stream)) got.push(e);
    assert.equal(got.pop(), '[DONE]');
    const parsed = got.map((e) => JSON.parse(e));
    assert.equal(parsed.map((e) => e.response ?? '').join(''), answer);
    assert.ok(parsed.some((e) => typeof e.p === 'string'));
    const usage = parsed.at(-1).usage;
    assert.equal(usage.prompt_tokens + usage.completion_tokens, usage.total_tokens);
    assert.ok(parsed.length > 3, 'tokens come one by one');
  });

  await test('greedy and seeded answers repeat; another seed differs', async () => {
    const ask = async (more) => (await p.run(TINY, { ...question, ...more })).json.result.response;
    assert.equal(await ask({}), answer);
    const hot = { temperature: 2, top_k: 50, max_tokens: 40 };
    const one = await ask({ ...hot, seed: 7 });
    assert.equal(await ask({ ...hot, seed: 7 }), one);
    const others = await Promise.all([8, 9, 10].map((seed) => ask({ ...hot, seed })));
    assert.ok(others.some((o) => o !== one));
  });

  await test('max_tokens is kept to, and the finish says so', async () => {
    const r = await p.run(TINY, { ...question, max_tokens: 3 });
    assert.equal(r.json.result.usage.completion_tokens, 3);
    const chat = await p.api('POST', '/accounts/:account/ai/v1/chat/completions', { model: TINY, ...question, max_tokens: 3 });
    assert.equal(chat.status, 200, chat.text);
    assert.equal(chat.json.choices[0].finish_reason, 'length');
    const whole = await p.api('POST', '/accounts/:account/ai/v1/chat/completions', { model: TINY, ...question, max_tokens: 200 });
    assert.equal(whole.json.choices[0].finish_reason, 'stop');
  });

  await test('every field has a type and a range', async () => {
    const wrong = [{ max_tokens: 'x' }, { max_tokens: -1 }, { max_tokens: 1.5 }, { temperature: 5.1 }, { temperature: -0.1 }, { temperature: 'hot' }, { top_p: 2.1 }, { top_p: [] },
      { top_k: 0 }, { top_k: 51 }, { top_k: 1.5 }, { seed: 0 }, { seed: 1e10 }, { seed: 'a' }, { repetition_penalty: 2.1 }, { repetition_penalty: -0.1 }, { frequency_penalty: 3 }, { presence_penalty: 'x' },
      { stream: 'yes' }, { raw: 1 }, { messages: [] }, { messages: 'hi' }, { messages: [{ role: 'user' }] }, { messages: [{ role: 'nobody', content: 'x' }] }, { messages: [{ role: 'user', content: 7 }] },
      { messages: [7] }, { messages: undefined }, { messages: undefined, prompt: '' }, { messages: undefined, prompt: 7 }, { messages: undefined, prompt: 'x'.repeat(131073) }];
    for (const w of wrong) {
      const r = await p.run(TINY, { ...question, ...w });
      assert.equal(r.status, 400, `${JSON.stringify(w).slice(0, 80)}: ${r.status} ${r.text.slice(0, 200)}`);
      assert.equal(code_of(r), 5006, `${JSON.stringify(w).slice(0, 80)}: ${r.text.slice(0, 200)}`);
      assert.ok(r.json.errors[0].message.length > 10);
    }
  });

  await test('unknown models are 5007, known ones without weights say how to import them', async () => {
    const unknown = await p.run('@cf/nobody/nothing', question);
    assert.equal(unknown.status, 400);
    assert.equal(code_of(unknown), 5007);
    const known = await p.run('@cf/meta/llama-3.1-8b-instruct', question);
    assert.equal(known.status, 400);
    assert.equal(code_of(known), 5007);
    assert.match(known.json.errors[0].message, /models import/);
  });

  await test('a prompt over the window is refused with both counts, never cut', async () => {
    const r = await p.run(TINY, { prompt: 'the cloth and its edge '.repeat(4000), max_tokens: 10 });
    assert.equal(r.status, 400, r.text);
    assert.equal(code_of(r), 5021);
    assert.match(r.json.errors[0].message, /\d{4,}/);
    assert.match(r.json.errors[0].message, /\b10\b/);
  });

  await test('broken JSON, no body, arrays: 400 with a sentence', async () => {
    for (const body of ['{', '', '[]', '7', 'null', '{"messages":[{"role":"user","content":"\ud800"', '['.repeat(100000)]) {
      const r = await p.api('POST', `/accounts/:account/ai/run/${TINY}`, body);
      assert.equal(r.status, 400, `${body.slice(0, 30)}: ${r.status}`);
      assert.equal(r.json.success, false);
      assert.ok(r.json.errors[0].message);
    }
  });

  await test('an encoded model name is one name', async () => {
    const r = await p.run(encodeURIComponent(TINY), { ...question, max_tokens: 2 });
    assert.equal(r.status, 200, r.text);
  });

  await test('models/search lists what is here, by task and by name', async () => {
    const all = await p.api('GET', '/accounts/:account/ai/models/search?search=tiny-chat');
    assert.equal(all.status, 200, all.text);
    const mine = all.json.result.find((m) => m.name === TINY);
    assert.ok(mine, all.text.slice(0, 300));
    assert.equal(mine.task.name, 'Text Generation');
    assert.ok(mine.properties.find((x) => x.property_id === 'context_window'));
    const none = await p.api('GET', '/accounts/:account/ai/models/search?search=no-such-model-anywhere');
    assert.deepEqual(none.json.result, []);
    const page = await p.api('GET', '/accounts/:account/ai/models/search?per_page=2&page=2');
    assert.equal(page.json.result.length, 2);
  });

  await test('tokens: missing, wrong, of another account', async () => {
    const verify = await p.api('GET', '/user/tokens/verify', undefined, { authorization: 'Bearer wrong' });
    assert.equal(verify.status, 401);
    assert.equal(code_of(verify), 1000);
    const run = await p.api('POST', `/accounts/:account/ai/run/${TINY}`, question, { authorization: 'Bearer wrong' });
    assert.ok(run.status === 401 || run.status === 403);
    assert.equal(code_of(run), 10000);
    const other = await p.api('POST', `/accounts/${'0'.repeat(32)}/ai/run/${TINY}`, question);
    assert.ok(other.status >= 401 && other.status <= 404, other.text);
  });

  await test('a client that leaves mid-stream stops the engine within a step', async () => {
    const r = await stream_of(`/ai/run/${TINY}`, { messages: [{ role: 'user', content: 'Tell me everything.' }], temperature: 3, max_tokens: 400, stream: true });
    let n = 0;
    for await (const e of events(r.stream)) { if (e && ++n === 2) break; }
    r.close();
    await until('no generation in flight', async () => (await p.metric('selvedge_ai_in_flight')) === 0, 3000);
  });

  await test('eight different requests at once answer as alone', async () => {
    const prompts = ['Hello.', 'What is KV?', 'Who are you?', 'What is a Worker?', 'Name a colour.', 'What is R2?', 'How do I deploy?', 'Is it free?'];
    const ask = async (content) => (await p.run(TINY, { messages: [{ role: 'user', content }], temperature: 0, max_tokens: 30 })).json.result.response;
    const alone = [];
    for (const content of prompts) alone.push(await ask(content));
    assert.deepEqual(await Promise.all(prompts.map(ask)), alone);
  });

  const openai = () => new OpenAI({ baseURL: `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/ai/v1`, apiKey: p.token, maxRetries: 0 });
  await test('the openai SDK: chat, stream, completions', async () => {
    const chat = await openai().chat.completions.create({ model: TINY, ...question });
    assert.equal(chat.choices[0].message.role, 'assistant');
    assert.equal(chat.choices[0].message.content, answer);
    assert.equal(chat.usage.total_tokens, chat.usage.prompt_tokens + chat.usage.completion_tokens);
    let text = '', finish, usage;
    for await (const chunk of await openai().chat.completions.create({ model: TINY, ...question, stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, answer);
    assert.ok(finish === 'stop' || finish === 'length');
    assert.deepEqual({ p: usage.prompt_tokens, c: usage.completion_tokens }, { p: chat.usage.prompt_tokens, c: chat.usage.completion_tokens });
    const done = await openai().completions.create({ model: TINY, prompt: 'Selvedge is', temperature: 0, max_tokens: 8 });
    assert.equal(done.object, 'text_completion');
    let streamed = '';
    for await (const chunk of await openai().completions.create({ model: TINY, prompt: 'Selvedge is', temperature: 0, max_tokens: 8, stream: true })) streamed += chunk.choices[0]?.text ?? '';
    assert.equal(streamed, done.choices[0].text);
  });

  await test('the openai SDK: stop strings end the text before them', async () => {
    const word = answer.split(' ')[2];
    const chat = await openai().chat.completions.create({ model: TINY, ...question, stop: [word] });
    assert.equal(chat.choices[0].message.content, answer.slice(0, answer.indexOf(word)));
    assert.equal(chat.choices[0].finish_reason, 'stop');
  });

  await test('the openai SDK: logprobs of every token, whole and streamed', async () => {
    const ask = { model: TINY, ...question, logprobs: true, top_logprobs: 3 };
    const c = (await openai().chat.completions.create(ask)).choices[0];
    const tokens = c.logprobs.content;
    assert.equal(Buffer.from(tokens.flatMap((t) => t.bytes)).toString().trim(), c.message.content.trim());
    for (const t of tokens) {
      assert.equal(t.top_logprobs.length, 3);
      assert.ok(t.logprob <= 0 && t.top_logprobs[0].logprob === t.logprob, 'greedy takes the likeliest');
      assert.ok(t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob && t.top_logprobs[1].logprob >= t.top_logprobs[2].logprob);
    }
    const streamed = [];
    for await (const chunk of await openai().chat.completions.create({ ...ask, stream: true })) streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    assert.deepEqual(streamed, tokens);
    const done = (await openai().completions.create({ model: TINY, prompt: 'Selvedge is', temperature: 0, max_tokens: 6, logprobs: 2 })).choices[0].logprobs;
    assert.equal(done.tokens.length, 6);
    for (const list of ['token_logprobs', 'top_logprobs', 'text_offset']) assert.equal(done[list].length, 6);
    assert.equal(Math.max(...Object.values(done.top_logprobs[0])), done.token_logprobs[0]);
    assert.equal(done.text_offset[1], [...done.tokens[0]].length);
    assert.equal((await openai().chat.completions.create({ model: TINY, ...question })).choices[0].logprobs, null);
  });

  await test('the openai SDK: logit_bias bans a token and brings another', async () => {
    const ask = (logit_bias) => openai().completions.create({ model: TINY, prompt: 'Selvedge is', temperature: 0, max_tokens: 5, logprobs: 0, logit_bias });
    const free = (await ask({})).choices[0].logprobs.tokens;
    const loud = await ask({ 70: 100 });
    assert.equal(new Set(loud.choices[0].logprobs.tokens).size, 1, 'always the same token');
    assert.notDeepEqual(loud.choices[0].logprobs.tokens, free);
    await assert.rejects(ask({ 99999999: 1 }), (e) => e.status === 400 && /not in the vocabulary/.test(e.message));
  });

  await test('a conversation finds its own beginning: cached_tokens, and the same answer', async () => {
    const messages = [{ role: 'system', content: 'You are brief. '.repeat(12) }, ...question.messages];
    const ask = () => openai().chat.completions.create({ model: TINY, ...question, messages });
    const first = await ask(), second = await ask();
    assert.equal(second.choices[0].message.content, first.choices[0].message.content);
    const { prompt_tokens, prompt_tokens_details } = second.usage;
    assert.ok(prompt_tokens_details?.cached_tokens >= 32 && prompt_tokens_details.cached_tokens < prompt_tokens, JSON.stringify(second.usage));
    assert.ok(prompt_tokens_details.cached_tokens > prompt_tokens - 32); // all but the last one, and at most a page that was not full
  });

  await test('/metrics has the steps of the engine, by time and by rows', async () => {
    const before = await p.metric('selvedge_engine_step_seconds_count');
    assert.equal((await p.run(TINY, { prompt: 'The edge', raw: true, max_tokens: 8 })).status, 200);
    const text = await (await request({ port: p.port, path: '/metrics' })).text();
    const value = (name) => Number(new RegExp(`^selvedge_engine_${name.replace(/[{}+]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1]);
    assert.equal(value('up'), 1);
    const steps = value('step_seconds_count');
    assert.ok(steps > before && steps === value('step_rows_count'), text);
    assert.equal(value('step_rows_sum'), value('rows_total'));
    for (const name of ['step_seconds', 'step_rows']) {
      const buckets = [...text.matchAll(new RegExp(`^selvedge_engine_${name}_bucket\\{le="[^"]+"\\} (\\d+)$`, 'gm'))].map((m) => Number(m[1]));
      assert.equal(buckets.length, 12);
      assert.deepEqual(buckets, [...buckets].sort((a, b) => a - b)); // each counts those before it, too
      assert.equal(buckets.at(-1), steps);
    }
    assert.ok(value('step_seconds_sum') > 0);
  });

  await test('the openai SDK: error classes', async () => {
    await assert.rejects(openai().chat.completions.create({ model: TINY, messages: [{ role: 'user', content: 'x' }], temperature: 99 }), OpenAI.BadRequestError);
    await assert.rejects(openai().chat.completions.create({ model: '@cf/nobody/nothing', messages: [{ role: 'user', content: 'x' }] }), (e) => e instanceof OpenAI.APIError && e.status >= 400 && e.status < 500);
    const bad = new OpenAI({ baseURL: `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/ai/v1`, apiKey: 'wrong', maxRetries: 0 });
    await assert.rejects(bad.chat.completions.create({ model: TINY, messages: [{ role: 'user', content: 'x' }] }), (e) => e instanceof OpenAI.AuthenticationError || e instanceof OpenAI.PermissionDeniedError);
  });

  const cloudflare = (token = p.token) => new Cloudflare({ apiToken: token, baseURL: `http://127.0.0.1:${p.port}/client/v4`, maxRetries: 0 });
  await test('the cloudflare SDK: run, models, error classes', async () => {
    const r = await cloudflare().ai.run(TINY, { account_id: p.account, ...question });
    assert.equal(r.response, answer);
    const names = [];
    for await (const m of cloudflare().ai.models.list({ account_id: p.account, search: 'tiny-chat' })) names.push(m.name);
    assert.ok(names.includes(TINY));
    await assert.rejects(cloudflare().ai.run(TINY, { account_id: p.account, prompt: 'x', temperature: 99 }), (e) => e instanceof Cloudflare.BadRequestError && e.errors[0].code === 5006);
    await assert.rejects(cloudflare('wrong').ai.run(TINY, { account_id: p.account, prompt: 'x' }), (e) => e instanceof Cloudflare.AuthenticationError || e instanceof Cloudflare.PermissionDeniedError);
    await sleep(0);
  });
}
