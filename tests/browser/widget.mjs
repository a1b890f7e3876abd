// Tests the widget in a real browser, on pages of a different origin than the daemon: node widget.mjs TOOLS ADMIN API KEYED_API SETUP_KEY WRITE_KEY TOKEN
//
// Both daemons allow pages of http://shop.example. The second one requires keys: SETUP_KEY has all scopes of the API, WRITE_KEY the scope `write`, and TOKEN is a user token of ann. Exits with 1 at the first failure.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

import { browser } from "./chromium.mjs";

const [tools, admin, api, keyedApi, setupKey, writeKey, token] = process.argv.slice(2);
const axe = readFileSync(createRequire(path.join(tools, "package.json")).resolve("axe-core/axe.min.js"), "utf8");

/** The body of a page, by path. `scripts` are the tags of the beacon and of the widget. */
const scripts = (of = api, beacon = "", widget = "") => `<script src="${of}/v1/capture.js" ${beacon} defer></script><script src="${of}/v1/widget.js" ${widget} defer></script>`;
const list = (attributes = "", content = "", placement = "popular") => `<div id="list" data-sequor-placement="${placement}" data-currency="EUR" ${attributes}>${content}</div>`;
const pages = {
  "/product": () => `${scripts()}<h1>tea</h1><p class="tall">A long text.</p>${list('data-heading="You may also like"', "nothing here")}`,
  "/similar": () => `${scripts()}<h1>tea</h1>${list('data-item="tea"', "", "product")}`,
  "/template": () => `<script src="/hook.js"></script>${scripts()}<h1>tea</h1>${list("", '<template><li class="own"><h2><a data-field="url"><b data-field="title"></b></a></h2><img data-field="image"><i data-field="brand"></i><s data-field="nothing"></s></li></template>')}`,
  "/image-only": () => `${scripts()}<h1>tea</h1>${list('data-template="picture"')}<template id="picture"><a data-field="url"><img data-field="image"></a></template>`,
  "/denied": () => `${scripts(api, 'data-consent="none"')}<h1>tea</h1>${list("")}`,
  "/session": () => `${scripts(api, 'data-consent="session"')}<h1>tea</h1>${list("")}`,
  "/without-beacon": () => `<script src="${api}/v1/widget.js" defer></script><h1>tea</h1>${list("")}`,
  "/unknown": () => `${scripts()}<h1>tea</h1>${list("", "<p>the shop's own list</p>", "unknown")}`,
  "/down": () => `${scripts("http://127.0.0.1:9")}<h1>tea</h1>${list("", "<p>the shop's own list</p>")}`,
  "/keyed": () => `${scripts(keyedApi, `data-user="ann" data-key="${writeKey}"`, `data-token="${token}"`)}<h1>tea</h1>${list("")}`,
  "/keyed-without-token": () => `${scripts(keyedApi, `data-user="ann" data-key="${writeKey}"`)}<h1>tea</h1>${list("", "<p>the shop's own list</p>")}`,
};
const files = {
  "/page.css": ["text/css", ".tall { height: 3000px } .sequor-card { font-style: normal }"],
  "/page.js": ["text/javascript", `window.seen = []; for (const name of ["shown", "click"]) addEventListener("sequor:" + name, (event) => { seen.push([name, event.detail]); if (window.stay && name == "click") event.preventDefault(); });`],
  "/hook.js": ["text/javascript", `window.Sequor = { card: (item, card) => { if (item.item_id == "evil") return false; if (item.item_id == "pot") throw Error("a bug of the page"); const note = document.createElement("em"); note.textContent = item.price < 5 ? " cheap" : " fine"; card.append(note); } };`],
  "/picture.svg": ["image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1H0z"/></svg>'],
};
const policy = `default-src 'none'; script-src 'self' ${api} ${keyedApi} http://127.0.0.1:9; connect-src ${api} ${keyedApi}; img-src 'self'; style-src 'self'; require-trusted-types-for 'script'`;
const shop = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://shop.example");
  const [type, text] = files[pathname] ?? ["text/html", `<!doctype html><html lang="en"><meta charset="utf-8"><title>shop</title><link rel="stylesheet" href="/page.css"><script src="/page.js"></script><body><main>${pages[pathname]?.() ?? "<h1>an item</h1>"}</main></body></html>`];
  response.setHeader("content-type", type);
  response.setHeader("content-security-policy", policy);
  response.end(text);
});
await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
const site = "http://shop.example";

