// Tests the beacon script in a simulated page, without a browser: node beacon_script.mjs SCRIPT
//
// Exits with 1 at the first failure.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import vm from "node:vm";

const source = readFileSync(process.argv[2], "utf8");

/** A page of an item; `beacon` decides whether the browser accepts a beacon. */
function page(item, beacon = () => true, elements = []) {
  const [sent, listeners, paths, observed, timers] = [[], {}, [], [], []];
  let changed, intersect;
  const addEventListener = (name, act) => (listeners[name] = act);
  const body = { dataset: { sequorItem: item } };
  const context = {
    navigator: {
      // Every browser limits the size of a beacon.
      sendBeacon: (url, text) => new Blob([text]).size <= 65_536 && beacon() && !!paths.push(url.pathname) && !!sent.push(...[JSON.parse(text)].flat()),
    },
    document: { currentScript: { dataset: {}, src: "http://sequor/v1/capture.js" }, body, addEventListener, querySelector: () => null, querySelectorAll: () => elements },
    localStorage: { getItem: () => null, setItem() {}, removeItem() {} },
    crypto: globalThis.crypto,
    MutationObserver: class {
      constructor(act) {
        changed = act;
      }
      observe() {}
    },
    IntersectionObserver: class {
      constructor(act) {
        intersect = act;
      }
      observe(element) {
        observed.push(element);
      }
      unobserve(element) {
        observed.splice(observed.indexOf(element), 1);
      }
    },
    setTimeout: (act) => timers.push(act),
    clearTimeout: (timer) => delete timers[timer - 1],
    addEventListener,
    URL,
    Blob,
  };
  context.window = context;
  vm.runInNewContext(source, context);
  const sentEvents = () => sent.map((event) => `${event.type} ${event.item_id}`);
  const show = (item) => {
    body.dataset.sequorItem = item;
    changed([]);
  };
  const scroll = (...changes) => intersect(changes.map(([target, intersectionRatio]) => ({ target, intersectionRatio })));
  // Lets the pending second pass.
  const wait = () => timers.splice(0).forEach((act) => act());
  const click = (target) => listeners.click({ target });
  return { sequor: context.window.sequor, flush: () => listeners.pagehide({}), sentEvents, show, scroll, wait, click, sent, paths, observed };
}

/** An element with an item, inside a list. */
function element(item, list) {
  const self = { dataset: { sequorItem: item }, closest: (selector) => (selector.includes("recommendation") ? list : self) };
  return self;
}

// A single event over 64 KiB is dropped. If many small events exceed 64 KiB together, all are sent.
const large = page("tea");
large.sequor("share", "huge", undefined);
large.flush();
large.sequor("cart", "x".repeat(70_000));
for (let number = 0; number < 18; number += 1) large.sequor("click", `${number}-${"\u00e9".repeat(3000)}`);
large.flush();
const sentEvents = large.sentEvents();
assert.deepEqual(sentEvents.slice(0, 2), ["view tea", "share huge"]);
assert.equal(sentEvents.length, 20);
large.sequor("cart", "cup");
large.flush();
assert.equal(large.sentEvents().at(-1), "cart cup");
assert.ok(!large.sentEvents().some((one) => one.startsWith("cart x")));

// If the browser accepts no beacon now, the events are sent later, in order and once.
let full = true;
const busy = page("tea", () => !full);
busy.sequor("cart", "cup");
busy.flush();
assert.deepEqual(busy.sentEvents(), []);
full = false;
busy.flush();
busy.flush();
assert.deepEqual(busy.sentEvents(), ["view tea", "cart cup"]);

// A single-page application shows several items one after the other, and later shows an item again.
const app = page("tea");
for (const item of ["tea", "cup", "cup", undefined, undefined, "cup"]) app.show(item);
app.flush();
assert.deepEqual(app.sentEvents(), ["view tea", "view cup", "view cup"]);

// An item of a recommendation is reported as shown once, after half of it was in view for a second. Clicks name the recommendation.
const list = { dataset: { sequorRecommendation: "r1", sequorPlacement: "home" } };
const [cup, pot, pan, jar] = ["cup", "pot", "pan", "jar"].map((item) => element(item, list));
const other = element("other", null);
const shop = page(undefined, () => true, [cup, pot, pan, jar, other]);
assert.deepEqual(shop.observed, [cup, pot, pan, jar]);
shop.scroll([cup, 0.5], [pot, 0.4], [pan, 1], [jar, 1]);
shop.scroll([pan, 0.2]);
shop.wait();
shop.show(undefined);
assert.deepEqual(shop.observed, [pot, pan], "a reported element is not observed again");
shop.scroll([pot, 0.9]);
shop.click(cup);
shop.click(other);
shop.wait();
shop.flush();
shop.flush();
const impressions = shop.sent.filter((one) => one.items);
assert.deepEqual(impressions.map(({ recommendation_id, placement, items }) => [recommendation_id, placement, items.join()]), [["r1", "home", "cup,jar"], ["r1", "home", "pot"]]);
assert.ok(/^[0-9a-f]{32}$/.test(impressions[0].user_id));
assert.deepEqual([...new Set(shop.paths)].sort(), ["/v1/events", "/v1/impressions"]);
// The widget asks for the list of the same visitor.
assert.equal(shop.sequor.visitor().user, impressions[0].user_id);
const clicks = shop.sent.filter((one) => one.type === "click");
assert.deepEqual(clicks.map(({ item_id, recommendation_id }) => [item_id, recommendation_id]), [["cup", "r1"], ["other", undefined]]);
