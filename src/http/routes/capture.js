// Sequor's beacon: sends the events of a page's visitor to the daemon.
//
//   <script src="https://sequor.example/v1/capture.js" defer></script>
//   data-user="..."             on the script: the signed-in user; earlier anonymous events of this browser are merged into this user
//   data-consent="..."          on the script: the visitor's consent level: "session", "full", or "none"; with "none", nothing is stored or sent
//   data-key="..."              on the script: the API key, if the daemon requires one; it is visible in the page, so it should have only the scope `write`
//   data-sequor-item="..."      on <body>, or <meta name="sequor-item" content="...">: the item of this page; the script reports a view of the item, and another view whenever the item changes
//   data-sequor-item="..."      on any other element: the item of a click inside the element
//   data-sequor-search="field"  on a form: a search, with the query in that field (default `q`)
//   sequor("cart", "tea", 3)    sends any other event: kind, item, value
//   sequor.renew()              replaces the anonymous id by a new one
//
// An anonymous visitor gets a random id, which is stored only in this site's local storage. If the browser sends Do Not Track or Global Privacy Control, nothing is stored or sent.
// Every event has an id, so that an event that is sent twice counts once.
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
// If storage is blocked, the id lasts as long as the page.
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
// The browser accepts at most 64 KiB per beacon. A long queue is therefore sent in parts, and an event that is too large for one beacon is dropped.
// If the browser's beacon queue is full, the events stay in the queue until the next flush.
const flush = () => {
  clearTimeout(timer);
  timer = 0;
  for (let count = queue.length; count; ) {
    const body = JSON.stringify(queue.slice(0, count));
    if (new Blob([body]).size > 6e4) {
      if (count > 1) {
        count >>= 1;
        continue;
      }
    } else if (!nav.sendBeacon(at("events"), body)) return;
    queue.splice(0, count);
    count = queue.length;
  }
};
const send = (type, item_id, value, properties) => {
  queue.push({ event_id: random(), user_id: user, type, item_id, value, properties, consent });
  queue.length < 20 ? timer ||= setTimeout(flush, 1000) : flush();
};
let viewed;
const view = (again) => {
  const item = doc.body.dataset.sequorItem || doc.querySelector("meta[name=sequor-item]")?.content;
  if (item && (again || item != viewed)) send("view", item);
  viewed = item;
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
// A page that is restored from the back-forward cache counts as a new view.
on("pageshow", (event) => event.persisted && view(1));
win.sequor = (a, b, c) => send(a, b, c);
win.sequor.renew = renew;
view();
// A single-page application changes the item without loading a page.
new MutationObserver(() => view()).observe(doc, { subtree: true, childList: true, attributeFilter: ["data-sequor-item", "content"] });
})();
