// Image classification and object detection: import, REST with the raw body and with JSON, Cloudflare's SDK, the binding of a deployed Worker; and files that are no pictures
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import Cloudflare from 'cloudflare';
import { request, root, shared, skip, temp_dir, write_files } from '../harness.mjs';

const RESNET = '@cf/microsoft/resnet-50', DETR = '@cf/facebook/detr-resnet-50', REAL = 'torchvision/mobilenet-v2';
const image = (name) => fs.readFileSync(path.join(root, 'tests/reference/images', name));

// What an application does: an upload is classified as it comes, a link of the form becomes bytes.
const worker = `export default { async fetch(request, env) {
  const model = request.headers.get('x-model'), how = request.headers.get('x-how');
  try {
    if (how === 'stream') return Response.json(await env.AI.run(model, { image: { body: request.body, contentType: 'image/jpeg' } }));
    const bytes = new Uint8Array(await request.arrayBuffer());
    return Response.json(await env.AI.run(model, { image: how === 'spread' ? [...bytes] : bytes }));
  } catch (e) { return Response.json({ name: e.name, message: e.message }, { status: 400 }); }
} };`;

export async function run(test, p) {
  const cloudflare = new Cloudflare({ baseURL: p.base.replace('localhost', '127.0.0.1'), apiToken: p.token, maxRetries: 0 });
  const raw = async (model, body, type = 'application/octet-stream') => {
    const r = await request({ port: p.port, method: 'POST', path: `/client/v4/accounts/${p.account}/ai/run/${model}`, headers: { authorization: `Bearer ${p.token}`, 'content-type': type }, body });
    return { status: r.status, json: JSON.parse(await r.text()) };
  };
  const ask_worker = (model, how, body) => p.worker('pictures', '/', { method: 'POST', headers: { 'x-model': model, 'x-how': how }, body });
  const import_folder = (folder, id) => p.cli(['models', 'import', folder, '--as', id]);
  const jpeg = image('turned-6.jpg');

  if (!await test('models import says what each folder is', async () => {
    const a = await import_folder(path.join(root, 'tests/reference/vision/resnet-bottleneck'), RESNET);
    assert.equal(a.code, 0, a.all);
    assert.match(a.out, /a picture classifier \(resnet, .*\), for Image Classification/);
    const b = await import_folder(path.join(root, 'tests/reference/vision/detr'), DETR);
    assert.match(b.out, /a detector of objects \(detr, .*\), for Object Detection/, b.all);
    const wrong = await import_folder(path.join(root, 'tests/reference/vision/detr'), RESNET);
    assert.equal(wrong.code, 1);
    assert.match(wrong.err, /for Object Detection; @cf\/microsoft\/resnet-50 is a model for Image Classification/);
  })) return;

  let want;
  await test('the raw body, a list of bytes, base64 and a data URI have one answer: five labels with scores', async () => {
    const r = await raw(RESNET, jpeg);
    assert.equal(r.status, 200, JSON.stringify(r.json));
    assert.equal(r.json.success, true);
    want = r.json.result;
    assert.equal(want.length, 5);
    want.forEach((h, i) => {
      assert.deepEqual(Object.keys(h).sort(), ['label', 'score']);
      assert.ok(h.score > 0 && (i === 0 || h.score <= want[i - 1].score));
    });
    assert.deepEqual((await raw(RESNET, jpeg, 'image/jpeg')).json.result, want);
    for (const form of [[...jpeg], jpeg.toString('base64'), `data:image/jpeg;base64,${jpeg.toString('base64')}`])
      assert.deepEqual((await p.run(RESNET, { image: form })).json.result, want);
    assert.deepEqual(await cloudflare.ai.run(RESNET, { account_id: p.account, image: [...jpeg] }), want);
  });

  await test('every format is read, and EXIF turns the picture upright', async () => {
    for (const name of ['turned-6.png', 'lossy.webp', 'plain.gif', 'mode-RGB.bmp', 'progressive.jpg', 'cmyk.jpg', 'moving.webp']) {
      const r = await raw(RESNET, image(name));
      assert.equal(r.status, 200, `${name}: ${JSON.stringify(r.json)}`);
      assert.equal(r.json.result.length, 5);
    }
    assert.notDeepEqual((await raw(RESNET, image('turned-1.jpg'))).json.result, want);
  });

  await test('object detection: labels, scores, boxes in pixels', async () => {
    const r = await raw(DETR, image('sub-0.jpg'));
    assert.equal(r.status, 200, JSON.stringify(r.json));
    assert.ok(Array.isArray(r.json.result));
    for (const h of r.json.result) {
      assert.deepEqual(Object.keys(h).sort(), ['box', 'label', 'score']);
      assert.ok(h.score >= 0.5 && h.box.xmin < h.box.xmax && h.box.ymin < h.box.ymax);
    }
  });

  await test('a deployed Worker: spread bytes, a Uint8Array, and an upload streamed through', async () => {
    const dir = write_files(temp_dir('pictures'), { 'wrangler.jsonc': { name: 'pictures', main: 'index.js', compatibility_date: '2026-04-01', ai: { binding: 'AI' } }, 'index.js': worker });
    const r = await p.wrangler(dir, ['deploy']);
    assert.equal(r.code, 0, r.all);
    fs.rmSync(dir, { recursive: true });
    for (const how of ['spread', 'array', 'stream']) {
      const a = await ask_worker(RESNET, how, jpeg);
      assert.equal(a.status, 200, `${how}: ${await a.clone?.().text?.()}`);
      assert.deepEqual(await a.json(), want, how);
    }
    const bad = await ask_worker(RESNET, 'spread', 'no picture');
    assert.equal(bad.status, 400);
    assert.match((await bad.json()).message, /^5006: .*begin like no JPEG/);
  });

  await test('what is no picture is refused in words, and the engine goes on', async () => {
    const refused = (r, status, code, says) => {
      assert.equal(r.status, status, JSON.stringify(r.json));
      assert.equal(r.json.errors[0].code, code);
      assert.match(r.json.errors[0].message, says);
    };
    refused(await raw(RESNET, 'no picture'), 400, 5006, /begin like no JPEG, PNG, WebP, GIF or BMP/);
    refused(await raw(RESNET, jpeg.subarray(0, 300)), 400, 5006, /JPEG image/);
    refused(await raw(RESNET, Buffer.from('474946383961ffffffff0000002c00000000ffffffff000202', 'hex')), 413, 3006, /65535 x 65535/);
    refused(await p.run(RESNET, {}), 400, 5006, /required properties at '\/' are 'image'/);
    refused(await p.run(RESNET, { image: [1, 300] }), 400, 5006, /'\/image\/1' must be an integer from 0 to 255/);
    refused(await p.run(RESNET, { image: '*' }), 400, 5004, /no base64/);
    refused(await p.run(RESNET, { image: 'https://example.com/cat.jpg' }), 400, 5006, /nothing is fetched/);
    refused(await raw(RESNET, Buffer.alloc(11 << 20, 120)), 413, 3006, /./);
    assert.deepEqual((await raw(RESNET, jpeg)).json.result, want);
  });

  await test('hostile files of the shared data: an answer or a refusal each, and the same engine after', async () => {
    const folders = ['images/jpeg-crash', 'images/jpeg-crash/imagetestsuite', 'images/bad/bmp', 'images/bad/ico', 'images/bad/tiff'].map((f) => path.join(shared, f));
    if (!fs.existsSync(folders[0])) skip('no shared data');
    const files = folders.flatMap((f) => fs.readdirSync(f).map((n) => path.join(f, n))).filter((f) => fs.statSync(f).isFile() && fs.statSync(f).size > 0);
    const codes = {};
    for (const f of files) {
      const r = await raw(RESNET, fs.readFileSync(f));
      assert.ok(r.status === 200 || ((r.status === 400 || r.status === 413) && [5006, 3006].includes(r.json.errors[0].code)), `${f}: ${JSON.stringify(r.json)}`);
      codes[r.status] = (codes[r.status] ?? 0) + 1;
    }
    assert.ok(codes[400] > 40 && codes[413] > 0, JSON.stringify(codes));
    assert.deepEqual((await raw(RESNET, jpeg)).json.result, want);
  });

  await test('MobileNetV2 with its real weights names what is on the photos', async () => {
    const weights = path.join(shared, 'models/mobilenet-v2/mobilenet_v2.safetensors');
    if (!fs.existsSync(weights)) skip('no shared data');
    const names = fs.readFileSync(path.join(shared, 'images/photos/imagenet1000_clsidx_to_labels.txt'), 'utf8');
    const id2label = Object.fromEntries([...names.matchAll(/(\d+): ['"](.*)['"],?/g)].map((m) => [m[1], m[2]]));
    assert.equal(Object.keys(id2label).length, 1000);
    const dir = write_files(temp_dir('mobilenet'), { 'config.json': { model_type: 'mobilenet_v2', id2label } });
    fs.copyFileSync(weights, path.join(dir, 'model.safetensors'));
    const r = await import_folder(dir, REAL);
    assert.equal(r.code, 0, r.all);
    fs.rmSync(dir, { recursive: true });
    const best = { 'pineapple.jpg': /^pineapple/, 'wolves.jpg': /^white wolf/, 'cats.jpg': /^tabby/, 'bus.jpg': /^minibus/, 'bike.jpg': /^mountain bike/ };
    await Promise.all(Object.entries(best).map(async ([name, label]) => { // at once: they take turns
      const a = await raw(REAL, fs.readFileSync(path.join(shared, 'images/photos', name)), 'image/jpeg');
      assert.equal(a.status, 200, JSON.stringify(a.json));
      assert.match(a.json.result[0].label, label);
      assert.equal(a.json.result.length, 5);
    }));
  });

  await test('models/search lists the tasks', async () => {
    const found = (await p.api('GET', '/accounts/:account/ai/models/search?task=Image%20Classification')).json.result;
    assert.ok(found.some((m) => m.name === RESNET && m.task.name === 'Image Classification'));
    const schema = (await p.api('GET', `/accounts/:account/ai/models/schema?model=${DETR}`)).json.result;
    assert.equal(schema.output.items.properties.box.properties.xmin.type, 'number');
  });
}
