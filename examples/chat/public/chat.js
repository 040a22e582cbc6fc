// The page: keeps the conversation, posts it, shows the tokens as they come.
const log = document.getElementById("log");
const form = document.getElementById("form");
const text = document.getElementById("text");
const speed = document.getElementById("speed");
const button = form.querySelector("button");
const messages = [];

function turn(role, content) {
  const div = document.createElement("div");
  div.className = `turn ${role}`;
  div.textContent = content;
  log.append(div);
  log.scrollTop = log.scrollHeight;
  return div;
}

async function ask(question) {
  messages.push({ role: "user", content: question });
  turn("user", question);
  const bubble = turn("assistant", "");
  bubble.classList.add("busy");
  const started = performance.now();
  let first = 0;
  try {
    const response = await fetch("/api/chat", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages }),
    });
    if (!response.ok) throw new Error(await response.text());
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      first ||= performance.now() - started;
      bubble.textContent += value;
      log.scrollTop = log.scrollHeight;
    }
    messages.push({ role: "assistant", content: bubble.textContent });
    speed.textContent = `first text after ${first.toFixed(0)} ms, all of it after ${(performance.now() - started).toFixed(0)} ms`;
  } catch (error) {
    bubble.classList.add("error");
    bubble.textContent += String(error.message ?? error);
  } finally {
    bubble.classList.remove("busy");
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = text.value.trim() || text.placeholder;
  text.value = "";
  button.disabled = true;
  await ask(question);
  button.disabled = false;
  text.focus();
});
