/**
 * Notes that answer questions: POST /notes keeps texts, GET /ask?q=... finds those that are nearest to a question and has a model answer from them.
 * It is written for Cloudflare (Workers AI and Vectorize) and runs unchanged on both.
 *
 * Keeping a note returns when it can be found: Vectorize takes changes in asynchronously, and says up to which one an index has come.
 */
interface Match {
  id: string;
  score: number;
  metadata?: { text: string };
}

interface Env {
  AI: { run(model: string, input: object): Promise<any> };
  NOTES: {
    upsert(vectors: { id: string; values: number[]; metadata: { text: string } }[]): Promise<{ mutationId: string }>;
    query(vector: number[], options: { topK: number; returnMetadata: "all" }): Promise<{ matches: Match[] }>;
    describe(): Promise<{ processedUpToMutation?: string | number }>;
    deleteByIds(ids: string[]): Promise<{ mutationId: string }>;
  };
  EMBEDDER: string;
  MODEL: string;
}

const NEAREST = 3;
const BATCH = 100; // texts of one call of an embedder

const json = (body: unknown, status = 200) => Response.json(body, { status });

/** The same text is the same note. */
async function idOf(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(hash).slice(0, 16)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

async function embed(env: Env, texts: string[]): Promise<number[][]> {
  const { data } = (await env.AI.run(env.EMBEDDER, { text: texts, pooling: "cls" })) as { data: number[][] };
  return data;
}

async function untilFound(env: Env, mutationId: string): Promise<void> {
  for (let wait = 5; wait < 5000; wait *= 2) {
    if (String((await env.NOTES.describe()).processedUpToMutation) === mutationId) return;
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function keep(request: Request, env: Env): Promise<Response> {
  const { notes } = (await request.json()) as { notes?: unknown };
  if (!Array.isArray(notes) || !notes.every((n) => typeof n === "string" && n.trim())) return json({ error: 'want {"notes": ["...", ...]}' }, 400);
  const ids: string[] = [];
  let mutationId = "";
  for (let i = 0; i < notes.length; i += BATCH) {
    const texts = notes.slice(i, i + BATCH) as string[];
    const vectors = await embed(env, texts);
    const entries = await Promise.all(texts.map(async (text, k) => ({ id: await idOf(text), values: vectors[k], metadata: { text } })));
    ids.push(...entries.map((e) => e.id));
    ({ mutationId } = await env.NOTES.upsert(entries));
  }
  if (mutationId) await untilFound(env, mutationId);
  return json({ ids });
}

async function ask(question: string, env: Env): Promise<Response> {
  const [vector] = await embed(env, [question]);
  const { matches } = await env.NOTES.query(vector, { topK: NEAREST, returnMetadata: "all" });
  const found = matches.map((m) => m.metadata?.text ?? "").filter(Boolean);
  if (found.length === 0) return json({ answer: "There are no notes yet.", notes: [] });
  const { response } = (await env.AI.run(env.MODEL, {
    messages: [{ role: "user", content: `Context:\n${found.join("\n")}\n\nQuestion: ${question}` }],
    temperature: 0,
    max_tokens: 100,
  })) as { response: string };
  return json({ answer: response.trim(), notes: matches.map((m) => ({ id: m.id, score: m.score, text: m.metadata?.text })) });
}

const HELP = `Notes that answer questions.
  curl -d '{"notes": ["The bakery in Elm Street opens at 7."]}' URL/notes
  curl 'URL/ask?q=When+does+the+bakery+open'
`;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    try {
      if (url.pathname === "/notes" && request.method === "POST") return await keep(request, env);
      if (url.pathname === "/ask" && url.searchParams.get("q")) return await ask(url.searchParams.get("q")!, env);
      return new Response(HELP.replaceAll("URL", url.origin), { status: url.pathname === "/" ? 200 : 404 });
    } catch (error) {
      return json({ error: String(error) }, 502); // an embedder that is not here says how to import it
    }
  },
};
