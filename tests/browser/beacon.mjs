// Tests the beacon in a real browser, on pages of a different origin than the daemon: node beacon.mjs TOOLS ADMIN API
//
// Exits with 1 at the first failure.
import assert from "node:assert/strict";
import { createServer } from "node:http";

import { browser } from "./chromium.mjs";

const [tools, admin, api] = process.argv.slice(2);

/** A shop: each path is an item page with two other items to click on and a search form. */
const shop = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://shop");
  const user = searchParams.get("user");
  response.setHeader("content-type", "text/html");
  response.end(`<!doctype html><title>${pathname}</title>
    <script src="${api}/v1/capture.js" ${user ? `data-user="${user}"` : ""} defer></script>
    <body ${pathname === "/" ? "" : `data-sequor-item="${pathname.slice(1)}"`}>
    <p id="nothing">nothing</p>
    <ul><li data-sequor-item="cup"><b id="cup">a cup</b></li><li data-sequor-item="pot"><a id="pot" href="/pot">a pot</a></li></ul>
    <form data-sequor-search="words" action="/"><input name="words"></form>`);
});
await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
const shopUrl = `http://127.0.0.1:${shop.address().port}`;

const journal = async () => (await (await fetch(`${admin}/admin/journal`)).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
const events = async () => (await journal()).filter((entry) => entry.entry === "event");
const summaries = (list) => list.map((event) => `${event.type} ${event.item_id ?? event.properties?.query}`);
/** Waits for `count` events in the journal, because a beacon gets no response to wait for. */
async function until(count) {
  for (let round = 0; round < 1200; round += 1) {
    const list = await events();
    if (list.length >= count) return list;
    await new Promise((later) => setTimeout(later, 50));
  }
  assert.fail(`timed out waiting for ${count} events: ${summaries(await events())}`);
}

const chrome = await browser(tools);
try {
  const context = await chrome.newContext();
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  await page.goto(`${shopUrl}/tea`);
  await page.click("#nothing");
  await page.click("#cup");
  await page.evaluate(() => window.sequor("cart", "tea", 3));
  // The click and the search leave the page before the beacon's next regular transfer.
  await page.click("#pot");
  await page.waitForURL(`${shopUrl}/pot`);
  await page.fill("input", "green tea");
  await page.press("input", "Enter");
  await page.waitForURL(/words/);
  let list = await until(6);
  assert.deepEqual(summaries(list).sort(), ["cart tea", "click cup", "click pot", "search green tea", "view pot", "view tea"]);
  const [anonymous] = new Set(list.map((event) => event.user_id));
  assert.ok(list.every((event) => event.user_id === anonymous) && /^[0-9a-f]{32}$/.test(anonymous), "one anonymous id per visitor");
  assert.equal(list.find((event) => event.type === "cart").value, 3);
  assert.equal(new Set(list.map((event) => event.event_id)).size, 6);

  // After sign-in, events have the page's user id, and the anonymous id is merged into it.
  await page.goto(`${shopUrl}/kettle?user=ann`);
  await page.goto("about:blank");
  list = await until(7);
  assert.deepEqual([list[6].user_id, list[6].type, list[6].item_id], ["ann", "view", "kettle"]);
  const merges = (await journal()).filter((entry) => entry.entry === "merge");
  assert.deepEqual(merges.map(({ from, into }) => [from, into]), [[anonymous, "ann"]]);

  // With an opt-out signal, the beacon sends and stores nothing.
  for (const signal of ["globalPrivacyControl", "doNotTrack"]) {
    const optedOut = await chrome.newContext();
    await optedOut.addInitScript((signal) => Object.defineProperty(navigator, signal, { value: signal === "doNotTrack" ? "1" : true }), signal);
    const page = await optedOut.newPage();
    const requests = [];
    page.on("request", (request) => requests.push(`${request.method()} ${new URL(request.url()).pathname}`));
    await page.goto(`${shopUrl}/secret`);
    await page.click("#cup");
    await page.evaluate(() => window.sequor("cart", "secret"));
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    await page.goto("about:blank");
    assert.ok(!requests.some((one) => one.startsWith("POST")), requests.join());
    await optedOut.close();
  }
  // An event of the opted-out visitors would precede this one in the journal.
  await page.goto(`${shopUrl}/last`);
  await page.goto("about:blank");
  list = await until(8);
  assert.deepEqual(summaries(list.slice(7)), ["view last"]);
  assert.ok(![anonymous, "ann"].includes(list[7].user_id), "after sign-out the visitor gets a new anonymous id");
  assert.equal((await journal()).some((entry) => JSON.stringify(entry).includes("secret")), false);
} finally {
  await chrome.close();
  shop.close();
}
