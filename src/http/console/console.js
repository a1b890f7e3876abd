// What the admin pages do beyond showing: they follow the service, and send what is asked of it.
"use strict";

const NONE = "–";
const count = (number) => Math.round(number).toLocaleString("en");

/** Figures, written as the service writes them into a page. */
const FORMATS = {
  count,
  plain: String,
  ratio: (number) => number.toFixed(4),
  rate: (number) => (number >= 100 ? count(number) : number.toFixed(1)),
  bytes: (number) => {
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (number < 1000) return unit === "B" ? `${number} B` : `${number.toFixed(1)} ${unit}`;
      number /= 1000;
    }
    return `${number.toFixed(1)} TB`;
  },
  seconds: (number) => {
    if (number <= 0) return "0 s";
    if (number < 0.001) return `${(number * 1e6).toFixed(0)} µs`;
    if (number < 1) return `${(number * 1e3).toFixed(1)} ms`;
    if (number < 120) return `${number.toFixed(1)} s`;
    if (number < 7200) return `${(number / 60).toFixed(0)} min`;
    if (number < 172800) return `${(number / 3600).toFixed(1)} h`;
    return `${(number / 86400).toFixed(1)} d`;
  },
  moment: (at) => new Date(at).toISOString().slice(0, 19).replace("T", " "),
  ready: (ready, element) => {
    element.dataset.state = ready ? "good" : "bad";
    return ready ? "ready" : "not ready";
  },
  paused: (paused) => (paused ? "paused" : "under way"),
};

/** Writes the value at a path such as `learning.lag_entries` into an element. */
function write(element, path, values) {
  const value = path.split(".").reduce((within, name) => within?.[name], values);
  const text = value === null || value === undefined ? NONE : FORMATS[element.dataset.format](value, element);
  if (element.textContent !== text) element.textContent = text;
}

function say(output, state, text) {
  output.dataset.state = state;
  output.textContent = text;
}

/** Asks the service; what it refuses is an error in its own words. */
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The service does not answer.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(`${body.title ?? `The service answers ${answer.status}`}: ${body.detail ?? ""}`);
  return body;
}

// The service tells its status every second; what lies deeper is drawn anew every few of them.
const BEATS = 5;

/** Takes the parts marked `data-fresh` from the page as it would be now. */
async function freshen() {
  if (document.hidden || !document.querySelector("[data-fresh]") || document.querySelector("dialog[open]")) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const fresh = page.getElementById(old.id);
    // Nothing is taken from under somebody's hands, or while it says something.
    if (!fresh || old.contains(document.activeElement) || old.querySelector("output:not(:empty)")) continue;
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, place) => (details.open = open[place] ?? false));
    old.replaceWith(document.adoptNode(fresh));
  }
}

function follow() {
  const pulse = document.getElementById("pulse");
  const tell = (live) => {
    pulse.classList.toggle("live", live);
    const text = live ? "live" : "not live";
    if (pulse.lastElementChild.textContent !== text) pulse.lastElementChild.textContent = text;
  };
  let beats = 0;
  const stream = new EventSource("/admin/stream");
  stream.addEventListener("status", (event) => {
    const status = JSON.parse(event.data);
    if (!status.journal) return;
    tell(true);
    document.querySelectorAll("[data-live]").forEach((element) => write(element, element.dataset.live, status));
    beats += 1;
    if (beats % BEATS === 0) {
      freshen();
      fill();
    }
  });
  stream.addEventListener("error", () => tell(false));
  // A page that is left lets its place among the listeners go at once.
  addEventListener("pagehide", () => stream.close());
}

/** Fills what the page leaves to be asked for. */
async function fill() {
  const parts = [...document.querySelectorAll("[data-source]")];
  for (const path of new Set(parts.map((part) => part.dataset.source))) {
    const asked = ask(path);
    for (const part of parts.filter((part) => part.dataset.source === path)) {
      const output = part.querySelector("output");
      try {
        const values = await asked;
        if (output.textContent) say(output, "good", "");
        part.querySelectorAll("[data-field]").forEach((element) => write(element, element.dataset.field, values));
        part.querySelectorAll("[data-rows]").forEach((body) => rows(body, part.querySelector("template"), values[body.dataset.rows] ?? []));
      } catch (error) {
        say(output, "bad", error.message);
      }
    }
  }
}

function rows(body, template, list) {
  const made = list.map((values) => {
    const row = template.content.cloneNode(true);
    row.querySelectorAll("[data-field]").forEach((cell) => write(cell, cell.dataset.field, values));
    return row;
  });
  if (made.length === 0) {
    const row = document.createElement("tr");
    const cell = row.insertCell();
    cell.colSpan = 100;
    cell.className = "empty";
    cell.textContent = body.dataset.empty;
    made.push(row);
  }
  body.replaceChildren(...made);
}

/** Asks whoever sits there; resolves to whether to go on. */
function confirmed(question) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-question").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function act(form) {
  if (form.dataset.confirm && !(await confirmed(form.dataset.confirm))) return;
  const body = {};
  for (const field of form.querySelectorAll("[name]")) body[field.name] = field.dataset.type === "number" ? Number(field.value) : field.value;
  const [button, output] = [form.querySelector("button"), form.querySelector("output")];
  button.disabled = true;
  say(output, "good", "Under way …");
  try {
    const answer = await ask(form.dataset.post, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    say(output, "good", form.dataset.done.replace(/\{(\w+)\}/g, (_, name) => (typeof answer[name] === "number" ? count(answer[name]) : answer[name] ?? NONE)));
    // Where the part that the form stands in is drawn anew, what it says must not keep it from that for ever.
    if (form.closest("[data-fresh]")) setTimeout(() => say(output, "good", ""), 10_000);
    fill();
    freshen();
  } catch (error) {
    say(output, "bad", error.message);
  }
  button.disabled = false;
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.post) return;
  event.preventDefault();
  act(event.target);
});
follow();
fill();
