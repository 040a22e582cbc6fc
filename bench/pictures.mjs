// pictures.mjs - ResNet-50 with random weights beside onnxruntime (SV_PEERS_PYTHON names a Python that has onnx and onnxruntime)
//
// One picture of 224 x 224 at a time, the same weights on both sides, random ones: speed does not depend on them. CPU milliseconds are what all threads together
// used, which other load on the machine moves less than the clock on the wall.
import fs from 'node:fs';
import path from 'node:path';
import { command, root } from '../tests/harness.mjs';
import { ROUNDS, make, report } from './report.mjs';

const RESNET50 = { model_type: 'resnet', architectures: ['ResNetForImageClassification'], layer_type: 'bottleneck', embedding_size: 64, hidden_sizes: [256, 512, 1024, 2048],
  depths: [3, 4, 6, 3], hidden_act: 'relu', num_labels: 1000 };

function shapes({ embedding_size, hidden_sizes, depths, num_labels }) {
  const all = [];
  const conv = (name, from, to, k) => {
    all.push([`${name}.convolution.weight`, [to, from, k, k]]);
    for (const leaf of ['weight', 'bias', 'running_mean', 'running_var']) all.push([`${name}.normalization.${leaf}`, [to]]);
  };
  conv('resnet.embedder.embedder', 3, embedding_size, 7);
  let from = embedding_size;
  depths.forEach((depth, stage) => {
    for (let i = 0; i < depth; i++) {
      const p = `resnet.encoder.stages.${stage}.layers.${i}.`, to = hidden_sizes[stage];
      if (i === 0) conv(`${p}shortcut`, from, to, 1);
      conv(`${p}layer.0`, from, to / 4, 1);
      conv(`${p}layer.1`, to / 4, to / 4, 3);
      conv(`${p}layer.2`, to / 4, to, 1);
      from = to;
    }
  });
  all.push(['classifier.1.weight', [num_labels, from]], ['classifier.1.bias', [num_labels]]);
  return all;
}

function write_model(folder) {
  if (fs.existsSync(path.join(folder, 'config.json'))) return folder;
  fs.mkdirSync(folder, { recursive: true });
  const head = {}, list = shapes(RESNET50);
  let at = 0, s = 1;
  for (const [name, shape] of list) {
    const n = shape.reduce((a, b) => a * b) * 4;
    head[name] = { dtype: 'F32', shape, data_offsets: [at, at + n] };
    at += n;
  }
  let text = JSON.stringify(head);
  text += ' '.repeat((8 - text.length % 8) % 8);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  const fd = fs.openSync(path.join(folder, 'model.safetensors'), 'w');
  fs.writeSync(fd, start);
  fs.writeSync(fd, text);
  for (const [name, shape] of list) {
    const x = new Float32Array(shape.reduce((a, b) => a * b)), fan = shape.slice(1).reduce((a, b) => a * b, 1);
    const one = /normalization\.(weight|running_var)$/.test(name), by = shape.length > 1 ? Math.sqrt(6 / fan) : 0.1;
    for (let i = 0; i < x.length; i++) {
      s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
      x[i] = (s / 2 ** 32 - 0.5) * 2 * by + (one ? 1 : 0);
    }
    fs.writeSync(fd, Buffer.from(x.buffer));
  }
  fs.closeSync(fd);
  fs.writeFileSync(path.join(folder, 'config.json'), JSON.stringify(RESNET50));
  return folder;
}

async function line(argv) {
  const r = await command(argv, { limit_ms: 1_800_000 });
  if (r.code !== 0) throw new Error(`${argv[0]}: ${r.all.slice(-2000)}`);
  return r.out.trim().split('\n').map((l) => JSON.parse(l));
}

export async function picture_cases() {
  await make('picture_bench');
  const exe = path.join(root, 'build/bench/picture_bench'), folder = write_model(path.join(root, 'build/bench-resnet50'));
  const python = process.env.SV_PEERS_PYTHON;
  for (const threads of [1, 2]) {
    const ours = [], cpu = [], peers = {}, peers_cpu = {};
    for (let i = 0; i < ROUNDS; i++) {
      const [o] = await line([exe, folder, String(threads)]);
      ours.push(o.ms);
      cpu.push(o.cpu_ms);
      for (const t of python ? await line([python, path.join(root, 'bench/picture_peers.py'), folder, String(threads)]) : []) {
        (peers[`onnxruntime ${t.type}`] ??= []).push(t.ms);
        (peers_cpu[`onnxruntime ${t.type}`] ??= []).push(t.cpu_ms);
      }
    }
    const note = python ? '' : 'no peer: SV_PEERS_PYTHON is not set';
    report(`pictures: ResNet-50, float32, ${threads} thread${threads > 1 ? 's' : ''}`, 'ms', ours, { peers, lower: true, note });
    report(`pictures: ResNet-50, float32, ${threads} thread${threads > 1 ? 's' : ''}, CPU`, 'ms', cpu, { peers: peers_cpu, lower: true });
  }
}
