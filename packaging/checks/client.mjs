// A check of the installed TypeScript client against the daemon at SEQUOR_URL.
import assert from "node:assert/strict";
import { SequorClient, SequorError } from "@sequor/client";

// On a slow machine, a list that waits for its events gets several 503.
const client = new SequorClient({ baseUrl: process.env.SEQUOR_URL, retry: { attempts: 100, maxDelay: 1000 } });
const receipt = await client.sendEvents([
  { user_id: "node-check", type: "view", item_id: "kettle" },
  { user_id: "node-check", type: "cart", item_id: "cup" },
]);
const list = await client.recommendations("node-check", { limit: 5 }, { after: receipt });
assert.equal(list.items.length, 5);
await assert.rejects(
  client.recommendations("node-check", { limit: 0 }),
  (error) => error instanceof SequorError && error.field === "limit",
);
