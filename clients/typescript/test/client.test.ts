/** Streams, abort signals, and parts that the shared cases do not reach. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { splitBatches } from "../src/batches.js";
import { SequorClient, SequorError } from "../src/index.js";
import { delayBeforeRetry, isRetryableStatus, parseRetryAfter, timerSleep } from "../src/retry.js";
import { Daemon, FaultProxy, NEVER } from "./harness.js";

const daemon = new Daemon();
const proxy = new FaultProxy();

before(async () => {
  await daemon.start();
  await proxy.start(daemon.url);
});

after(async () => {
  await proxy.stop();
  await daemon.stop();
  daemon.remove();
});

test("a stream has a new list after each event, and reconnects after a kill", async () => {
  const client = new SequorClient({ baseUrl: daemon.url, retry: { attempts: Infinity, baseDelay: 10, maxDelay: 50 } });
  const lists = client.streamRecommendations("stream-1", { limit: 5 });
  const first = (await lists.next()).value!;
  const receipt = await client.sendEvents([{ user_id: "stream-1", type: "view", item_id: "tea" }]);
  const second = (await lists.next()).value!;
  assert.notEqual(first.list.fallback, "none");
  assert.equal(second.offset, receipt.offset);
  await daemon.kill();
  await daemon.start();
  const third = (await lists.next()).value!;
  assert.notEqual(third.list.recommendation_id, second.list.recommendation_id);
  await lists.return();
});

test("a stream waits as the policy says", async () => {
  const delays: number[] = [];
  await proxy.plan([{ status: 503, retry_after: "3" }, { status: 503 }, { status: 503 }]);
  const client = new SequorClient({
    baseUrl: proxy.url,
    retry: { attempts: 3, baseDelay: 200 },
    random: () => 0.5,
    sleep: async (milliseconds) => void delays.push(milliseconds),
  });
  await assert.rejects(client.streamRecommendations("stream-2").next(), /503/);
  assert.deepEqual(delays, [3100, 200]);
});

test("a stream that the daemon refuses is an error", async () => {
  const client = new SequorClient({ baseUrl: daemon.url });
  const error = await client.streamRecommendations("stream-3", { limit: 0 }).next().catch((error: unknown) => error);
  assert.ok(error instanceof SequorError && error.type === "/problems/out-of-range");
});

test("a signal ends a request, a wait for a retry, and a stream", async () => {
  const client = new SequorClient({ baseUrl: proxy.url, timeout: NEVER, retry: { baseDelay: NEVER, maxDelay: NEVER } });
  const reason = new Error("left the page");
  const isReason = (error: unknown) => error === reason;

  const aborted = AbortSignal.abort(reason);
  await proxy.plan([]);
  await assert.rejects(client.recommendations("ann", {}, { signal: aborted }), isReason);
  assert.equal((await proxy.requests()).length, 0);

  for (const fault of [{ hang: true }, { status: 503 }]) {
    await proxy.plan([fault]);
    const controller = new AbortController();
    const request = client.recommendations("ann", {}, { signal: controller.signal });
    while ((await proxy.requests()).length === 0);
    controller.abort(reason);
    await assert.rejects(request, isReason);
  }

  const controller = new AbortController();
  // The proxy does not forward streams.
  const direct = new SequorClient({ baseUrl: daemon.url });
  const lists = direct.streamRecommendations("ann", {}, { signal: controller.signal });
  await lists.next();
  controller.abort(reason);
  await assert.rejects(lists.next(), isReason);
});

test("an id that a URL would drop is an error", () => {
  const client = new SequorClient({ baseUrl: daemon.url });
  assert.throws(() => client.getItem(".."), /the id ".." cannot be in a URL/);
});

test("an address without http is an error", () => {
  assert.throws(() => new SequorClient({ baseUrl: "localhost:8080" }), /it must begin with http:\/\/ or https:\/\//);
});

test("the key is sent as a bearer token", async () => {
  const keys: unknown[] = [];
  const fetched: typeof fetch = async (_, init) => {
    keys.push((init?.headers as Record<string, string>)["authorization"]);
    return Response.json({ items: [] });
  };
  await new SequorClient({ key: "secret", fetch: fetched }).trendingItems();
  await new SequorClient({ fetch: fetched }).trendingItems();
  assert.deepEqual(keys, ["Bearer secret", undefined]);
});

test("the backoff doubles up to its limit with full jitter", () => {
  const policy = { attempts: Infinity, baseDelay: 200, maxDelay: 1000, maxRetryAfter: 60_000 };
  // 200 * 2^(n-1), at most 1000
  const delays = [1, 2, 3, 4, 5, 5000].map((attempt) => delayBeforeRetry(policy, attempt, undefined, () => 1));
  assert.deepEqual(delays, [200, 400, 800, 1000, 1000, 1000]);
  assert.equal(delayBeforeRetry(policy, 3, undefined, () => 0.25), 200);
  assert.equal(delayBeforeRetry({ ...policy, attempts: 2 }, 2, undefined, () => 1), undefined);
});

test("Retry-After is a number of seconds or a date", () => {
  const now = Date.parse("2024-01-01T00:00:00Z");
  const values = [null, "7", " 7 ", "0", "-1", "1.5", "later", "", "Mon, 01 Jan 2024 00:00:30 GMT", "Sun, 31 Dec 2023 23:59:30 GMT"];
  const delays = values.map((value) => parseRetryAfter(value, now));
  assert.deepEqual(delays, [undefined, 7000, 7000, 0, undefined, undefined, undefined, undefined, 30_000, 0]);
});

test("an unknown outcome is retried only if that is safe", () => {
  const statuses = [408, 429, 503, 500, 502, 504, 400, 404, 413];
  assert.deepEqual(statuses.filter((status) => isRetryableStatus(status, true)), [408, 429, 503, 500, 502, 504]);
  assert.deepEqual(statuses.filter((status) => isRetryableStatus(status, false)), [408, 429, 503]);
});

test("a wait ends at once if its signal is aborted", async () => {
  await assert.rejects(timerSleep(false)(NEVER, AbortSignal.abort(new Error("ended"))), /ended/);
});

test("batches are split by the bytes of UTF-8", () => {
  // Each record has 3 * 2 bytes and a comma; the brackets have 2 bytes.
  const sizes = (maxBytes: number) => splitBatches(["äöü", "äöü", "äöü"], 10, maxBytes).map(({ records }) => records.length);
  assert.deepEqual(sizes(16), [2, 1]);
  assert.deepEqual(sizes(15), [1, 1, 1]);
  assert.deepEqual(splitBatches(["1", "2", "3"], 2, 100).map(({ first }) => first), [0, 2]);
});
