// Tests the documented HTML lines in a web page, unchanged: node readme.mjs TOOLS ADMIN API LINES
//
// The browser resolves the documented address to the daemon. Exits with 1 at the first failure.
import assert from "node:assert/strict";
import { createServer } from "node:http";

import { browser } from "./chromium.mjs";

const [tools, admin, api, lines] = process.argv.slice(2);

const shop = createServer((request, response) => {
  response.setHeader("content-type", "text/html");
  response.end(request.url === "/tea" ? `<!doctype html><meta charset="utf-8"><title>tea</title>${lines}` : "<!doctype html><title>another page</title>");
});
await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));

const journal = async () => (await (await fetch(`${admin}/admin/journal?only=event`)).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
async function until(count) {
  for (let round = 0; round < 1200; round += 1) {
    const list = await journal();
    if (list.length >= count) return list;
    await new Promise((later) => setTimeout(later, 50));
  }
  assert.fail(`timed out waiting for ${count} events: ${JSON.stringify(await journal())}`);
}

const chrome = await browser(tools, `--host-resolver-rules=MAP localhost:8080 ${new URL(api).host}`);
try {
  const page = await chrome.newPage();
  page.setDefaultTimeout(60_000);
  const teaPage = `http://127.0.0.1:${shop.address().port}/tea`;
  await page.goto(teaPage);
  await page.evaluate(() => window.sequor("cart", "tea", 4.5));
  await page.fill("input", "green");
  await page.press("input", "Enter");
  await page.waitForURL(/q=green/);
  await page.goto(teaPage);
  await page.click("a");
  await page.waitForURL(/cup/);
  const sent = (await until(5)).map((event) => `${event.user_id} ${event.type} ${event.item_id ?? event.properties.query}`);
  assert.deepEqual(sent.sort(), ["ann cart tea", "ann click cup", "ann search green", "ann view tea", "ann view tea"]);
} finally {
  await chrome.close();
  shop.close();
}
