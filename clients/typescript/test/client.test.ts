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

test("an id that a path cannot have is an error", async () => {
  const client = new SequorClient({ baseUrl: daemon.url });
  for (const id of [".", "..", "", undefined, null, NaN, {}] as unknown[] as string[]) {
    const shown = typeof id === "string" ? JSON.stringify(id) : String(id);
    const calls: (() => unknown)[] = [
      () => client.getItem(id),
      () => client.putItem(id, {}),
      () => client.patchItem(id, {}),
      () => client.similarItems(id),
      () => client.recommendations(id),
      () => client.recommendationPages(id, 5).next(),
      () => client.streamRecommendations(id).next(),
      () => client.updateUser(id, {}),
      () => client.mergeUsers(id, "ann"),
      () => client.getPlacement(id),
      () => client.putPlacement(id, {}),
      () => client.deletePlacement(id),
    ];
    for (const call of calls) {
      const message = `the id ${shown} cannot be in a URL; an id is a text of 1 to 256 bytes other than "." and ".."`;
      await assert.rejects(async () => call(), { name: "RangeError", message }, String(call));
    }
  }
});

test("an invalid address is an error that names it", () => {
  const addresses = ["", " ", "localhost:8080", "/recs", "http://", "http://a b", "http://a:99999", "http://a:x"];
  const others = ["ftp://a", "http://a?x=1", "http://a/#f", 8080, {}] as string[];
  for (const baseUrl of [...addresses, ...others]) {
    const shown = typeof baseUrl === "string" ? JSON.stringify(baseUrl) : String(baseUrl);
    const message = `baseUrl is ${shown}; it must be http://HOST:PORT or https://HOST:PORT, without a query`;
    assert.throws(() => new SequorClient({ baseUrl }), { name: "RangeError", message });
  }
  for (const baseUrl of ["http://ann:secret@a", "http://secret@a:80"]) {
    const isRefusal = (error: Error) => error.message.includes("use `key`") && !error.message.includes("secret");
    assert.throws(() => new SequorClient({ baseUrl }), isRefusal);
  }
  for (const baseUrl of ["http://[::1]:65535", "https://a", "http://a:1/shop/"]) new SequorClient({ baseUrl });
});

test("a key that a header cannot have is refused without repeating it", () => {
  for (const key of ["secret\r", "secret\nx: y", "secret\0", "секрет-secret", 7] as string[]) {
    const isRefusal = (error: Error) => error.message.includes("the key has") && !error.message.includes("secret");
    assert.throws(() => new SequorClient({ key }), isRefusal);
  }
  for (const key of ["sq_1a2b3c4d_x", "with space~", ""]) new SequorClient({ key });
});

test("a page can name an address of its own origin", async () => {
  const scope = globalThis as { location?: unknown };
  scope.location = { href: "https://shop.example/teas?page=2#top" };
  try {
    const urls: unknown[] = [];
    const fetched: typeof fetch = async (url) => {
      urls.push(url);
      return Response.json({ items: [] });
    };
    for (const baseUrl of ["", "/recs", "/recs/"]) await new SequorClient({ baseUrl, fetch: fetched }).trendingItems();
    assert.deepEqual(urls, ["/v1/trending", "/recs/v1/trending", "/recs/v1/trending"]);
    assert.throws(() => new SequorClient({ baseUrl: "/recs?x=1" }), /without a query/);
  } finally {
    delete scope.location;
  }
});

test("invalid times and numbers of attempts are errors", () => {
  for (const timeout of [0, -1, NaN, Infinity, 2 ** 31]) {
    const message = `timeout is ${timeout}; it must be 1 to 2147483647 milliseconds`;
    assert.throws(() => new SequorClient({ timeout }), { name: "RangeError", message });
  }
  for (const attempts of [0, -1, NaN]) {
    const message = `retry.attempts is ${attempts}; it must be at least 1`;
    assert.throws(() => new SequorClient({ retry: { attempts } }), { name: "RangeError", message });
  }
  for (const name of ["baseDelay", "maxDelay", "maxRetryAfter"]) {
    for (const time of [-1, NaN]) {
      const message = `retry.${name} is ${time}; it must be at least 0`;
      assert.throws(() => new SequorClient({ retry: { [name]: time } }), { name: "RangeError", message });
    }
    new SequorClient({ retry: { [name]: Infinity, attempts: Infinity } });
  }
});

test("a wait that is longer than timers allow does not end at once", async () => {
  for (const milliseconds of [2 ** 31, Infinity]) {
    const controller = new AbortController();
    const wait = timerSleep(true)(milliseconds, controller.signal);
    const first = await Promise.race([wait.then(() => "ended"), timerSleep(false)(50, undefined).then(() => "waits")]);
    controller.abort(new Error("ended"));
    await assert.rejects(wait, /ended/);
    assert.equal(first, "waits");
  }
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
