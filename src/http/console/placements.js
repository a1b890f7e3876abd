// Script of the page of placements and rules: edits them, and previews rules.
"use strict";

/** Fields of a form that are not part of the record that it describes. */
const PREVIEW_FIELDS = ["user_id", "preview_placement", "items", "at"];
/** The field with the name or id of the record, by editor. */
const KEY_FIELDS = { placements: "placement", rules: "rule" };

const editorOf = (kind) => document.querySelector(`form[data-editor="${kind}"]`);
const splitList = (text) => text.split(",").map((part) => part.trim()).filter((part) => part !== "");

/** The values of the visible fields of a form that are not empty, by name. */
function valuesOf(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name || field.value.trim() === "" || field.closest("[hidden]")) continue;
    values[field.name] = field.dataset.type === "number" ? Number(field.value) : field.value.trim();
  }
  return values;
}

/** A placement, as the API takes it. */
function placementOf(form) {
  const { placement: _, boosts, exclude_seen, ...body } = valuesOf(form);
  if (exclude_seen) body.exclude_seen = exclude_seen === "true";
  if (boosts) {
    const lines = boosts.split("\n").map((line) => line.trim()).filter((line) => line !== "");
    body.boosts = lines.map((line) => {
      const [factor, ...filter] = line.split(/\s+/);
      return { filter: filter.join(" "), factor: Number(factor) || 0 };
    });
  }
  return body;
}

/** A rule, as the API takes it. */
function ruleOf(form) {
  const { rule: _, kind, placements, context_filter, valid_from, valid_until, priority, enabled, ...fields } = valuesOf(form);
  for (const name of PREVIEW_FIELDS) delete fields[name];
  const required = kind === "promote" ? { item_id: "", position: 0 } : kind === "boost" ? { filter: "", factor: 0 } : { filter: "" };
  const condition = { placements: splitList(placements ?? "") };
  if (context_filter) condition.context_filter = context_filter;
  const body = { condition, consequence: { [kind]: { ...required, ...fields } }, priority: priority ?? 0, enabled: enabled === "true" };
  if (valid_from) body.valid_from = valid_from;
  if (valid_until) body.valid_until = valid_until;
  return body;
}

/** Shows the fields that the chosen kind of effect has, and hides the others. */
function showFieldsOfKind() {
  const kind = editorOf("rules").elements.kind.value;
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(kind);
}

/** Writes a record into a form. Clears the other fields, except those of the preview. */
function fill(form, record) {
  const kept = PREVIEW_FIELDS.filter((name) => form.elements[name]).map((name) => [name, form.elements[name].value]);
  form.reset();
  for (const [name, value] of kept) form.elements[name].value = value;
  for (const [name, value] of Object.entries(record)) if (form.elements[name]) form.elements[name].value = value ?? "";
  clearProblems(form);
  showFieldsOfKind();
}

function recordOfPlacement(name, { boosts, ...config }) {
  return { placement: name, ...config, boosts: (boosts ?? []).map(({ filter, factor }) => `${factor} ${filter}`).join("\n") };
}

function recordOfRule(id, { condition, consequence, ...rule }) {
  const [[kind, effect]] = Object.entries(consequence);
  return { rule: id, kind, ...effect, ...rule, placements: condition.placements.join(", "), context_filter: condition.context_filter };
}

function clearProblems(form) {
  showMessage(form.querySelector("output"), "good", "");
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  for (const problem of form.querySelectorAll(".problem")) problem.textContent = "";
}

/** The field of a form to which a problem belongs. The API names `boosts[1].filter` and `consequence.hide.filter`. */
function fieldOfProblem(form, name, action) {
  if (action === "preview" && name === "placement") name = "preview_placement";
  if (action === "preview" && name === "item") name = "items";
  const last = name.startsWith("boosts") ? "boosts" : name === "consequence.require" ? "min_share" : name.split(".").pop();
  return form.elements[last === "rule_id" ? "rule" : last];
}

/** Shows an error at its field. An error without a field is the message of the form. */
function showProblem(form, error, action) {
  const { field: name, detail } = error.problem ?? {};
  const field = name && fieldOfProblem(form, name, action);
  if (!field || field.closest("[hidden]")) return showMessage(form.querySelector("output"), "bad", error.message);
  field.setAttribute("aria-invalid", "true");
  document.getElementById(`${field.id}-problem`).textContent = detail;
  showMessage(form.querySelector("output"), "bad", "A field is invalid.");
  field.focus();
}

