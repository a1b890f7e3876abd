// The admin pages in a real browser: node pages.mjs TOOLS ADMIN API USER SCRATCH
//
// TOOLS holds node_modules and takes the pictures; ADMIN and API are the daemon's addresses; USER has a session; SCRATCH is a directory for a backup.
// Says what it looked at, line by line, and ends with 1 at the first thing that is wrong.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { browser } from "./chromium.mjs";

const [tools, admin, api, user, scratch] = process.argv.slice(2);
const fetched = createRequire(path.join(tools, "package.json"));
const axe = readFileSync(fetched.resolve("axe-core/axe.min.js"), "utf8");

const json = async (address, options) => (await fetch(address, options)).json();
const send = (path, body) => json(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

const chrome = await browser(tools);
const context = await chrome.newContext({ viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(60_000);
const faults = [];
context.on("request", (request) => {
  if (!["127.0.0.1", "localhost", "[::1]"].includes(new URL(request.url()).hostname)) faults.push(`asked ${request.url()}`);
});
const page = await context.newPage();
page.on("pageerror", (error) => faults.push(`${page.url()}: ${error}`));
page.on("console", (message) => {
  if (message.type() === "error") faults.push(`${page.url()}: ${message.text()}`);
});
const sound = () => assert.deepEqual(faults, []);
const looked = (what) => console.log(`looked: ${what}`);
const text = (selector) => page.locator(selector).first().innerText();

// The way in.
await page.goto(`${admin}/`);
assert.equal(page.url(), `${admin}/console`);
await page.locator("#pulse.live").waitFor();
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "the keyboard begins at the way to the content");
sound();
looked("the overview is live");

// It goes on by itself.
await page.evaluate(() => (window.same = true));
const entries = async () => Number((await text('[data-live="journal.next_offset"]')).replaceAll(",", ""));
const before = await entries();
await send(`${api}/v1/events`, Array.from({ length: 7 }, (_, number) => ({ user_id: user, type: "view", item_id: `late${number % 3}` })));
await page.waitForFunction((least) => Number(document.querySelector('[data-live="journal.next_offset"]').textContent.replaceAll(",", "")) >= least, before + 7);
assert.equal(await page.evaluate(() => window.same), true, "no reload");
looked("events show without a reload");
await page.waitForFunction(() => document.querySelectorAll("#throughput .plot path.line").length === 2);
looked("charts are drawn anew");

// A session is found and looked through.
await page.getByRole("navigation").getByRole("link", { name: "Sessions" }).click();
await page.getByLabel("User id begins with").fill(user);
await page.keyboard.press("Enter");
await page.getByRole("link", { name: user, exact: true }).click();
await page.getByRole("heading", { name: `Session of ${user}`, level: 1 }).waitFor();
const known = await json(`${admin}/admin/sessions/${user}`);
assert.equal(await page.locator(".strip li").count(), known.sequence.length);
assert.equal(await page.locator(".heat tbody tr").count(), known.hidden.vectors.length);
assert.deepEqual(await page.locator(".answer li > a").allInnerTexts(), known.answer.items.map((item) => item.item_id));
assert.equal(await page.locator(".source").count(), known.candidates.sources.filter((source) => source.items.length > 0).length);
assert.ok(known.answer.items.some((item) => item.explanation.moved_by), "a reason");
sound();
looked("a session is found and X-rayed");

// A backup is made.
await page.goto(`${admin}/console/store`);
const target = path.join(scratch, "from the page");
await page.getByLabel("Absolute path").fill(target);
await page.getByRole("button", { name: "Back up" }).click();
await page.locator('form[data-post="/admin/backup"] output[data-state="good"]', { hasText: "Backed up" }).waitFor();
assert.ok(existsSync(path.join(target, "store")), "the backup is there");
await page.getByRole("button", { name: "Back up" }).click();
await page.locator('form[data-post="/admin/backup"] output[data-state="bad"]').waitFor();
// The browser notes that this one was refused, as it should be.
assert.equal(faults.splice(0).filter((fault) => !fault.includes("409")).length, 0);
looked("a backup is made through the page, and a second into the same place refused");

// A model is rolled back.
await page.goto(`${admin}/console/model`);
const written = () => page.locator("#checkpoints tbody tr").count();
for (let round = 0; round < 2; round += 1) {
  const there = await written();
  await send(`${api}/v1/events`, Array.from({ length: 300 }, (_, number) => ({ user_id: `roller${number % 9}`, type: "view", item_id: `late${(number + round) % 7}` })));
  await page.getByRole("button", { name: "Write a checkpoint" }).click();
  await page.waitForFunction((there) => document.querySelectorAll("#checkpoints tbody tr").length > there, Math.min(there, 1));
}
await page.locator("#checkpoints tbody tr").nth(1).getByRole("button").click();
await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
assert.equal((await json(`${admin}/admin/model`)).acts.filter((act) => act.act === "rollback").length, 0, "nothing unless it is confirmed");
await page.locator("#checkpoints tbody tr").nth(1).getByRole("button").click();
await page.getByRole("dialog").getByRole("button", { name: "Continue" }).click();
await page.locator('#acts tr', { hasText: "rollback" }).first().waitFor();
assert.equal((await json(`${admin}/admin/model`)).acts.filter((act) => act.act === "rollback").length, 1);
sound();
looked("a model is rolled back through the page");

// Every page, in both colours and at both widths.
const item = known.answer.items[0].item_id;
const pages = { overview: "", sessions: "/sessions", session: `/sessions/${user}`, items: "/items", item: `/items/${item}`, model: "/model", recall: "/recall", store: "/store" };
for (const [name, at] of Object.entries(pages)) {
  const answer = await page.goto(`${admin}/console${at}`);
  assert.equal(answer.status(), 200, name);
  const headers = answer.headers();
  assert.match(headers["content-security-policy"], /default-src 'none'/);
  assert.ok(!headers["content-security-policy"].includes("unsafe"));
  assert.equal(headers["x-content-type-options"], "nosniff");
  await page.locator("#pulse.live").waitFor();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const width of [390, 1280]) {
      await page.setViewportSize({ width, height: 900 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${name} is ${wide} wide on ${width}`);
      await page.screenshot({ path: path.join(tools, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
    // Run in the browser's own hand: a page's policy lets no script in.
    const told = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
    const grave = told.violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
    const shown = grave.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
    assert.deepEqual(shown, [], `${name}, ${colorScheme}`);
  }
  sound();
  looked(`${name}: light and dark, 390 and 1280`);
}
// The description of the API, without a request to anywhere else.
await page.setViewportSize({ width: 1280, height: 900 });
const docs = await page.goto(`${api}/docs`);
assert.equal(docs.status(), 200);
assert.match(docs.headers()["content-security-policy"], /default-src 'none'/);
await page.getByText("/v1/events/validate").first().waitFor();
assert.match(await page.locator("#recommendations").textContent(), /API key with the scope read, as bearer or basic; this service requires none\./);
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  for (const width of [390, 1280]) {
    await page.setViewportSize({ width, height: 900 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `the description is ${wide} wide on ${width}`);
    await page.screenshot({ path: path.join(tools, `docs-${width}-${colorScheme}.png`) });
  }
  const told = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
  const grave = told.violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
  assert.deepEqual(grave.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`), [], `docs, ${colorScheme}`);
}
sound();
looked("the description of the API: offline, light and dark, 390 and 1280");
const lost = await page.goto(`${admin}/console/sessions/nobody-by-this-name`);
assert.equal(lost.status(), 404);
assert.equal(await text("h1"), "The user is unknown");
await chrome.close();
