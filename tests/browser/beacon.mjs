// The beacon in a real browser, on pages of another origin than the daemon's: node beacon.mjs TOOLS ADMIN API
//
// Ends with 1 at the first thing that is wrong.
import assert from "node:assert/strict";
import { createServer } from "node:http";

import { browser } from "./chromium.mjs";

const [tools, admin, api] = process.argv.slice(2);

/** A shop: each path is the page of an item, with two others to click on and a search. */
const shop = createServer((request, answer) => {
  const { pathname, searchParams } = new URL(request.url, "http://shop");
  const user = searchParams.get("user");
  answer.setHeader("content-type", "text/html");
  answer.end(`<!doctype html><title>${pathname}</title>
    <script src="${api}/v1/capture.js" ${user ? `data-user="${user}"` : ""} defer></script>
    <body ${pathname === "/" ? "" : `data-sequor-item="${pathname.slice(1)}"`}>
    <p id="nothing">nothing</p>
    <ul><li data-sequor-item="cup"><b id="cup">a cup</b></li><li data-sequor-item="pot"><a id="pot" href="/pot">a pot</a></li></ul>
    <form data-sequor-search="words" action="/"><input name="words"></form>`);
});
await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
const place = `http://127.0.0.1:${shop.address().port}`;

const journal = async () => (await (await fetch(`${admin}/admin/journal`)).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
const events = async () => (await journal()).filter((entry) => entry.entry === "event");
const told = (list) => list.map((event) => `${event.type} ${event.item_id ?? event.properties?.query}`);
/** Waits for so many events: a beacon has no answer to wait for. */
async function until(count) {
  for (let round = 0; round < 1200; round += 1) {
    const list = await events();
    if (list.length >= count) return list;
    await new Promise((later) => setTimeout(later, 50));
  }
  assert.fail(`waited in vain for ${count} events: ${told(await events())}`);
}

const chrome = await browser(tools);
try {
  const context = await chrome.newContext();
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  await page.goto(`${place}/tea`);
  await page.click("#nothing");
  await page.click("#cup");
  await page.evaluate(() => window.sequor("cart", "tea", 3));
  // These two leave the page before anything is due.
  await page.click("#pot");
  await page.waitForURL(`${place}/pot`);
  await page.fill("input", "green tea");
  await page.press("input", "Enter");
  await page.waitForURL(/words/);
  let list = await until(6);
  assert.deepEqual(told(list).sort(), ["cart tea", "click cup", "click pot", "search green tea", "view pot", "view tea"]);
  const [anonymous] = new Set(list.map((event) => event.user_id));
  assert.ok(list.every((event) => event.user_id === anonymous) && /^[0-9a-f]{32}$/.test(anonymous), "one id for one visitor");
  assert.equal(list.find((event) => event.type === "cart").value, 3);
  assert.equal(new Set(list.map((event) => event.event_id)).size, 6);

  // Who signs in is who the page says, with all that was done before.
  await page.goto(`${place}/kettle?user=ann`);
  await page.goto("about:blank");
  list = await until(7);
  assert.deepEqual([list[6].user_id, list[6].type, list[6].item_id], ["ann", "view", "kettle"]);
  const merges = (await journal()).filter((entry) => entry.entry === "merge");
  assert.deepEqual(merges.map(({ from, into }) => [from, into]), [[anonymous, "ann"]]);

  // Who does not want it tells nothing, and nothing is kept.
  for (const wish of ["globalPrivacyControl", "doNotTrack"]) {
    const shy = await chrome.newContext();
    await shy.addInitScript((wish) => Object.defineProperty(navigator, wish, { value: wish === "doNotTrack" ? "1" : true }), wish);
    const quiet = await shy.newPage();
    const asked = [];
    quiet.on("request", (request) => asked.push(`${request.method()} ${new URL(request.url()).pathname}`));
    await quiet.goto(`${place}/secret`);
    await quiet.click("#cup");
    await quiet.evaluate(() => window.sequor("cart", "secret"));
    assert.equal(await quiet.evaluate(() => localStorage.length), 0);
    await quiet.goto("about:blank");
    assert.ok(!asked.some((one) => one.startsWith("POST")), asked.join());
    await shy.close();
  }
  // Had one of them told anything it would stand before this.
  await page.goto(`${place}/last`);
  await page.goto("about:blank");
  list = await until(8);
  assert.deepEqual(told(list.slice(7)), ["view last"]);
  assert.ok(![anonymous, "ann"].includes(list[7].user_id), "who signed out is a new visitor");
  assert.equal((await journal()).some((entry) => JSON.stringify(entry).includes("secret")), false);
} finally {
  await chrome.close();
  shop.close();
}
