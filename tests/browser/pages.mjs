// Tests the admin pages in a real browser: node pages.mjs TOOLS ADMIN API USER SCRATCH
//
// TOOLS holds node_modules and receives the screenshots; ADMIN and API are the daemon's URLs; USER has a session; SCRATCH is a directory for a backup.
// Prints one line per check and exits with 1 at the first failure.
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
  if (!["127.0.0.1", "localhost", "[::1]"].includes(new URL(request.url()).hostname)) faults.push(`external request to ${request.url()}`);
});
const page = await context.newPage();
page.on("pageerror", (error) => faults.push(`${page.url()}: ${error}`));
page.on("console", (message) => {
  if (message.type() === "error") faults.push(`${page.url()}: ${message.text()}`);
});
const assertNoErrors = () => assert.deepEqual(faults, []);
const report = (check) => console.log(`checked: ${check}`);
const text = (selector) => page.locator(selector).first().innerText();

// Entry page.
await page.goto(`${admin}/`);
assert.equal(page.url(), `${admin}/console`);
await page.locator("#pulse.live").waitFor();
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "the first tab stop is the skip link");
assertNoErrors();
report("the overview is live");

// Live updates.
await page.evaluate(() => (window.notReloaded = true));
const entries = async () => Number((await text('[data-live="journal.next_offset"]')).replaceAll(",", ""));
const before = await entries();
await send(`${api}/v1/events`, Array.from({ length: 7 }, (_, number) => ({ user_id: user, type: "view", item_id: `late${number % 3}` })));
await page.waitForFunction((minimum) => Number(document.querySelector('[data-live="journal.next_offset"]').textContent.replaceAll(",", "")) >= minimum, before + 7);
assert.equal(await page.evaluate(() => window.notReloaded), true, "no reload");
report("new events appear without a reload");
await page.waitForFunction(() => document.querySelectorAll("#throughput .plot path.line").length === 2);
report("charts are updated");

// Session search and inspection.
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
assert.ok(known.answer.items.some((item) => item.explanation.moved_by), "an item has an influencing event");
assertNoErrors();
report("a session is found and inspected");

// Backup.
await page.goto(`${admin}/console/store`);
const target = path.join(scratch, "from the page");
await page.getByLabel("Absolute path").fill(target);
await page.getByRole("button", { name: "Back up" }).click();
await page.locator('form[data-post="/admin/backup"] output[data-state="good"]', { hasText: "Backed up" }).waitFor();
assert.ok(existsSync(path.join(target, "store")), "the backup exists");
await page.getByRole("button", { name: "Back up" }).click();
await page.locator('form[data-post="/admin/backup"] output[data-state="bad"]').waitFor();
// The browser logs the expected 409 as an error.
assert.equal(faults.splice(0).filter((fault) => !fault.includes("409")).length, 0);
report("a backup is made, and a second one to the same path is rejected");

// Model rollback.
await page.goto(`${admin}/console/model`);
const checkpointCount = () => page.locator("#checkpoints tbody tr").count();
for (let round = 0; round < 2; round += 1) {
  const before = await checkpointCount();
  await send(`${api}/v1/events`, Array.from({ length: 300 }, (_, number) => ({ user_id: `roller${number % 9}`, type: "view", item_id: `late${(number + round) % 7}` })));
  await page.getByRole("button", { name: "Write a checkpoint" }).click();
  await page.waitForFunction((before) => document.querySelectorAll("#checkpoints tbody tr").length > before, Math.min(before, 1));
}
await page.locator("#checkpoints tbody tr").nth(1).getByRole("button").click();
await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
assert.equal((await json(`${admin}/admin/model`)).acts.filter((act) => act.act === "rollback").length, 0, "no rollback without confirmation");
await page.locator("#checkpoints tbody tr").nth(1).getByRole("button").click();
await page.getByRole("dialog").getByRole("button", { name: "Continue" }).click();
await page.locator('#acts tr', { hasText: "rollback" }).first().waitFor();
assert.equal((await json(`${admin}/admin/model`)).acts.filter((act) => act.act === "rollback").length, 1);
assertNoErrors();
report("a model is rolled back");

