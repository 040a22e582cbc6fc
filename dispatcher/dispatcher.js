// dispatcher.js - stands beside a user's Worker in its process and calls what no HTTP request can: queue() and scheduled()
//
// The daemon posts an event to the socket that belongs to this dispatcher alone; the answer is what workerd says of the handler. A body that
// claims to be JSON and is not is given as the text it is: better a consumer that looks than a message that can never be delivered.
const text = new TextDecoder();
const bytes = (s) => Uint8Array.fromBase64(s);

const bodies = {
  json: (b) => { const t = text.decode(bytes(b)); try { return { body: JSON.parse(t) }; } catch { return { body: t }; } },
  text: (b) => ({ body: text.decode(bytes(b)) }),
  bytes: (b) => ({ body: bytes(b).buffer }),
  v8: (b) => ({ serializedBody: bytes(b).buffer }),
};

const events = {
  '/queue': (user, e) => user.queue(e.queue, e.messages.map(({ id, timestamp, attempts, type, body }) =>
    ({ id, timestamp: new Date(timestamp), attempts, ...bodies[type](body) })), e.metadata),
  '/scheduled': (user, e) => user.scheduled({ scheduledTime: new Date(e.scheduledTime), cron: e.cron }),
};

export default {
  async fetch(request, env) {
    try {
      const event = events[new URL(request.url).pathname];
      return event ? Response.json(await event(env.USER, await request.json())) : new Response(null, { status: 404 });
    } catch (e) {
      return Response.json({ error: String(e) }, { status: 500 });
    }
  },
};
