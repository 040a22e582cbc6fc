// encoder.mjs - BERT-base with random weights beside onnxruntime (SV_PEERS_PYTHON names a Python that has onnx and onnxruntime)
//
// The same weights on both sides, random ones: speed does not depend on them. Ours as float32 and as bf16 on disk; theirs as float32 and as int8.
import fs from 'node:fs';
import path from 'node:path';
import { command, root } from '../tests/harness.mjs';
import { ROUNDS, make, report } from './report.mjs';

const BERT = { hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, intermediate_size: 3072, max_position_embeddings: 512, vocab_size: 30522, type_vocab_size: 2 };
const CASES = process.env.BENCH_CASES?.split(' ') ?? [32, 128, 512].flatMap((n) => [1, 8, 32].map((b) => `${n}x${b}`)); // TOKENSxBATCH

function shapes({ hidden_size: d, num_hidden_layers, intermediate_size: f, max_position_embeddings, vocab_size, type_vocab_size }) {
  const all = [['embeddings.word_embeddings.weight', [vocab_size, d]], ['embeddings.position_embeddings.weight', [max_position_embeddings, d]],
    ['embeddings.token_type_embeddings.weight', [type_vocab_size, d]]];
  const dense = (name, from, to) => all.push([`${name}.weight`, [to, from]], [`${name}.bias`, [to]]);
  const norm = (name) => all.push([`${name}.weight`, [d]], [`${name}.bias`, [d]]);
  norm('embeddings.LayerNorm');
  for (let i = 0; i < num_hidden_layers; i++) {
    const p = `encoder.layer.${i}.`;
    for (const n of ['query', 'key', 'value']) dense(`${p}attention.self.${n}`, d, d);
    dense(`${p}attention.output.dense`, d, d);
    norm(`${p}attention.output.LayerNorm`);
    dense(`${p}intermediate.dense`, d, f);
    dense(`${p}output.dense`, f, d);
    norm(`${p}output.LayerNorm`);
  }
  return all;
}

// A Hugging Face folder; type 'F32' or 'BF16', whose bits are the upper half of the same numbers.
function write_model(folder, type) {
  if (fs.existsSync(path.join(folder, 'tokenizer.json'))) return folder;
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ model_type: 'bert', architectures: ['BertModel'], hidden_act: 'gelu', layer_norm_eps: 1e-12, ...BERT }));
  const width = type === 'F32' ? 4 : 2, head = {};
  let at = 0;
  for (const [name, shape] of shapes(BERT)) {
    const n = shape.reduce((a, b) => a * b) * width;
    head[name] = { dtype: type, shape, data_offsets: [at, at + n] };
    at += n;
  }
  let text = JSON.stringify(head);
  text += ' '.repeat((8 - text.length % 8) % 8);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  const fd = fs.openSync(path.join(folder, 'model.safetensors'), 'w');
  fs.writeSync(fd, start);
  fs.writeSync(fd, text);
  let s = 1;
  for (const [name, shape] of shapes(BERT)) {
    const x = new Float32Array(shape.reduce((a, b) => a * b));
    const norm = name.includes('LayerNorm.weight');
    for (let i = 0; i < x.length; i++) {
      s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
      x[i] = (s / 2 ** 32 - 0.5) * 0.1 + (norm ? 1 : 0);
    }
    fs.writeSync(fd, type === 'F32' ? Buffer.from(x.buffer) : Buffer.from(Uint16Array.from(new Uint32Array(x.buffer), (b) => b >>> 16).buffer));
  }
  fs.closeSync(fd);
  const vocab = Object.fromEntries(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...Array.from({ length: 100 }, (_, i) => `w${i}`)].map((w, i) => [w, i]));
  fs.writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify({ version: '1.0', added_tokens: [], normalizer: null, pre_tokenizer: { type: 'BertPreTokenizer' }, decoder: null,
    post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '[CLS]', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '[SEP]', type_id: 0 } }],
      pair: [{ SpecialToken: { id: '[CLS]', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '[SEP]', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } },
        { SpecialToken: { id: '[SEP]', type_id: 1 } }],
      special_tokens: { '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] }, '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] } } },
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab } }));
  return folder;
}

async function lines(argv) {
  const r = await command(argv, { limit_ms: 1_800_000 });
  if (r.code !== 0) throw new Error(`${argv[0]}: ${r.all.slice(-2000)}`);
  return r.out.trim().split('\n').map((l) => JSON.parse(l));
}

export async function encoder_cases() {
  await make('encoder_bench');
  const exe = path.join(root, 'build/bench/encoder_bench');
  const f32 = write_model(path.join(root, 'build/bench-bert/f32'), 'F32'), bf16 = write_model(path.join(root, 'build/bench-bert/bf16'), 'BF16');
  const python = process.env.SV_PEERS_PYTHON;
  if (!python) console.log('onnxruntime is absent (SV_PEERS_PYTHON names a Python that has it)');
  for (const threads of [1, 2]) {
    const ours = { f32: {}, bf16: {} }, theirs = {};
    for (let round = 0; round < ROUNDS; round++) {
      for (const [kind, folder] of [['bf16', bf16], ['f32', f32]])
        for (const r of await lines([exe, folder, String(threads), ...CASES])) (ours[kind][`${r.tokens}x${r.batch}`] ??= []).push(r.per_s);
      if (python)
        for (const r of await lines([python, path.join(root, 'bench/encoder_peers.py'), f32, String(threads), ...CASES])) ((theirs[`${r.tokens}x${r.batch}`] ??= {})[`onnxruntime ${r.kind}`] ??= []).push(r.per_s);
    }
    for (const c of CASES)
      for (const kind of ['bf16', 'f32'])
        report(`encoder/BERT-base ${kind}/${c}/${threads} thread${threads > 1 ? 's' : ''}`, 'texts/s', ours[kind][c], { peers: theirs[c] ?? {}, goal: kind === 'bf16' ? 'goal: ratio 2' : '' });
  }
}
