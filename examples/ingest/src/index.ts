/**
 * A pipeline that arrivals set in motion: a file that comes into the bucket (by S3, by wrangler, or by PUT /inbox/NAME here) puts a message on a
 * queue, the queue calls this Worker, a model reads the file, and what it makes of it is kept in KV: GET /results/NAME.
 * It is written for Cloudflare (R2, Queues, Workers AI, KV) and runs unchanged on both.
 *
 * A queue delivers at least once. So a result is kept under the name and the ETag of what it was made from: a second delivery finds it and is done,
 * and a file that was replaced meanwhile is read anew.
 */
interface Arrival {
  action: string;
  object: { key: string; size?: number; eTag?: string };
}

interface Message {
  body: Arrival;
  attempts: number;
  ack(): void;
  retry(options?: { delaySeconds: number }): void;
}

interface Stored {
  etag: string;
  size: number;
  text(): Promise<string>;
}

interface Env {
  AI: { run(model: string, input: object): Promise<{ response: string }> };
  INBOX: { get(key: string): Promise<Stored | null>; put(key: string, value: ReadableStream | null): Promise<{ key: string; etag: string } | null> };
  RESULTS: {
    get(key: string, type: "json"): Promise<{ etag: string } | null>;
    put(key: string, value: string): Promise<void>;
    list(options: { prefix: string }): Promise<{ keys: { name: string }[] }>;
  };
  MODEL: string;
}

const MAX_CHARS = 1000; // of a file that the model reads
const json = (body: unknown, status = 200) => Response.json(body, { status });

async function digest(key: string, env: Env): Promise<void> {
  const file = await env.INBOX.get(key);
  if (!file) return; // it was deleted again
  if ((await env.RESULTS.get(key, "json"))?.etag === file.etag) return;
  const text = (await file.text()).slice(0, MAX_CHARS);
  const { response } = await env.AI.run(env.MODEL, { messages: [{ role: "user", content: text }], max_tokens: 64, temperature: 0 });
  await env.RESULTS.put(key, JSON.stringify({ etag: file.etag, size: file.size, response }));
}

export default {
  async queue(batch: { messages: Message[] }, env: Env): Promise<void> {
    for (const message of batch.messages) {
      try {
        if (!message.body.action.startsWith("Delete") && !message.body.action.startsWith("Lifecycle")) await digest(message.body.object.key, env);
        message.ack();
      } catch (e) {
        console.error(`${message.body.object?.key}: ${e}`);
        message.retry({ delaySeconds: Math.min(2 ** message.attempts, 300) });
      }
    }
  },

  async fetch(request: Request, env: Env): Promise<Response> {
    const [, where, ...rest] = new URL(request.url).pathname.split("/");
    const key = decodeURIComponent(rest.join("/"));
    if (request.method === "PUT" && where === "inbox" && key) {
      const put = await env.INBOX.put(key, request.body);
      return json(put && { key: put.key, etag: put.etag }, 201);
    }
    if (request.method === "GET" && where === "results") {
      const result = key ? await env.RESULTS.get(key, "json") : (await env.RESULTS.list({ prefix: "" })).keys.map((k) => k.name);
      return result ? json(result) : json({ error: `nothing was made of '${key}' yet` }, 404);
    }
    return new Response("PUT /inbox/NAME brings a file, GET /results/NAME shows what became of it, GET /results lists.\n", { status: where ? 404 : 200 });
  },
};
