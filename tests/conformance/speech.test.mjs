// Speech recognition, with a small random Whisper whose transcripts openai/whisper wrote (tests/reference/whisper_tiny.py)
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import Cloudflare from 'cloudflare';
import OpenAI, { toFile } from 'openai';
import { request, root, shared, skip, temp_dir, write_files } from '../harness.mjs';

const WHISPER = '@cf/openai/whisper', TURBO = '@cf/openai/whisper-large-v3-turbo', OWN = '@cf/test/whisper-own';
const folder = path.join(root, 'tests/reference/whisper');
const goldens = JSON.parse(fs.readFileSync(path.join(root, 'tests/reference/whisper-tiny.json'), 'utf8')).transcripts;
const plain = { beam_size: 1, compression_ratio_threshold: 1e6, log_prob_threshold: -1e6 }; // as the goldens: one attempt, greedy
const trim = (s) => s.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '');

// The sounds of the goldens.
function wav(n, k, rate = 16000) {
  const b = Buffer.alloc(44 + 2 * n);
  b.write('RIFF', 0); b.writeUInt32LE(36 + 2 * n, 4); b.write('WAVEfmt ', 8); b.writeUInt32LE(16, 16); b.writeUInt16LE(1, 20); b.writeUInt16LE(1, 22);
  b.writeUInt32LE(rate, 24); b.writeUInt32LE(2 * rate, 28); b.writeUInt16LE(2, 32); b.writeUInt16LE(16, 34); b.write('data', 36); b.writeUInt32LE(2 * n, 40);
  for (let i = 0; i < n; i++) b.writeInt16LE(Math.trunc(((i * i * (31 + k) + i * 17) % 20001 - 10000) * (Math.floor(i / (700 + 90 * k)) % 7) / 7), 44 + 2 * i);
  return b;
}

const worker = `export default { async fetch(request, env) {
  const { model, audio, input, how } = await request.json();
  const bytes = Uint8Array.from(atob(audio), (c) => c.charCodeAt(0));
  const sent = how === 'stream' ? { body: new Response(bytes).body, contentType: 'audio/wav' } : how === 'numbers' ? [...bytes] : audio;
  try { return Response.json(await env.AI.run(model, { audio: sent, ...input })); }
  catch (e) { return Response.json({ name: e.name, message: e.message }, { status: 400 }); }
} };`;

