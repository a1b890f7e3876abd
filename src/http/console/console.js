// Script of the admin pages: updates live values, refreshes parts of the page and submits forms.
"use strict";

const NONE = "–";
const count = (number) => Math.round(number).toLocaleString("en");

/** Value formats, the same as in `format.rs`. */
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
};

/** Writes the value at a path of the status, such as `learning.lag_entries`, into an element. */
function write(element, path, values) {
  const value = valueAt(path, values);
  const text = value === null || value === undefined ? NONE : FORMATS[element.dataset.format](value, element);
  if (element.textContent !== text) element.textContent = text;
}

function showMessage(output, state, text) {
  output.dataset.state = state;
  output.textContent = text;
}

const valueAt = (path, values) => path.split(".").reduce((object, name) => object?.[name], values);

/** Disables the buttons whose operation makes no sense in the current status, and enables the others. Skips a button whose request is running. */
function disableButtons(status) {
  for (const button of document.querySelectorAll("[data-disabled-by]:not([data-busy])")) button.disabled = valueAt(button.dataset.disabledBy, status) === true;
  for (const button of document.querySelectorAll("[data-enabled-by]:not([data-busy])")) button.disabled = valueAt(button.dataset.enabledBy, status) === false;
}

/** Sends a request. A problem response becomes an error with its title and detail; its member `problem` is the problem. */
async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The service does not respond.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(`${body.title ?? `The service responded with ${response.status}`}: ${body.detail ?? ""}`);
    throw Object.assign(error, { problem: body });
  }
  return body;
}

// The service sends its status every second. The other parts of a page are refreshed after this number of status events.
const REFRESH_EVENTS = 5;

/** Loads the page again and replaces the parts marked `data-fresh`. */
async function refresh() {
  if (document.hidden || !document.querySelector("[data-fresh]") || document.querySelector("dialog[open]")) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const fresh = page.getElementById(old.id);
    // A part that has the focus or shows the message of a form is not replaced.
    if (!fresh || old.contains(document.activeElement) || old.querySelector("output:not(:empty)")) continue;
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, index) => (details.open = open[index] ?? false));
    old.replaceWith(document.adoptNode(fresh));
  }
}

function followStatus() {
  const pulse = document.getElementById("pulse");
  const showLive = (live) => {
    pulse.classList.toggle("live", live);
    const text = live ? "live" : "not live";
    if (pulse.lastElementChild.textContent !== text) pulse.lastElementChild.textContent = text;
  };
  let events = 0;
  const stream = new EventSource("/admin/stream");
  stream.addEventListener("status", (event) => {
    const status = JSON.parse(event.data);
    if (!status.journal) return;
    showLive(true);
    document.querySelectorAll("[data-live]").forEach((element) => write(element, element.dataset.live, status));
    disableButtons(status);
    events += 1;
    if (events % REFRESH_EVENTS === 0) refresh();
  });
  stream.addEventListener("error", () => showLive(false));
  // Closing the stream frees the subscription at once when the user leaves the page.
  addEventListener("pagehide", () => stream.close());
}

/** Asks the user for confirmation. The promise resolves to `true` if the user confirms. */
function confirmAction(question) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-question").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function submit(form) {
  if (form.dataset.confirm && !(await confirmAction(form.dataset.confirm))) return;
  const body = {};
  for (const field of form.querySelectorAll("[name]")) body[field.name] = field.dataset.type === "number" ? Number(field.value) : field.value;
  const [button, output] = [form.querySelector("button"), form.querySelector("output")];
  button.disabled = true;
  button.dataset.busy = "";
  showMessage(output, "good", "Working …");
  try {
    const answer = await request(form.dataset.post, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    showMessage(output, "good", form.dataset.done.replace(/\{(\w+)\}/g, (_, name) => (typeof answer[name] === "number" ? count(answer[name]) : answer[name] ?? NONE)));
    // As long as the message is shown, the part of the page that contains the form is not refreshed. The message is therefore removed after 10 seconds.
    if (form.closest("[data-fresh]")) setTimeout(() => showMessage(output, "good", ""), 10_000);
    refresh();
  } catch (error) {
    showMessage(output, "bad", error.message);
  }
  delete button.dataset.busy;
  // A button that depends on the status stays disabled until the next status event. That event enables the button if its operation makes sense.
  button.disabled = "disabledBy" in button.dataset || "enabledBy" in button.dataset;
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.post) return;
  event.preventDefault();
  submit(event.target);
});
followStatus();
