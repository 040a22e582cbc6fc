/**
 * A chat in one Worker: the page in public/ posts the conversation to /api/chat, this streams the model's answer back.
 * It is written for Cloudflare Workers AI and runs unchanged on both.
 */
interface Env {
  AI: { run(model: string, input: object): Promise<ReadableStream<Uint8Array>> };
  MODEL: string;
}

interface Message {
  role: "user" | "assistant";
  content: string;
}

const SYSTEM = "You are a friendly assistant on Selvedge. Answer in one to three short sentences.";

/** Turns the model's events into plain text: `data: {"response":"Hel"}` becomes `Hel`. */
function textOf(): TransformStream<Uint8Array, Uint8Array> {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let rest = "";
  return new TransformStream({
    transform(chunk, controller) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (!line.startsWith("data: {")) continue;
        const event = JSON.parse(line.slice(6)) as { response?: string; error?: { message: string } };
        if (event.error) throw new Error(event.error.message);
        if (event.response) controller.enqueue(encoder.encode(event.response));
      }
    },
  });
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname !== "/api/chat") return new Response("Not found\n", { status: 404 });
    if (request.method !== "POST") return new Response("POST a conversation\n", { status: 405, headers: { allow: "POST" } });

    let messages: Message[];
    try {
      ({ messages } = (await request.json()) as { messages: Message[] });
      if (!Array.isArray(messages) || messages.length === 0) throw new TypeError("messages is empty");
    } catch (error) {
      return new Response(`Want {"messages": [{"role": "user", "content": "..."}]}: ${error}\n`, { status: 400 });
    }
    try {
      const answer = await env.AI.run(env.MODEL, {
        messages: [{ role: "system", content: SYSTEM }, ...messages.slice(-6)],
        stream: true,
        temperature: 0,
        max_tokens: 200,
      });
      return new Response(answer.pipeThrough(textOf()), {
        headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" },
      });
    } catch (error) {
      return new Response(`${error}\n`, { status: 502 });
    }
  },
};
