/** Runs the shared cases. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { SequorClient, SequorError, type Event, type ReadOptions, type Recommendations } from "../src/index.js";
import { CASES, Daemon, FaultProxy, PATIENCE } from "./harness.js";

type Json = any;

const daemon = new Daemon(CASES.daemon);
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

/** A client for one case, and what it reported. */
class Run {
  delays: number[] = [];
  lost: Event[] = [];
  saved: Record<string, Json> = {};
  readonly client: SequorClient;

  constructor(url: string, timeout: number) {
    const { attempts, base_delay, max_delay, max_retry_after } = CASES.retry;
    this.client = new SequorClient({
      baseUrl: url,
      timeout,
      retry: {
        attempts,
        baseDelay: base_delay * 1000,
        maxDelay: max_delay * 1000,
        maxRetryAfter: max_retry_after * 1000,
      },
      buffer: { flushInterval: PATIENCE, onError: (events) => this.lost.push(...events) },
      now: () => Date.parse(CASES.now),
      random: () => CASES.random,
      sleep: async (milliseconds) => void this.delays.push(milliseconds / 1000),
    });
  }

  /** Calls the client as a step says. */
  async perform(step: Json): Promise<Json> {
    const { client } = this;
    const { after, ...params } = step.options ?? {};
    const options: ReadOptions =
      after === undefined ? {} : { after: typeof after === "string" ? this.saved[after.slice(1)] : after };
    switch (step.call) {
      case "send_events":
        return client.sendEvents(eventsOf(step), step.recommend ? { recommend: step.recommend } : {});
      case "track":
        for (const event of eventsOf(step)) assert.equal(await client.track(event), true);
        await client.flush();
        return client.buffer.stats;
      case "recommendations":
        return client.recommendations(step.user, params, options);
      case "recommendation_pages": {
        const pages: Recommendations[] = [];
        for await (const page of client.recommendationPages(step.user, step.page_size, params, options)) {
          pages.push(page);
          if (pages.length === step.pages) break;
        }
        return pages;
      }
      case "recommendations_for_session":
        return client.recommendationsForSession(step.items, params, options);
      case "rank":
        return client.rank(step.items, params, options);
      case "report_impression":
        return client.reportImpression(step.user, step.items, params);
      case "put_item":
        return client.putItem(step.item, step.attributes);
      case "patch_item":
        return client.patchItem(step.item, step.attributes);
      case "get_item":
        return client.getItem(step.item);
      case "delete_item":
        return client.deleteItem(step.item);
      case "change_items":
        return client.changeItems(step.changes);
      case "similar_items":
        return client.similarItems(step.item, params);
      case "trending_items":
        return client.trendingItems(params);
      case "update_user":
        return client.updateUser(step.user, step.attributes);
      case "merge_users":
        return client.mergeUsers(step.user, step.from);
      case "put_placement":
        return client.putPlacement(step.name, step.config);
      case "get_placement":
        return client.getPlacement(step.name);
      case "delete_placement":
        return client.deletePlacement(step.name);
      case "list_placements":
        return client.listPlacements();
      case "request":
        return client.request(step.method, step.path, { json: step.json });
    }
    throw new Error(`unknown call ${step.call}`);
  }

  async check(step: Json): Promise<void> {
    if ("invalid" in step) {
      await assert.rejects(async () => this.perform(step), new RegExp(step.invalid));
    } else if ("error" in step) {
      const error: Json = await this.perform(step).then(
        () => assert.fail(`${step.call} did not fail`),
        (error: unknown) => error,
      );
      assert.ok(error instanceof SequorError, String(error));
      const { type = null, status, field, allowed, problem } = error;
      assertMatches({ type, status, field, allowed, problem }, step.error, "error");
    } else {
      const result = await this.perform(step);
      if ("save" in step) this.saved[step.save] = result;
      assertMatches(result, step.expect, step.call);
      if ("without" in step) assert.ok(!itemIds(result).includes(step.without));
      if (step.distinct_items) {
        const ids = result.flatMap(itemIds);
        assert.equal(new Set(ids).size, ids.length, ids.join(" "));
      }
    }
    assert.equal(this.lost.length, step.lost ?? 0);
  }
}

function itemIds(list: Recommendations): string[] {
  return list.items.map((item) => item.item_id);
}

/** An event of the table. `$text-N` is a text of N characters. */
function eventOf(members: Json): Event {
  const text = members.properties?.text;
  return text ? { ...members, properties: { text: "x".repeat(Number(text.slice("$text-".length))) } } : members;
}

function eventsOf(step: Json): Event[] {
  const given = step.events;
  if (Array.isArray(given)) return given.map(eventOf);
  const template = JSON.stringify(given.event);
  const numbers = Array.from({ length: given.count }, (_, index) => index + 1);
  const events = numbers.map((number) => eventOf(JSON.parse(template.replaceAll("#", String(number)))));
  return given.then ? [...events, eventOf(given.then)] : events;
}

/** Compares the members that `expected` names. */
function assertMatches(actual: Json, expected: Json, path: string): void {
  if (expected === "$any") {
    assert.notEqual(actual ?? null, null, path);
  } else if (Array.isArray(expected)) {
    assert.equal(actual?.length, expected.length, `${path}: ${JSON.stringify(actual)}`);
    expected.forEach((member, index) => assertMatches(actual[index], member, `${path}[${index}]`));
  } else if (expected !== null && typeof expected === "object") {
    if ("$length" in expected) {
      assert.equal(actual?.length, expected.$length, `${path}: ${JSON.stringify(actual)}`);
      return;
    }
    for (const [name, member] of Object.entries(expected)) {
      assert.ok(actual !== null && typeof actual === "object" && name in actual, `${path} has no ${name}: ${JSON.stringify(actual)}`);
      assertMatches(actual[name], member, `${path}.${name}`);
    }
  } else {
    assert.deepEqual(actual, expected, path);
  }
}

for (const shared of CASES.cases) {
  test(shared.name, async () => {
    await proxy.plan(shared.faults ?? []);
    const run = new Run(proxy.url, shared.timeout ? shared.timeout * 1000 : PATIENCE);
    try {
      for (const step of shared.steps) await run.check(step);
    } finally {
      await run.client.close();
    }
    const requests = await proxy.requests();
    if ("requests" in shared) assert.equal(requests.length, shared.requests, requests.join("\n"));
    assert.ok(requests.length >= (shared.min_requests ?? 0), requests.join("\n"));
    if ("delays" in shared) {
      const rounded = run.delays.map((seconds) => Math.round(seconds * 1e6) / 1e6);
      assert.deepEqual(rounded, shared.delays);
    }
    for (const [userId, count] of Object.entries(shared.stored ?? {})) {
      const ids = await daemon.storedEventIds(userId);
      assert.equal(ids.length, count);
      assert.equal(new Set(ids).size, count);
    }
  });
}
