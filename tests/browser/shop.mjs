// A newcomer's walk through the demo's shop, in a real browser: node shop.mjs TOOLS SHOP API
//
// TOOLS holds node_modules and receives the screenshots. Exits with 1 at the first failure.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { browser } from "./chromium.mjs";

const [tools, shop, api] = process.argv.slice(2);
const axe = readFileSync(createRequire(path.join(tools, "package.json")).resolve("axe-core/axe.min.js"), "utf8");
const report = (check) => console.log(`checked: ${check}`);
const chrome = await browser(tools);

/** A new visitor. */
async function visitor(prepare) {
  const context = await chrome.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(60_000);
  await prepare?.(context);
  const faults = [];
  context.on("request", (request) => {
    if (![new URL(shop).host, new URL(api).host].includes(new URL(request.url()).host)) faults.push(`external request to ${request.url()}`);
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${page.url()}: ${error}`));
  page.on("console", (message) => message.type() === "error" && faults.push(`${page.url()}: ${message.text()}`));
  return { context, page, faults };
}

const { context, page, faults } = await visitor((context) => context.addInitScript(() => {
  // The panel shows movements and their causes until the next list.
  const note = () => {
    for (const sign of [".move:not(:empty)", "small"]) if (document.querySelector(`#panel-list ${sign}`)) sessionStorage.setItem(sign, "seen");
  };
  new MutationObserver(note).observe(document, { subtree: true, childList: true });
}));
const ids = (selector) => page.locator(`${selector} .sequor-card`).evaluateAll((all) => all.map((card) => card.dataset.sequorItem));
const shown = async (placement) => {
  const list = `[data-sequor-placement=${placement}]:not([data-sequor-recommendation])`;
  await page.locator(list).first().scrollIntoViewIfNeeded();
  await page.locator(`${list}[data-sequor-state=shown]`).first().waitFor();
  return list;
};
/** The page without faults of accessibility, in both colour schemes and at two widths. */
async function audit(name) {
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    for (const width of [390, 1280]) {
      await page.setViewportSize({ width, height: 900 });
      const contentWidth = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(contentWidth <= width, `${name} is ${contentWidth} px wide in a viewport of ${width} px`);
      // Lists that are not in view yet.
      for (let top = 0; top < 4000; top += 600) await page.evaluate((top) => scrollTo(0, top), top);
      await page.waitForFunction(() => [...document.querySelectorAll("main [data-sequor-placement]:not([data-sequor-recommendation])")].every((list) => list.dataset.sequorState));
      await page.evaluate(() => scrollTo(0, 0));
      await page.waitForFunction(() => [...document.images].filter((image) => image.loading != "lazy").every((image) => image.complete));
      await page.screenshot({ path: path.join(tools, `shop-${name}-${width}-${colorScheme}.png`) });
    }
    const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
    assert.deepEqual(result.violations.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`), [], `${name}, ${colorScheme}`);
  }
  assert.deepEqual(faults, [], name);
}

try {
  // Home page: a visitor without events gets popular products, with titles, prices and pictures.
  const response = await page.goto(shop);
  assert.match(response.headers()["content-security-policy"], /default-src 'none'; script-src 'self' http/);
  assert.ok(!response.headers()["content-security-policy"].includes("unsafe"));
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "the first tab stop is the skip link");
  const home = await shown("home");
  const firstList = await ids(home);
  assert.equal(firstList.length, 8);
  const card = page.locator(`${home} .sequor-card`).first();
  assert.match(await card.innerText(), /\w+ \w+ \w+[\s\S]*€\d/);
  await page.waitForFunction((home) => [...document.querySelectorAll(`${home} img`)].every((image) => image.naturalWidth > 0), home);
  await page.locator("#panel-list a").first().waitFor();
  await audit("home");
  report("a newcomer sees popular products");

  // A category, found from the home page.
  await page.getByRole("link", { name: "Categories" }).click();
  await page.locator(".tiles a").filter({ hasText: "Tea" }).first().click();
  await page.getByRole("heading", { name: "Tea", level: 1 }).waitFor();
  const popular = await shown("popular");
  assert.ok((await ids(popular)).every((id) => id.startsWith("tea-")), "the list has a filter");
  assert.ok((await page.locator(".grid li").count()) > 0);
  await audit("category");
  await page.locator(".grid a").first().click();
  report("a category has its products, and a list of them");

  // Product pages: the panel shows the view, and the lists move.
  await page.waitForURL(/\/products\//);
  const product = page.url().split("/").pop();
  await page.locator("#panel-events .kind", { hasText: "view" }).first().waitFor();
  const title = await page.locator("h1").innerText();
  await page.locator("#panel-events li", { hasText: title }).first().waitFor();
  const similar = await ids(await shown("similar"));
  assert.ok(similar.length > 0 && !similar.includes(product));
  await shown("next");
  assert.ok((await page.locator("article.tile").count()) > 0, "the template of the page makes the cards");
  await audit("product");
  const visitorId = await page.evaluate(() => localStorage.sequor);
  for (let step = 0; step < 3; step += 1) {
    const before = page.url();
    await shown("similar");
    await page.locator("[data-sequor-placement=similar] a").first().click();
    await page.waitForURL((address) => address.href !== before);
    await page.locator("#panel-events li", { hasText: await page.locator("h1").innerText() }).first().waitFor();
  }
  await page.locator("#panel-events .kind", { hasText: "click" }).first().waitFor();
  await page.waitForFunction(() => [".move:not(:empty)", "small"].every((sign) => sessionStorage.getItem(sign)));
  await page.goto(shop);
  assert.notDeepEqual(await ids(await shown("home")), firstList, "the list has moved");
  report("the lists move with the views");

  // The cart.
  await page.locator(`${home} a`).first().click();
  await page.getByRole("button", { name: "Add to cart" }).click();
  await page.getByRole("status").filter({ hasText: "is in your cart" }).waitFor();
  assert.equal(await page.locator("#cart-count").innerText(), "1");
  await page.locator("#panel-events .kind", { hasText: "cart" }).first().waitFor();
  await page.getByRole("link", { name: /^Cart/ }).click();
  await shown("cart");
  assert.equal(await page.locator("#cart li").count(), 1);
  await audit("cart");
  await page.getByRole("button", { name: "Buy" }).click();
  await page.getByText("Thank you!").waitFor();
  await page.locator("#panel-events .kind", { hasText: "purchase" }).first().waitFor();
  report("a product is put into the cart and bought");

  assert.equal((await page.goto(`${shop}/nowhere`)).status(), 404);
  faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes("404")));
  await audit("missing");
  await page.getByRole("button", { name: "Start as a new visitor" }).click();
  await page.waitForFunction((before) => localStorage.sequor && localStorage.sequor != before, visitorId);
  await context.close();

  // A visitor who does not want to be tracked still gets lists.
  const private_ = await visitor((context) => context.addInitScript(() => Object.defineProperty(navigator, "globalPrivacyControl", { value: true })));
  const sent = [];
  private_.context.on("request", (request) => sent.push(`${request.method()} ${new URL(request.url()).pathname}`));
  await private_.page.goto(`${shop}/products/${product}`);
  await private_.page.getByText("asks not to be tracked").waitFor();
  await private_.page.locator("[data-sequor-placement=similar][data-sequor-state=shown]").waitFor();
  assert.ok(!sent.some((call) => /\/v1\/(users|events|impressions)/.test(call)), sent.join());
  assert.deepEqual(private_.faults, []);
  await private_.context.close();
  report("a visitor who opts out gets lists, and is not known");
} finally {
  await chrome.close();
}
