// The demo's shop: the cart, and the panel that shows what Sequor knows of the visitor.
//
// A real shop has a cart like this one, and no such panel: the panel reads the visitor's data from the API, which must not be open to browsers elsewhere.
"use strict";

const api = document.querySelector("meta[name=sequor-api]").content;
const find = (id) => document.getElementById(id);
const euros = new Intl.NumberFormat(document.documentElement.lang, { style: "currency", currency: "EUR" });

function create(name, text, className) {
  const element = document.createElement(name);
  element.textContent = text ?? "";
  if (className) element.className = className;
  return element;
}

// The cart is in the browser only. Sequor learns of it by events.
const readCart = () => {
  try {
    return JSON.parse(localStorage.getItem("cart")) ?? [];
  } catch {
    return [];
  }
};

function writeCart(lines) {
  localStorage.setItem("cart", JSON.stringify(lines));
  showCart();
}

function showCart() {
  const lines = readCart();
  find("cart-count").textContent = lines.length;
  const cart = find("cart");
  if (!cart) return;
  if (lines.length === 0) {
    cart.replaceChildren(create("p", "Your cart is empty.", "muted"));
  } else {
    const list = document.createElement("ul");
    list.append(...lines.map((line, position) => cartLine(line, position)));
    const total = lines.reduce((sum, { price }) => sum + price, 0);
    const buy = create("button", "Buy");
    buy.type = "button";
    buy.addEventListener("click", purchase);
    cart.replaceChildren(list, create("p", `Total ${euros.format(total)}`, "price"), buy);
  }
  // The list follows the cart: the widget sees the change of the attribute. It loads no hidden list.
  find("cart-list").dataset.items = lines.map(({ id }) => id).join();
  find("cart-list").hidden = lines.length === 0;
}

function cartLine({ id, title, price }, position) {
  const line = find("cart-line").content.cloneNode(true).firstElementChild;
  line.querySelector("img").src = `/pictures/${encodeURIComponent(id)}.svg`;
  const link = line.querySelector("a");
  link.href = `/products/${encodeURIComponent(id)}`;
  link.textContent = title;
  line.querySelector(".price").textContent = euros.format(price);
  const remove = line.querySelector("button");
  remove.setAttribute("aria-label", `Remove ${title}`);
  remove.addEventListener("click", () => writeCart(readCart().filter((_, other) => other !== position)));
  return line;
}

function purchase() {
  for (const { id, price } of readCart()) window.sequor?.("purchase", id, price);
  writeCart([]);
  find("cart").replaceChildren(create("p", "Thank you! Nothing was paid, but Sequor has learned from your purchase."));
}

find("add")?.addEventListener("click", ({ currentTarget }) => {
  const { id, title, price } = currentTarget.dataset;
  writeCart([...readCart(), { id, title, price: Number(price) }]);
  window.sequor?.("cart", id, Number(price));
  find("added").textContent = `${title} is in your cart.`;
});

// The titles of items, from the shop.
const titles = new Map();
async function loadTitles(ids) {
  const missing = [...new Set(ids)].filter((id) => id && !titles.has(id));
  if (missing.length === 0) return;
  const response = await fetch(`/titles.json?ids=${encodeURIComponent(missing.join())}`);
  for (const [id, title] of Object.entries(await response.json())) titles.set(id, title);
}
const titleOf = (id) => titles.get(id) ?? id ?? "";

/** The visitor's events, newest first. The first line of the user's export has them; the rest is not read. */
async function readEvents(user) {
  const stop = new AbortController();
  const response = await fetch(`${api}/v1/users/${encodeURIComponent(user)}`, { signal: stop.signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
  }
  stop.abort();
  const line = text.split("\n")[0];
  const first = line ? JSON.parse(line) : {};
  return first.entry === "user" ? first.sequence.toReversed() : [];
}

async function showEvents(user) {
  const events = (await readEvents(user)).slice(0, 6);
  if (events.length === 0) return;
  await loadTitles(events.map(({ item_id }) => item_id));
  find("panel-events").replaceChildren(...events.map(({ type, item_id }) => {
    const line = create("li", "", "event");
    line.append(create("span", type, "kind"), create("span", titleOf(item_id)));
    return line;
  }));
}

/** The change of an item's place in the list, in words and signs. */
function movement(before, position) {
  if (!before) return "";
  const earlier = before.indexOf(position.item_id);
  if (earlier < 0) return "new";
  const steps = earlier - position.rank;
  return steps > 0 ? `▲ ${steps} up` : "";
}

let shown = JSON.parse(sessionStorage.getItem("ranks") ?? "null");
async function showRanks({ items }) {
  const ids = items.map(({ item_id }) => item_id);
  await loadTitles(items.map(({ explanation }) => explanation?.moved_by?.item_id));
  find("panel-list").replaceChildren(...items.map(({ item_id, details, explanation }, rank) => {
    const line = create("li");
    const link = create("a", details?.title ?? item_id);
    link.href = `/products/${encodeURIComponent(item_id)}`;
    const moved = movement(shown, { item_id, rank });
    line.append(link, " ", create("span", moved, "move"));
    if (moved) line.className = "fresh";
    const cause = explanation?.moved_by;
    if (cause?.item_id) line.append(create("small", `because of your ${cause.type} of ${titleOf(cause.item_id)}`));
    return line;
  }));
  shown = ids;
  sessionStorage.setItem("ranks", JSON.stringify(ids));
}

function openPanel() {
  const visitor = window.sequor?.visitor?.();
  if (!visitor) {
    find("panel-visitor").textContent = "Nothing: your browser asks not to be tracked, or the daemon has stopped. The lists depend on the page only.";
    find("panel-events").replaceChildren();
    find("panel-list").replaceChildren();
    return;
  }
  find("panel-visitor").replaceChildren("You are visitor ", create("code", visitor.user.slice(0, 8)), ", an id in this browser.");
  const parameters = "limit=8&exclude_seen=true&details=true&explain=true&consent=session";
  const stream = new EventSource(`${api}/v1/users/${encodeURIComponent(visitor.user)}/recommendations/stream?${parameters}`);
  stream.addEventListener("message", ({ data }) => {
    showRanks(JSON.parse(data)).catch(console.warn);
    showEvents(visitor.user).catch(console.warn);
    // A list that follows the event of this page.
    document.querySelectorAll("[data-live]").forEach((list) => window.Sequor?.refresh(list));
  });
  // The back-forward cache does not keep pages with an open stream.
  window.addEventListener("pagehide", () => stream.close());
}

find("panel-forget").addEventListener("click", () => {
  window.sequor?.renew?.();
  sessionStorage.removeItem("ranks");
  localStorage.removeItem("cart");
  location.reload();
});
window.addEventListener("pageshow", (event) => {
  showCart();
  if (event.persisted) openPanel();
});
openPanel();
