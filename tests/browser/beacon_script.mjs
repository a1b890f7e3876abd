// The beacon's script in a page that is made up, without a browser: node beacon_script.mjs SCRIPT
//
// Ends with 1 at the first thing that is wrong.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import vm from "node:vm";

const source = readFileSync(process.argv[2], "utf8");

/** A page of an item; `beacon` decides whether the browser takes a body. */
function page(item, beacon = () => true) {
  const [sent, listeners] = [[], {}];
  let changed;
  const addEventListener = (name, act) => (listeners[name] = act);
  const body = { dataset: { sequorItem: item } };
  const context = {
    navigator: {
      // The limit of every browser.
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
  const told = () => sent.map((event) => `${event.type} ${event.item_id}`);
  const show = (item) => {
    body.dataset.sequorItem = item;
    changed([]);
  };
  return { sequor: context.window.sequor, flush: () => listeners.pagehide({}), told, show };
}

// One event over 64 KiB is dropped alone, and many small ones that exceed it together are all sent.
const large = page("tea");
large.sequor("share", "huge", undefined);
large.flush();
large.sequor("cart", "x".repeat(70_000));
for (let number = 0; number < 18; number += 1) large.sequor("click", `${number}-${"\u00e9".repeat(3000)}`);
large.flush();
const told = large.told();
assert.deepEqual(told.slice(0, 2), ["view tea", "share huge"]);
assert.equal(told.length, 20);
large.sequor("cart", "cup");
large.flush();
assert.equal(large.told().at(-1), "cart cup");
assert.ok(!large.told().some((one) => one.startsWith("cart x")));

// What the browser does not take now is sent later, in order and once.
let full = true;
const busy = page("tea", () => !full);
busy.sequor("cart", "cup");
busy.flush();
assert.deepEqual(busy.told(), []);
full = false;
busy.flush();
busy.flush();
assert.deepEqual(busy.told(), ["view tea", "cart cup"]);

// A single-page application shows one item after another, and the same one again after another page.
const app = page("tea");
for (const item of ["tea", "cup", "cup", undefined, undefined, "cup"]) app.show(item);
app.flush();
assert.deepEqual(app.told(), ["view tea", "view cup", "view cup"]);
