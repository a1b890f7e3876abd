/** A daemon that is killed under load has every event once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SequorClient } from "../src/index.js";
import { Daemon, PATIENCE, waitUntil } from "./harness.js";

const EVENTS = 3000;

for (const accepted of [50, 1000]) {
  test(`events survive a kill after ${accepted} events`, async () => {
    const daemon = new Daemon();
    await daemon.start();
    const client = new SequorClient({
      baseUrl: daemon.url,
      retry: { baseDelay: 10, maxDelay: 100 },
      buffer: { maxBatch: 50, flushInterval: 50, capacity: 200, whenFull: "wait", closeTimeout: PATIENCE },
    });
    const restart = (async () => {
      await waitUntil("the daemon acknowledges events", () => client.buffer.stats.accepted >= accepted);
      await daemon.kill();
      await daemon.start();
    })();
    const ids = new Set<string>();
    for (let number = 0; number < EVENTS; number += 1) {
      const event_id = `e${number}`;
      ids.add(event_id);
      await client.track({ user_id: `u${number % 100}`, type: "view", item_id: `i${number % 500}`, event_id });
    }
    await restart;
    await client.close();
    const stats = client.buffer.stats;
    assert.deepEqual([stats.accepted + stats.duplicates, stats.failed, stats.dropped], [EVENTS, 0, 0]);
    await daemon.stop();
    const exported = daemon.exportedEventIds();
    assert.equal(exported.length, EVENTS);
    assert.deepEqual(new Set(exported), ids);
    daemon.remove();
  });
}
