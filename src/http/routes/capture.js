// Sequor's beacon: tells the daemon what a visitor of this page does.
//
//   <script src="https://sequor.example/v1/capture.js" defer></script>
//   data-user="..."             on the script: who is signed in; what was done before that, in this browser, becomes this user's
//   data-consent="..."          on the script: how far the visitor's consent goes: "session", "full", or "none", with which nothing is stored and nothing sent
//   data-key="..."              on the script: the key, where the daemon asks for one; everybody who sees the page sees it, so that it should open `write` alone
//   data-sequor-item="..."      on <body>, or <meta name="sequor-item" content="...">: the item whose page this is; it is viewed
//   data-sequor-item="..."      on any other element: the item that a click within it is on
//   data-sequor-search="field"  on a form: a search, with the words in that field (`q` if no field is named)
//   sequor("cart", "tea", 3)    anything else: kind, item, value
//   sequor.renew()              another anonymous id from here on
//
// One that is not signed in has a random id in this site's own storage, and nowhere else. Who has asked by Do Not Track or Global Privacy Control not to be followed is not: nothing is
// stored and nothing sent. Every event has an id, so that one sent twice counts once.
(() => {
const win = window, doc = document, nav = navigator, me = doc.currentScript;
let { user, consent, key } = me.dataset;
if (consent == "none" || nav.globalPrivacyControl || (nav.doNotTrack || win.doNotTrack) == "1") {
  win.sequor = () => {};
  win.sequor.renew = win.sequor;
  return;
}
const at = (path) => new URL(`${path}?key=${key||""}`, me.src);
const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, 0)).join("");
// Storage may be forbidden: then an id lasts as long as the page.
const storage = (act, ...values) => {
  try {
    return localStorage[act + "Item"]("sequor", ...values);
  } catch {}
};
let queue = [], timer;
const renew = () => storage("set", user = random());
const before = storage("get");
if (!user) {
  before ? user = before : renew();
} else if (before && nav.sendBeacon(at(`users/${encodeURIComponent(user)}/merge`), JSON.stringify({ from: before }))) {
  storage("remove");
}
// What the browser has no room for now waits for the next time.
const flush = () => {
  clearTimeout(timer);
  timer = 0;
  if (queue.length && nav.sendBeacon(at("events"), JSON.stringify(queue))) queue = [];
};
const send = (type, item_id, value, properties) => {
  queue.push({ event_id: random(), user_id: user, type, item_id, value, properties, consent });
  queue.length < 20 ? timer ||= setTimeout(flush, 1000) : flush();
};
const view = () => {
  const item = doc.body.dataset.sequorItem || doc.querySelector("meta[name=sequor-item]")?.content;
  if (item) send("view", item);
};
const on = (name, act, target = win) => target.addEventListener(name, act, true);
on("click", (event) => {
  const on = event.target.closest("[data-sequor-item]");
  if (on && on != doc.body) send("click", on.dataset.sequorItem);
});
on("submit", (event) => {
  const { sequorSearch: field } = event.target.dataset;
  if (field != null) send("search", ...[,,], { query: new FormData(event.target).get(field || "q") });
});
on("pagehide", flush);
on("visibilitychange", () => doc.hidden && flush(), doc);
// A page that comes back from the browser's memory is looked at again.
on("pageshow", (event) => event.persisted && view());
win.sequor = (a, b, c) => send(a, b, c);
win.sequor.renew = renew;
view();
})();
