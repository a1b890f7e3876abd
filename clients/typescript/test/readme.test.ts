/** Runs the examples of the README and of docs/clients.md. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
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

/** The examples of a page, which is named from the folder `clients`. */
function examples(page: string): string[] {
  const text = readFileSync(new URL(`../../../${page}`, import.meta.url), "utf8");
  return [...text.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1] ?? "");
}

const pages = { "typescript/README.md": 4, "../docs/clients.md": 1 };

for (const [page, count] of Object.entries(pages)) {
  test(`${page} has ${count} examples`, () => assert.equal(examples(page).length, count));

  examples(page).forEach((example, index) => {
    test(`example ${index + 1} of ${page} prints what it says`, async () => {
      const module = new URL("../src/index.js", import.meta.url).href;
      const code = example
        .replace('"@sequor/client"', JSON.stringify(module))
        .replace("http://localhost:8080", daemon.url);
      const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", code]);
      const promised = [...example.matchAll(/^ *console\.log\(.*\); \/\/ (.*)$/gm)].map((match) => match[1]);
      if (promised.length > 0) assert.equal(stdout.trim(), promised.join("\n"));
      else assert.ok(!["", "[]"].includes(stdout.trim()), stdout);
    });
  });
}
