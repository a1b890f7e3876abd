// Tests the beacon script in a simulated page, without a browser: node beacon_script.mjs SCRIPT
//
// Exits with 1 at the first failure.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import vm from "node:vm";

const source = readFileSync(process.argv[2], "utf8");

/** A page of an item; `beacon` decides whether the browser accepts a beacon. */
function page(item, beacon = () => true) {
  const [sent, listeners] = [[], {}];
  let changed;
  const addEventListener = (name, act) => (listeners[name] = act);
  const body = { dataset: { sequorItem: item } };
  const context = {
    navigator: {
      // Every browser limits the size of a beacon.
      sendBeacon: (url, text) => new Blob([text]).size <= 65_536 && beacon() && !!sent.push(...[JSON.parse(text)].flat()),
    },
    document: { currentScript: { dataset: {}, src: "http://sequor/v1/capture.js" }, body, addEventListener, querySelector: () => null },
    localStorage: { getItem: () => null, setItem() {}, removeItem() {} },
    crypto: globalThis.crypto,
    MutationObserver: class {
      constructor(act) {
        changed = act;
      }
      observe() {}
    },
    setTimeout: () => 1,
    clearTimeout() {},
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
  return { sequor: context.window.sequor, flush: () => listeners.pagehide({}), sentEvents, show };
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
