// The example as `make run` deploys it: TypeScript, a TransformStream between model and page, static assets
import assert from 'node:assert/strict';
import path from 'node:path';
import { root } from '../harness.mjs';

export async function run(test, p) {
  await test('examples/chat is deployed by stock wrangler as it is', async () => {
    const r = await p.wrangler(path.join(root, 'examples/chat'), ['deploy']);
    assert.equal(r.code, 0, r.all);
    assert.match(r.all, /chat/);
  });

  await test('its page and script are served', async () => {
    const page = await p.worker('chat', '/');
    assert.equal(page.status, 200);
    assert.match(page.headers['content-type'], /^text\/html/);
    assert.match(await page.text(), /<title>Selvedge chat/);
    const script = await p.worker('chat', '/chat.js');
    assert.match(script.headers['content-type'], /javascript/);
    await script.text();
    assert.equal((await p.worker('chat', '/nothing-here')).status, 404);
  });

  await test('it streams an answer token by token', async () => {
    const r = await p.worker('chat', '/api/chat', { method: 'POST', body: JSON.stringify({ messages: [{ role: 'user', content: 'What is Selvedge?' }] }) });
    assert.equal(r.status, 200);
    let pieces = 0, text = '';
    for await (const d of r.stream) { pieces++; text += d; }
    assert.ok(pieces > 3, `${pieces} pieces`);
    assert.match(text, /Selvedge|machine|Worker/i);
  });

  await test('it refuses nonsense with a sentence', async () => {
    const r = await p.worker('chat', '/api/chat', { method: 'POST', body: '{"messages":[]}' });
    assert.equal(r.status, 400);
    assert.match(await r.text(), /messages/);
  });
}