const send = async (method, address, body, headers) => {
  const response = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${address}: ${text}`);
  return text && JSON.parse(text);
};
const journal = async (only) => (await (await fetch(`${admin}/admin/journal?only=${only}`)).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
/** Waits until `check` returns a value, because a beacon gets no response to wait for. */
async function until(what, check) {
  for (let round = 0; round < 1200; round += 1) {
    const found = await check();
    if (found) return found;
    await new Promise((later) => setTimeout(later, 50));
  }
  assert.fail(`timed out waiting for ${what}`);
}

const catalog = [
  { item_id: "tea", title: "Green tea", url: "/tea", image: "/picture.svg", price: 4.5, brand: "Leaf", categories: ["drinks"] },
  { item_id: "cup", title: "A cup", url: `${site}/cup`, image: `${site}/picture.svg`, price: 1234, brand: "Clay", categories: ["drinks"] },
  { item_id: "pot", title: "A pot", url: "/pot", price: 20, categories: ["drinks"] },
  { item_id: "evil", title: "<img src=x onerror=alert(1)><script>alert(2)</script>", url: "javascript:alert(3)", image: "javascript:alert(4)", brand: "\"><b>", categories: ["drinks"] },
  { item_id: "plain" },
];
const visits = catalog.flatMap(({ item_id }, number) => Array.from({ length: 12 - number }, (_, visitor) => ({ user_id: `visitor-${visitor}`, type: "view", item_id })));
for (const [of, headers] of [[api, {}], [keyedApi, { authorization: `Bearer ${setupKey}` }]]) {
  for (const item of catalog) await send("POST", `${of}/v1/items`, item, headers);
  await send("PUT", `${of}/v1/placements/popular`, { type: "trending", limit: 5 }, headers);
  await send("PUT", `${of}/v1/placements/product`, { type: "similar", limit: 3 }, headers);
  const { offset } = await send("POST", `${of}/v1/events`, visits, headers);
  await send("GET", `${of}/v1/users/visitor-1/recommendations?consent=session&min_offset=${offset}`, undefined, headers);
}

const chrome = await browser(tools, `--host-resolver-rules=MAP shop.example:80 127.0.0.1:${shop.address().port}`);
const report = (check) => console.log(`checked: ${check}`);

/** Opens a page in a context of its own, which is a new visitor. */
async function open(pathname, prepare) {
  const context = await chrome.newContext({ viewport: { width: 1000, height: 700 } });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const faults = [], requests = [];
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("dialog", (dialog) => faults.push(`dialog ${dialog.message()}`));
  page.on("request", (request) => {
    const { origin, pathname, search } = new URL(request.url());
    if ([api, keyedApi].includes(origin)) requests.push({ call: `${request.method()} ${pathname}`, search, body: request.postData() ?? "" });
  });
  await prepare?.(context, page);
  await page.goto(`${site}${pathname}`);
  const cards = page.locator("#list .sequor-card");
  const settled = (state) => page.locator(`#list[data-sequor-state=${state}]`).waitFor({ state: "attached" });
  const audit = async (what) => {
    const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
    assert.deepEqual(result.violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(" | ")}`), [], what);
  };
  const calls = (start) => requests.filter(({ call }) => call.startsWith(start));
  return { context, page, faults, requests, calls, cards, settled, audit };
}

try {
  {
    const { context, page, faults, calls, cards, settled, audit } = await open("/product");
    await page.waitForLoadState("load");
    await page.waitForTimeout(300);
    assert.deepEqual(calls("GET /v1/users"), [], "the list below the viewport is not loaded");
    assert.equal(await page.locator("#list").innerText(), "nothing here");
    await page.evaluate(() => scrollTo(0, 2000));
    await page.locator("#list").scrollIntoViewIfNeeded();
    await settled("shown");
    // The list is higher than its fallback.
    await cards.last().scrollIntoViewIfNeeded();
    assert.deepEqual(await cards.evaluateAll((all) => all.map((card) => card.dataset.sequorItem)), ["tea", "cup", "pot", "evil", "plain"]);
    assert.equal(await page.getByRole("list", { name: "You may also like" }).getByRole("listitem").count(), 5);
    assert.equal(await page.getByRole("heading", { name: "You may also like", level: 2 }).count(), 1);
    const [tea, cup, pot, evil, plain] = await cards.evaluateAll((all) => all.map((card) => {
      const [link, image] = ["a", "img"].map((name) => card.querySelector(name));
      return { text: card.innerText.split(/\n+/), href: link.getAttribute("href"), image: image && [image.getAttribute("src"), image.loading, image.getAttribute("alt")], html: card.querySelectorAll("script, b, [onerror]").length };
    }));
    assert.deepEqual(tea, { text: ["Green tea", "€4.50"], href: `${site}/tea`, image: [`${site}/picture.svg`, "lazy", ""], html: 0 });
    assert.deepEqual([cup.text, pot.image], [["A cup", "€1,234.00"], null]);
    assert.deepEqual(evil, { text: [catalog[3].title], href: null, image: null, html: 0 });
    assert.deepEqual([plain.text, plain.href], [["plain"], null]);
    await page.waitForFunction(() => document.querySelector("#list img").naturalWidth > 0);
    assert.ok((await cards.nth(1).boundingBox()).x > (await cards.nth(0).boundingBox()).x, "the default styles apply under the CSP");
    await audit("the list");
    report("a list of another origin's daemon, lazily, under a strict CSP, with hostile attributes");

    const [{ call, search }] = calls("GET /v1/users");
    const user = await page.evaluate(() => localStorage.sequor);
    assert.equal(call, `GET /v1/users/${user}/recommendations`, "the visitor is that of the beacon");
    assert.ok(search.includes("consent=session"), search);
    const recommendation = await page.evaluate(() => seen.find(([name]) => name == "shown")[1].recommendation_id);
    const shown = await until("the impressions", async () => {
      const entries = (await journal("impression")).filter((entry) => entry.user_id === user);
      const items = entries.flatMap((entry) => entry.items.map(({ item_id }) => item_id));
      return items.length === 5 && { entries, items };
    });
    assert.deepEqual(shown.items.sort(), ["cup", "evil", "plain", "pot", "tea"]);
    assert.ok(shown.entries.every((entry) => entry.recommendation_id === recommendation && entry.placement === "popular"), "the request itself is no impression");
    report("what was in view is an impression");

    await page.evaluate(() => (window.stay = true));
    await cards.nth(0).click();
    assert.equal(new URL(page.url()).pathname, "/product", "the page prevents the navigation");
    await page.evaluate(() => (window.stay = false));
    await page.keyboard.press("Tab");
    await page.locator("#list a").nth(1).focus();
    await page.keyboard.press("Enter");
    await page.waitForURL(`${site}/cup`);
    const clicks = await until("the clicks", async () => {
      const events = (await journal("event")).filter((event) => event.user_id === user && event.type === "click");
      return events.length === 2 && events;
    });
    assert.deepEqual(clicks.map((event) => [event.item_id, event.recommendation_id]), [["tea", recommendation], ["cup", recommendation]]);
    const row = await until("the report", async () => {
      const { rows } = await send("GET", `${api}/v1/reports/attribution?by=placement`);
      return rows.find(({ group, clicks }) => group === "popular" && clicks === 2);
    });
    assert.equal(row.impressions, 5);
    assert.deepEqual(faults, []);
    report("clicks, also by keyboard, are attributed to the list");
    await context.close();
  }
  {
    const { context, page, faults, calls, cards, settled } = await open("/similar");
    await settled("shown");
    assert.equal(await page.locator("#list [data-sequor-item=tea]").count(), 0, "the context item is left out");
    const ids = () => page.evaluate(() => seen.filter(([name]) => name == "shown").map(([, detail]) => detail.recommendation_id));
    await page.evaluate(() => document.querySelector("#list").setAttribute("data-item", "tea"));
    await page.locator("#list a").first().focus();
    const focused = await page.evaluate(() => document.activeElement.closest("[data-sequor-item]").dataset.sequorItem);
    await page.evaluate(() => window.Sequor.refresh());
    await page.waitForFunction(() => seen.length == 2);
    assert.equal(await page.evaluate(() => document.activeElement.closest("[data-sequor-item]")?.dataset.sequorItem), focused, "the focus stays");
    await page.evaluate(() => (document.querySelector("#list").dataset.item = "cup"));
    await page.waitForFunction(() => seen.length == 3);
    assert.equal(await page.locator("#list [data-sequor-item=cup]").count(), 0);
    assert.equal(await cards.count(), 3);
    assert.deepEqual(calls("GET /v1/users").map(({ search }) => new URLSearchParams(search).get("item")), ["tea", "tea", "cup"]);
    assert.equal(new Set(await ids()).size, 3);
    // A new element of a single-page application.
    await page.evaluate(() => {
      const more = document.createElement("div");
      more.dataset.sequorPlacement = "popular";
      document.querySelector("main").append(more);
    });
    await page.waitForFunction(() => seen.length == 4);
    // An unknown item has no list, and a later item has one again.
    await page.evaluate(() => (document.querySelector("#list").dataset.item = "unknown"));
    await settled("fallback");
    assert.equal(await page.locator("#list").innerText(), "");
    await page.evaluate(() => (document.querySelector("#list").dataset.item = "tea"));
    await settled("shown");
    assert.ok(faults.every((fault) => fault.includes("404")), faults.join());
    report("the list follows the page's item");
    await context.close();
  }
  {
    const { context, page, faults, cards, settled, audit } = await open("/template");
    await settled("shown");
    assert.deepEqual(await cards.evaluateAll((all) => all.map((card) => [card.className, card.innerText.replace(/\s+/g, " ").trim()])), [["own sequor-card", "Green tea Leaf cheap"], ["own sequor-card", "A cup Clay fine"], ["own sequor-card", "A pot"], ["own sequor-card", "plain fine"]]);
    assert.equal(await page.locator("#list > template").count(), 1);
    assert.equal(await page.locator("#list s").count(), 0);
    await audit("the list of a template");
    assert.equal(faults.length, 1);
    assert.match(faults[0], /a bug of the page/);
    await context.close();
    const pictures = await open("/image-only");
    await pictures.settled("shown");
    assert.equal(await pictures.page.locator("#list img").first().getAttribute("alt"), "Green tea");
    await pictures.context.close();
    report("templates and the hook make the cards");
  }
  {
    const before = (await journal("event")).length + (await journal("impression")).length;
    for (const [pathname, signal] of [["/denied"], ["/without-beacon"], ["/product", "globalPrivacyControl"], ["/product", "doNotTrack"]]) {
      const { context, page, faults, requests, cards, settled } = await open(pathname, (context) => signal && context.addInitScript((signal) => Object.defineProperty(navigator, signal, { value: signal === "doNotTrack" ? "1" : true }), signal));
      await page.locator("#list").scrollIntoViewIfNeeded();
      await settled("shown");
      await page.waitForTimeout(1500);
      await cards.nth(0).click();
      await page.waitForURL(`${site}/tea`);
      assert.deepEqual(await page.evaluate(() => [localStorage.length, document.cookie]), [0, ""]);
      const sent = requests.filter(({ call }) => !call.endsWith(".js"));
      assert.deepEqual(sent.map(({ call }) => call), ["POST /v1/recommendations"], pathname);
      assert.deepEqual(JSON.parse(sent[0].body), { placement: "popular", details: true, items: [], exclude: [] });
      assert.deepEqual(faults, []);
      await context.close();
    }
    assert.equal((await journal("event")).length + (await journal("impression")).length, before);
    const { context, page, calls, settled } = await open("/session");
    await settled("shown");
    const [reported] = await until("the report", () => calls("POST /v1/impressions").length > 0 && calls("POST /v1/impressions"));
    assert.equal(JSON.parse(reported.body).consent, "session");
    const user = await page.evaluate(() => localStorage.sequor);
    assert.ok((await journal("impression")).every((entry) => entry.user_id !== user));
    await context.close();
    report("without consent, nothing about the visitor is stored or sent");
  }
  {
    const own = "the shop's own list";
    const unknown = await open("/unknown");
    await unknown.settled("fallback");
    assert.equal(await unknown.page.locator("#list").innerText(), own);
    assert.ok(unknown.faults.every((fault) => fault.includes("404")), unknown.faults.join());
    await unknown.context.close();
    const down = await open("/down");
    await down.page.waitForLoadState("load");
    assert.equal(await down.page.locator("#list").innerText(), own);
    assert.ok(down.faults.every((fault) => fault.includes("ERR_")), down.faults.join());
    await down.context.close();
    // The daemon stops after the scripts have been loaded.
    const stopped = await open("/product", (context) => context.route("**/recommendations*", (route) => route.abort()));
    await stopped.page.locator("#list").scrollIntoViewIfNeeded();
    await stopped.settled("fallback");
    assert.equal(await stopped.page.locator("#list").innerText(), "nothing here");
    await stopped.context.unroute("**/recommendations*");
    await stopped.page.evaluate(() => window.Sequor.refresh());
    await stopped.settled("shown");
    await stopped.context.close();
    report("without the daemon, the page keeps its own content");
  }
  {
    const { context, faults, calls, settled } = await open("/keyed");
    await settled("shown");
    assert.equal(calls("GET /v1/users/ann/recommendations").length, 1);
    assert.deepEqual(faults, []);
    await context.close();
    const without = await open("/keyed-without-token");
    await without.settled("fallback");
    assert.ok(without.faults.every((fault) => fault.includes("401")), without.faults.join());
    await without.context.close();
    report("an API with keys needs the visitor's token");
  }
} finally {
  await chrome.close();
  shop.close();
}