export async function run(test, p) {
  const g = goldens[1], sound = wav(g.n, g.k);
  const baseURL = `http://127.0.0.1:${p.port}/client/v4/accounts/${p.account}/ai/v1`;
  const openai = new OpenAI({ baseURL, apiKey: p.token, maxRetries: 0 });
  const cloudflare = new Cloudflare({ baseURL: p.base.replace('localhost', '127.0.0.1'), apiToken: p.token, maxRetries: 0 });
  const raw = async (model, body, type = 'application/octet-stream') => {
    const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${model}`,
      headers: { authorization: `Bearer ${p.token}`, 'content-type': type }, body });
    const text = await r.text();
    return { status: r.status, text, json: JSON.parse(text) };
  };
  const ask_worker = async (model, how, input = {}) =>
    (await p.worker('speech', '/', { method: 'POST', body: JSON.stringify({ model, how, input, audio: sound.toString('base64') }) })).json();
  const refused = (r, status, code, says) => {
    assert.equal(r.status, status, r.text);
    assert.equal(r.json.errors[0].code, code);
    assert.match(r.json.errors[0].message, says);
  };
  let whisper;

  if (!await test('models import takes folders and files of whisper.cpp', async () => {
    for (const [file, id] of [['multi', TURBO], ['ggml-multi.bin', WHISPER], ['multi', OWN]]) {
      const r = await p.cli(['models', 'import', path.join(folder, file), '--as', id]);
      assert.equal(r.code, 0, r.all);
      assert.match(r.out, /a speech recogniser \(whisper, .*F16\), for Automatic Speech Recognition/);
    }
    const wrong = await p.cli(['models', 'import', path.join(folder, 'multi'), '--as', '@cf/baai/bge-small-en-v1.5']);
    assert.match(wrong.err, /is a speech recogniser \(whisper\), for Automatic Speech Recognition; @cf\/baai\/bge-small-en-v1\.5 is a model for Text Embeddings/);
  })) return;

  await test('a Worker with the AI binding is deployed', async () => {
    const dir = write_files(temp_dir('speech'), { 'wrangler.jsonc': { name: 'speech', main: 'index.js', compatibility_date: '2026-04-01', ai: { binding: 'AI' } }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    fs.rmSync(dir, { recursive: true });
  });

  await test('whisper-large-v3-turbo: base64 in; text, segments and words of openai/whisper out', async () => {
    const r = await p.run(TURBO, { audio: sound.toString('base64'), ...plain });
    assert.equal(r.status, 200, r.text);
    const t = r.json.result;
    assert.deepEqual(Object.keys(t), ['transcription_info', 'text', 'word_count', 'segments', 'vtt']);
    assert.deepEqual(Object.keys(t.transcription_info), ['language', 'language_probability', 'duration', 'duration_after_vad']);
    assert.equal(t.transcription_info.language, g.language);
    assert.equal(t.transcription_info.duration, g.n / 16000);
    assert.equal(t.text, trim(g.text));
    const want = g.segments.filter((s) => s.text);
    assert.equal(t.segments.length, want.length);
    want.forEach((s, i) => {
      const got = t.segments[i];
      assert.deepEqual(Object.keys(got), ['text', 'start', 'end', 'temperature', 'avg_logprob', 'compression_ratio', 'no_speech_prob', 'words']);
      assert.equal(got.text, s.text);
      for (const key of ['start', 'end', 'avg_logprob', 'compression_ratio', 'no_speech_prob']) assert.ok(Math.abs(got[key] - s[key]) < 1e-4, `${key} of segment ${i}: ${got[key]}`);
      assert.deepEqual(got.words.map((w) => [w.word, w.start, w.end]), s.words.map((w) => [trim(w[0]), w[1], w[2]]));
    });
    assert.equal(t.word_count, want.reduce((n, s) => n + s.words.length, 0));
    assert.match(t.vtt, /^WEBVTT\n\n00:00\.000 --> 00:0\d\.\d{3}\n/);
    assert.equal(t.vtt.split(' --> ').length - 1, want.length);
  });

  await test('its options reach the decoder: language, task, prompt, prefix, context', async () => {
    for (const i of [2, 3, 4]) {
      const { word_timestamps, ...options } = goldens[i].options;
      const r = await p.run(TURBO, { audio: wav(goldens[i].n, goldens[i].k).toString('base64'), ...plain, ...options });
      assert.equal(r.status, 200, r.text);
      assert.equal(r.json.result.text, trim(goldens[i].text), `case ${i}`);
      assert.equal(r.json.result.transcription_info.language, goldens[i].language);
    }
  });

  await test('vad_filter leaves out what is no speech', async () => {
    const r = await p.run(TURBO, { audio: wav(48000, 2).fill(0, 44).toString('base64'), vad_filter: true });
    assert.equal(r.status, 200, r.text);
    assert.deepEqual([r.json.result.text, r.json.result.segments.length, r.json.result.vtt], ['', 0, 'WEBVTT\n\n']);
    assert.deepEqual([r.json.result.transcription_info.duration, r.json.result.transcription_info.duration_after_vad], [3, 0]);
  });

  await test('whisper: the body, numbers, a Worker and the SDK give one answer', async () => {
    const r = await raw(WHISPER, sound);
    assert.equal(r.status, 200, r.text);
    whisper = r.json.result;
    assert.deepEqual(Object.keys(whisper), ['text', 'word_count', 'words', 'vtt']);
    assert.equal(whisper.words.length, whisper.word_count);
    assert.deepEqual(Object.keys(whisper.words[0]), ['word', 'start', 'end']);
    assert.deepEqual((await p.run(WHISPER, { audio: [...sound] })).json.result, whisper);
    for (const how of ['numbers', 'stream']) assert.deepEqual(await ask_worker(WHISPER, how), whisper, how);
    assert.deepEqual(await cloudflare.ai.run(WHISPER, { account_id: p.account, audio: [...sound] }), whisper);
  });

  await test('turbo in a Worker: base64 and a stream beside other fields', async () => {
    for (const how of ['base64', 'stream']) {
      const t = await ask_worker(TURBO, how, { ...plain, language: 'en' });
      assert.equal(t.text, trim(g.text), how);
    }
    assert.match((await ask_worker(TURBO, 'base64', { task: 'sing' })).message, /5006: .*task/);
  });

  await test('OpenAI\'s transcriptions: every format, from the SDK', async () => {
    const file = await toFile(sound, 'sound.wav');
    const base = { file, model: OWN, temperature: 0 };
    const json = await openai.audio.transcriptions.create(base);
    assert.ok(json.text.length > 0);
    assert.deepEqual(json.usage, { type: 'duration', seconds: 6 });
    assert.equal(trim(await openai.audio.transcriptions.create({ ...base, response_format: 'text' })), json.text);
    const srt = await openai.audio.transcriptions.create({ ...base, response_format: 'srt' });
    assert.match(srt, /^1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n/);
    assert.match(await openai.audio.transcriptions.create({ ...base, response_format: 'vtt' }), /^WEBVTT\n\n\d\d:\d\d\.\d{3} --> /);
    const verbose = await openai.audio.transcriptions.create({ ...base, response_format: 'verbose_json', timestamp_granularities: ['word', 'segment'], language: 'de' });
    assert.equal(verbose.task, 'transcribe');
    assert.equal(verbose.language, 'german');
    assert.equal(verbose.duration, g.n / 16000);
    assert.ok(verbose.words.length > 0 && verbose.segments[0].tokens.length > 0 && verbose.segments[0].id === 0);
    const translated = await openai.audio.translations.create({ ...base, response_format: 'verbose_json' });
    assert.equal(translated.task, 'translate');
    await assert.rejects(openai.audio.transcriptions.create({ ...base, response_format: 'xml' }), (e) => e.status === 400 && e.param === 'response_format');
    await assert.rejects(openai.audio.transcriptions.create({ ...base, model: '@cf/selvedge/tiny-chat' }), (e) => e.status === 400 || e.status === 404);
    await assert.rejects(openai.audio.transcriptions.create({ ...base, timestamp_granularities: ['word'] }), (e) => e.status === 400 && /verbose_json/.test(e.message));
  });

  await test('refusals name what is wrong', async () => {
    refused(await p.run(TURBO, {}), 400, 5006, /audio/);
    refused(await p.run(TURBO, { audio: '' }), 400, 5006, /'\/audio' is empty/);
    refused(await p.run(TURBO, { audio: '!!' }), 400, 5006, /'\/audio' is no base64/);
    refused(await p.run(WHISPER, { audio: [1, 256] }), 400, 5006, /number 1 is none/);
    refused(await p.run(WHISPER, { audio: 7 }), 400, 5006, /Type mismatch of '\/audio'/);
    refused(await p.run(WHISPER, { audio: [...sound], target_lang: 'fr' }), 400, 5006, /English only/);
    refused(await p.run(TURBO, { audio: sound.toString('base64'), beam_size: 9 }), 400, 5006, /beam_size/);
    refused(await p.run(TURBO, { audio: sound.toString('base64'), language: 'klingon' }), 400, 5006, /'klingon' is none of the model's 4 languages/);
    refused(await raw(WHISPER, Buffer.from('this is no sound at all, not by any reading of it')), 400, 5006, /audio: .*no known form/);
    refused(await raw(WHISPER, sound.subarray(0, 1000)), 400, 5006, /header says 166000 bytes of sound, and 956 are there/);
    const long = wav(0, 1, 1000), silence = Buffer.alloc(9_000_000 * 2 / 2);
    long.writeUInt32LE(silence.length, 40);
    long.writeUInt16LE(1, 32); long.writeUInt16LE(8, 34);
    refused(await raw(WHISPER, Buffer.concat([long, silence])), 413, 3006, /9000 seconds, and 7200 are the most/);
    refused(await raw(WHISPER, Buffer.alloc(11 << 20, 82)), 413, 3006, /too large/);
    refused(await raw('@cf/selvedge/tiny-chat', sound), 400, 5006, /no binary input/);
  });

  await test('FLAC, MP3, Opus and M4A are heard', async () => {
    const files = { '1272-141231-0002.flac': 13.335, 'jfk.mp3': 11, 'vad/test.opus': 8.064, 'test.m4a': 6.44 };
    if (!fs.existsSync(path.join(shared, 'audio'))) skip('no shared data');
    for (const [name, seconds] of Object.entries(files)) {
      const r = await p.run(TURBO, { audio: fs.readFileSync(path.join(shared, 'audio', name)).toString('base64'), ...plain });
      assert.equal(r.status, 200, r.text);
      assert.ok(Math.abs(r.json.result.transcription_info.duration - seconds) < 0.03, name);
    }
  });

  await test('schemas, prices and meters know recordings', async () => {
    const schema = (await p.api('GET', `/accounts/:account/ai/models/schema?model=${TURBO}`)).json.result;
    assert.equal(schema.input.properties.beam_size.default, 5);
    const found = (await p.api('GET', '/accounts/:account/ai/models/search?search=whisper-large')).json.result[0];
    assert.equal(found.task.name, 'Automatic Speech Recognition');
    assert.equal(found.properties.find((x) => x.property_id === 'price').value[0].unit, 'per audio minute');
    const metrics = await (await request({ port: p.port, path: '/metrics' })).text();
    assert.ok(Number(/selvedge_ai_neurons_total\{model="@cf\/openai\/whisper"\} (\S+)/.exec(metrics)[1]) > 0);
  });
}