const send = (path, method, body) => request(path, { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) });

async function save(form, path, key) {
  const body = form.dataset.editor === "rules" ? ruleOf(form) : placementOf(form);
  const { warnings } = await send(path, "PUT", body);
  return [`Saved ${key}.`, ...warnings.map((warning) => `Warning: ${warning}.`)].join(" ");
}

async function remove(form, path, key) {
  if (!(await confirmAction(`Delete ${key}?`))) return "";
  await send(path, "DELETE");
  fill(form, {});
  return `Deleted ${key}.`;
}

/** Shows the list without and with the rule of the form. */
async function preview(form) {
  const { rule, user_id, preview_placement, items, at } = valuesOf(form);
  const body = { rule: ruleOf(form), rule_id: rule, user_id, placement: preview_placement, items: items && splitList(items), at };
  const answer = await send("/admin/rule-preview", "POST", body);
  const changes = new Map(answer.changes.map((change) => [change.item_id, change]));
  for (const side of ["without", "with"]) {
    document.getElementById(`preview-${side}`).replaceChildren(...answer[side].map((item) => previewItem(item, changes.get(item.item_id), side)));
  }
  document.getElementById("preview").hidden = false;
  const effect = answer.applies ? `The rule applies. ${count(answer.changes.length)} items change.` : `The rule does not apply: ${answer.reason}.`;
  return [effect, ...answer.warnings.map((warning) => `Warning: ${warning}.`)].join(" ");
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** An item of a preview, with its image and title if it has them. */
function previewItem(item, change, side) {
  const entry = element("li");
  if (item.image?.startsWith("https://") || item.image?.startsWith(`${location.origin}/`)) {
    const image = element("img");
    Object.assign(image, { src: item.image, alt: "", width: 40, height: 40, loading: "lazy", referrerPolicy: "no-referrer" });
    entry.append(image);
  } else {
    entry.append(element("span", "no-image"));
  }
  const text = element("span", "item", item.title ?? item.item_id);
  if (item.title) text.append(element("span", "reason", item.item_id));
  entry.append(text);
  if (change) entry.append(changeBadge(change, side));
  return entry;
}

/** What becomes of an item, or what has become of it. */
function changeBadge({ position_without: from, position_with: to, reason }, side) {
  const moved = side === "without" ? (to ? `moves to ${to}` : reason === "hidden" ? "hidden" : "drops out") : from ? `from ${from}` : "new";
  const badge = element("span", "badge", reason === "displaced" || reason === moved ? moved : `${reason}, ${moved}`);
  badge.dataset.state = !to ? "bad" : reason === "displaced" ? "" : "good";
  return badge;
}

/** Runs an action of a form, and shows its result. */
async function run(form, action) {
  const kind = form.dataset.editor;
  const key = form.elements[KEY_FIELDS[kind]].value.trim();
  const path = `/admin/${kind}/${encodeURIComponent(key)}`;
  clearProblems(form);
  const output = form.querySelector("output");
  if (key === "" && action !== "preview") {
    const problem = { field: KEY_FIELDS[kind], detail: "Enter a name of a-z, 0-9, _ and -." };
    return showProblem(form, Object.assign(new Error(problem.detail), { problem }), action);
  }
  try {
    const done = action === "delete" ? await remove(form, path, key) : action === "preview" ? await preview(form) : await save(form, path, key);
    showMessage(output, "good", done);
    refresh();
  } catch (error) {
    showProblem(form, error, action);
  }
}

/** Fills an editor with the stored record, and puts the focus on it. */
async function edit(kind, key) {
  const form = editorOf(kind);
  try {
    const stored = await send(`/admin/${kind}/${encodeURIComponent(key)}`, "GET");
    fill(form, kind === "rules" ? recordOfRule(key, stored) : recordOfPlacement(key, stored));
  } catch (error) {
    showMessage(form.querySelector("output"), "bad", error.message);
  }
  form.elements[KEY_FIELDS[kind]].focus();
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.editor) return;
  event.preventDefault();
  run(event.target, event.submitter?.value ?? "save");
});
document.addEventListener("click", ({ target }) => {
  const { action, edit: kind, key } = target.dataset ?? {};
  if (kind) edit(kind, key);
  if (action === "clear") {
    target.form.reset();
    fill(target.form, {});
  }
  if (action === "delete") run(target.form, "delete");
});
document.addEventListener("change", ({ target }) => {
  if (target.name === "kind") showFieldsOfKind();
});
showFieldsOfKind();
