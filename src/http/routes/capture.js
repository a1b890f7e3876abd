// Sequor's beacon: sends the events of a page's visitor to the daemon.
//
//   <script src="https://sequor.example/v1/capture.js" defer></script>
//   data-user="..."             on the script: the signed-in user; earlier anonymous events of this browser are merged into this user
//   data-consent="..."          on the script: the visitor's consent level: "session", "full", or "none"; with "none", nothing is stored or sent
//   data-key="..."              on the script: the API key, if the daemon requires one; it is visible in the page, so it should have only the scope `write`
//   data-sequor-item="..."      on <body>, or <meta name="sequor-item" content="...">: the item of this page; the script reports a view of the item, and another view whenever the item changes
//   data-sequor-item="..."      on any other element: the item of a click inside the element
//   data-sequor-recommendation="..."  on an element or around it: the recommendation_id of the list that contains it. Clicks name it. An element that also has data-sequor-item is reported as shown when at least half of it has been in view for one second
//   data-sequor-placement="..."  on the element with data-sequor-recommendation: the placement of the list
//   data-sequor-search="field"  on a form: a search, with the query in that field (default `q`)
//   sequor("cart", "tea", 3)    sends any other event: kind, item, value
//   sequor.renew()              replaces the anonymous id by a new one
//   sequor.visitor()            the id and the consent level of the visitor, for the widget; absent if nothing may be stored or sent
//
// An anonymous visitor gets a random id, which is stored only in this site's local storage. If the browser sends Do Not Track or Global Privacy Control, nothing is stored or sent.
// Every event has an id, so that an event that is sent twice counts once.
(() => {
const win = window, doc = document, nav = navigator, me = doc.currentScript;
let { user, consent, key } = me.dataset;
if (consent == "none" || nav.globalPrivacyControl || (nav.doNotTrack || win.doNotTrack) == "1") {
  const idle = (win.sequor = () => {});
  idle.renew = idle;
  return;
}
const post = (path, json) => nav.sendBeacon(new URL(`${path}?key=${key||""}`, me.src), json);
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
} else if (before && post(`users/${encodeURIComponent(user)}/merge`, JSON.stringify({ from: before }))) {
  storage("remove");
}
// The browser accepts at most 64 KiB per beacon. A long queue is therefore sent in parts, and an event that is too large for one beacon is dropped.
// If the browser's beacon queue is full, the events stay in the queue until the next flush.
const flush = () => {
  clearTimeout(timer);
  timer = 0;
  shown.forEach((items, { dataset }) => post("impressions", JSON.stringify({ user_id: user, recommendation_id: dataset.sequorRecommendation, placement: dataset.sequorPlacement, items, consent })));
  shown.clear();
  for (let count = queue.length; count; ) {
    const body = JSON.stringify(queue.slice(0, count));
    if (new Blob([body]).size > 6e4) {
      if (count > 1) {
        count >>= 1;
        continue;
      }
    } else if (!post("events", body)) return;
    queue.splice(0, count);
    count = queue.length;
  }
};
const send = (type, item_id, value, properties, recommendation_id) => {
  queue.push({ event_id: random(), user_id: user, type, item_id, value, properties, recommendation_id, consent });
  queue.length < 20 ? timer ||= setTimeout(flush, 1000) : flush();
};
const marked = "[data-sequor-item]";
const listOf = (element) => element.closest("[data-sequor-recommendation]");
// The shown items by list, until the next flush. Each list is one report.
const shown = new Map();
const timers = new WeakMap();
const observer = new IntersectionObserver((changes) => changes.forEach(({ target, intersectionRatio }) => {
  clearTimeout(timers.get(target));
  if (intersectionRatio >= .5) timers.set(target, setTimeout(() => {
    observer.unobserve(target);
    const list = listOf(target);
    if (list) shown.set(list, [...shown.get(list) || [], target.dataset.sequorItem]);
    timer ||= setTimeout(flush, 1000);
  }, 1000));
}), { threshold: .5 });
// Each element is observed once.
const watch = () => doc.querySelectorAll(marked).forEach((element) => {
  if (!timers.has(element) && listOf(element)) observer.observe(element, timers.set(element));
});
let viewed;
const view = (again) => {
  const item = doc.body.dataset.sequorItem || doc.querySelector("meta[name=sequor-item]")?.content;
  if (item && (again || item != viewed)) send("view", item);
  viewed = item;
};
const on = (name, act, target = win) => target.addEventListener(name, act, true);
on("click", (event) => {
  const on = event.target.closest(marked);
  if (on && on != doc.body) send("click", on.dataset.sequorItem, ...[,,], listOf(on)?.dataset.sequorRecommendation);
});
on("submit", (event) => {
  const { sequorSearch: field } = event.target.dataset;
  if (field != null) send("search", ...[,,], { query: new FormData(event.target).get(field || "q") });
});
on("pagehide", flush);
on("visibilitychange", () => doc.hidden && flush(), doc);
// A page that is restored from the back-forward cache counts as a new view.
on("pageshow", (event) => event.persisted && view(1));
(win.sequor = (a, b, c) => send(a, b, c)).renew = renew;
win.sequor.visitor = () => ({ user, consent });
view();
watch();
// A single-page application changes the item without loading a page.
new MutationObserver(() => {
  view();
  watch();
}).observe(doc, { subtree: true, childList: true, attributeFilter: ["data-sequor-item", "content"] });
})();