// Placements and rules are created, changed, previewed and deleted, with the keyboard where a user would use it.
const item = known.answer.items[0].item_id;
const last = known.answer.items.at(-1).item_id;
const details = { title: "Green tea", image: `${admin}/console/icon.svg` };
await fetch(`${api}/v1/items/${last}`, { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(details) });
await page.goto(`${admin}/console/placements`);
const placementForm = page.locator("#placement-editor form");
const ruleForm = page.locator("#rule-editor form");
await page.getByLabel("Name", { exact: true }).fill("home");
await placementForm.getByLabel("Limit", { exact: true }).fill("0");
await placementForm.getByLabel("Boosts").fill("1.5 available\n2 price <");
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
await page.locator("#placement-limit[aria-invalid=true]").waitFor();
assert.match(await text("#placement-limit-problem"), /1 to 1000/);
assert.equal(await page.evaluate(() => document.activeElement.id), "placement-limit", "the invalid field has the focus");
await page.keyboard.press("Control+A");
await page.keyboard.type("5");
await page.keyboard.press("Enter");
await page.locator("#placement-boosts[aria-invalid=true]").waitFor();
assert.match(await text("#placement-boosts-problem"), /column 8/);
await placementForm.getByLabel("Boosts").fill("1.5 available");
await placementForm.getByRole("button", { name: "Save" }).click();
await placementForm.locator('output[data-state="good"]', { hasText: "Saved home." }).waitFor();
assert.deepEqual(await json(`${api}/v1/placements/home`), { type: "next-items", limit: 5, boosts: [{ filter: "available", factor: 1.5 }] });
await page.getByRole("button", { name: "Edit home" }).waitFor();
report("a placement is created, and errors are shown at their fields");
await ruleForm.getByLabel("Id", { exact: true }).fill("push");
await ruleForm.getByLabel("Item", { exact: true }).fill(last);
await ruleForm.getByLabel("Position").fill("2");
await ruleForm.getByLabel(/^User/).fill(user);
await ruleForm.getByLabel("Placement", { exact: true }).fill("home");
await ruleForm.getByRole("button", { name: "Preview" }).click();
await ruleForm.locator('output[data-state="good"]', { hasText: "The rule applies." }).waitFor();
const second = page.locator("#preview-with li").nth(1);
assert.match(await second.innerText(), /Green tea/);
assert.match(await second.innerText(), /promoted, new/);
await page.waitForFunction(() => document.querySelector("#preview-with li:nth-child(2) img").naturalWidth > 0);
assert.equal(await page.locator("#preview-without li").count(), 5);
assert.match(await page.locator("#preview-without li").last().innerText(), /drops out/);
assert.deepEqual((await json(`${api}/v1/rules`)).rules, {}, "a preview stores nothing");
const audit = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
assert.deepEqual(audit.violations.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`), [], "the preview");
await page.screenshot({ path: path.join(tools, "preview.png"), fullPage: true });
report("a rule is previewed side by side");
await ruleForm.getByRole("button", { name: "Save" }).click();
await ruleForm.locator('output[data-state="good"]', { hasText: "Saved push." }).waitFor();
await page.getByRole("button", { name: "Edit push" }).focus();
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.activeElement.id === "rule-rule");
assert.equal(await ruleForm.getByLabel("Position").inputValue(), "2");
await ruleForm.getByLabel("Effect").selectOption("hide");
await ruleForm.getByLabel("Filter of the items").fill("price < cheap");
await ruleForm.getByRole("button", { name: "Save" }).click();
await page.locator("#rule-filter[aria-invalid=true]").waitFor();
assert.match(await text("#rule-filter-problem"), /column 9/);
await ruleForm.getByLabel("Filter of the items").fill("price < 1");
await ruleForm.getByRole("button", { name: "Save" }).click();
await ruleForm.locator('output[data-state="good"]', { hasText: "Saved push." }).waitFor();
assert.deepEqual((await json(`${api}/v1/rules/push`)).consequence, { hide: { filter: "price < 1" } });
for (const [form, path] of [[ruleForm, "rules/push"], [placementForm, "placements/home"]]) {
  if (path !== "rules/push") await page.getByRole("button", { name: "Edit home" }).click();
  await page.waitForFunction((key) => ["placement-placement", "rule-rule"].some((id) => document.getElementById(id).value === key), path.split("/")[1]);
  await form.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Continue" }).click();
  await form.locator('output[data-state="good"]', { hasText: "Deleted" }).waitFor();
  assert.equal((await fetch(`${api}/v1/${path}`)).status, 404);
}
// The browser logs the expected 400s as errors.
assert.equal(faults.splice(0).filter((fault) => !fault.includes("400")).length, 0);
report("a rule and a placement are changed and deleted");

// Every page, in both colour schemes and at two widths.
const pages = { overview: "", sessions: "/sessions", session: `/sessions/${user}`, items: "/items", item: `/items/${item}`, placements: "/placements", attribution: "/attribution", model: "/model", recall: "/recall", store: "/store", cluster: "/cluster" };
for (const [name, subpath] of Object.entries(pages)) {
  const answer = await page.goto(`${admin}/console${subpath}`);
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
      const contentWidth = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(contentWidth <= width, `${name} is ${contentWidth} px wide in a viewport of ${width} px`);
      await page.screenshot({ path: path.join(tools, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
    // Evaluated through the browser's debugger, because the page's CSP blocks injected scripts.
    const audit = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
    const serious = audit.violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
    const violations = serious.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
    assert.deepEqual(violations, [], `${name}, ${colorScheme}`);
  }
  assertNoErrors();
  report(`${name}: light and dark, 390 and 1280`);
}
// The API description, without external requests.
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
    const contentWidth = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(contentWidth <= width, `the description is ${contentWidth} px wide in a viewport of ${width} px`);
    await page.screenshot({ path: path.join(tools, `docs-${width}-${colorScheme}.png`) });
  }
  const audit = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
  const serious = audit.violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
  assert.deepEqual(serious.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`), [], `docs, ${colorScheme}`);
}
assertNoErrors();
report("the API description: offline, light and dark, 390 and 1280");
const missing = await page.goto(`${admin}/console/sessions/nobody-by-this-name`);
assert.equal(missing.status(), 404);
assert.equal(await text("h1"), "The user is unknown");
await chrome.close();
