/** Runs the examples of the README and of docs/clients.md. */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { SequorClient } from "../src/index.js";
import { Daemon } from "./harness.js";

const daemon = new Daemon();

before(async () => {
  await daemon.start();
  await new SequorClient({ baseUrl: daemon.url }).putItem("teapot", { categories: ["pots"] });
});

after(async () => {
  await daemon.stop();
  daemon.remove();
});

/** An example that runs with the compiled client and the daemon under test. */
function runnable(example: string): string {
  const module = new URL("../src/index.js", import.meta.url).href;
  return example.replace('"@sequor/client"', JSON.stringify(module)).replace("http://localhost:8080", daemon.url);
}

/** The examples of a page, which is named from the folder `clients`. */
function examples(page: string): string[] {
  const text = readFileSync(new URL(`../../../${page}`, import.meta.url), "utf8");
  return [...text.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1] ?? "");
}

const pages = { "typescript/README.md": 5, "../docs/clients.md": 1 };

for (const [page, count] of Object.entries(pages)) {
  test(`${page} has ${count} examples`, () => assert.equal(examples(page).length, count));

  examples(page).forEach((example, index) => {
    if (example.includes("process.once")) return;
    test(`example ${index + 1} of ${page} prints what it says`, async () => {
      const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", runnable(example)]);
      const promised = [...example.matchAll(/^ *console\.log\(.*\); \/\/ (.*)$/gm)].map((match) => match[1]);
      if (promised.length > 0) assert.equal(stdout.trim(), promised.join("\n"));
      else assert.ok(!["", "[]"].includes(stdout.trim()), stdout);
    });
  });
}

const ENDS = {
  SIGTERM: { end: "process.kill(process.pid, 'SIGTERM');", code: 0 },
  SIGINT: { end: "process.kill(process.pid, 'SIGINT');", code: 130 },
  "an uncaught exception": { end: "setTimeout(() => { throw new Error('defect'); });", code: 1 },
  "an unhandled rejection": { end: "void Promise.reject(new Error('defect'));", code: 1 },
};

for (const [name, { end, code }] of Object.entries(ENDS)) {
  test(`the recipe of the README sends the queue after ${name}`, async () => {
    const recipe = examples("typescript/README.md").find((example) => example.includes("process.once"))!;
    const user = `end-${code}-${name.length}`;
    // The interval keeps the process running, as a server does.
    const program = `${runnable(recipe)}
      setInterval(() => {}, 1000);
      client.track({ user_id: "${user}", type: "view", item_id: "tea" });
      ${end}`;
    const ended = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    ended.stderr.on("data", (text) => (stderr += text));
    assert.deepEqual(await once(ended, "close"), [code, null], stderr);
    assert.equal(stderr.includes("Error: defect"), code === 1, stderr);
    assert.equal((await daemon.storedEventIds(user)).length, 1);
  });
}
