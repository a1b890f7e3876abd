/** When the buffer sends, what it does if it is full, and what it loses. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { EventBuffer, SequorClient, type BufferOptions, type Event, type Receipt } from "../src/index.js";
import { Daemon, NEVER, PATIENCE, waitUntil } from "./harness.js";

const daemon = new Daemon();

before(() => daemon.start());

after(async () => {
  await daemon.stop();
  daemon.remove();
});

function client(buffer: Partial<BufferOptions>): SequorClient {
  return new SequorClient({ baseUrl: daemon.url, buffer });
}

function view(userId: string): Event {
  return { user_id: userId, type: "view", item_id: "tea" };
}

function receipt(accepted: number): Receipt {
  return { accepted, duplicates: 0, withheld: 0, rejected: [] };
}

/** Records batches. Each waits until the test opens the gate. */
class GatedSender {
  batches: number[] = [];
  left: number[] = [];
  open = () => {};
  readonly #gate = new Promise<void>((resolve) => (this.open = resolve));

  async send(events: Event[]): Promise<Receipt> {
    await this.#gate;
    this.batches.push(events.length);
    return receipt(events.length);
  }

  async sendOnLeave(records: string[]): Promise<Receipt> {
    this.left.push(records.length);
    return receipt(records.length);
  }
}

test("a full batch is sent at once", async () => {
  const full = client({ maxBatch: 3, flushInterval: NEVER });
  for (let number = 0; number < 3; number += 1) void full.track(view("size-1"));
  await waitUntil("the batch is stored", () => full.buffer.stats.accepted === 3);
  await full.close();
  assert.equal((await daemon.storedEventIds("size-1")).length, 3);
});

test("an incomplete batch is sent after the interval", async () => {
  const incomplete = client({ flushInterval: 10 });
  void incomplete.track(view("time-1"));
  await waitUntil("the event is stored", () => incomplete.buffer.stats.accepted === 1);
  await incomplete.close();
});

test("close sends the rest", async () => {
  const closed = client({ flushInterval: NEVER });
  void closed.track(view("close-1"));
  await closed.close();
  await closed.close();
  assert.equal((await daemon.storedEventIds("close-1")).length, 1);
  assert.equal(await closed.track(view("close-1")), false);
  assert.equal(closed.buffer.stats.dropped, 1);
});

test("a Node process sends the rest before it exits", async () => {
  const module = new URL("../src/index.js", import.meta.url).href;
  const program = `
    import { SequorClient } from ${JSON.stringify(module)};
    const client = new SequorClient({ baseUrl: ${JSON.stringify(daemon.url)}, buffer: { flushInterval: ${NEVER} } });
    client.track({ user_id: "exit-1", type: "view", item_id: "tea" });
  `;
  const process = spawn(globalThis.process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" });
  assert.deepEqual(await once(process, "exit"), [0, null]);
  assert.equal((await daemon.storedEventIds("exit-1")).length, 1);
});

test("events keep the time at which they were tracked, and get an id", async () => {
  const bodies: string[] = [];
  const stamped = new SequorClient({
    now: () => 1_700_000_000_500,
    buffer: { flushInterval: NEVER },
    fetch: async (_, init) => {
      bodies.push(String(init?.body));
      return Response.json(receipt(2));
    },
  });
  void stamped.track({ ...view("stamp-1"), event_id: "e1" });
  void stamped.track({ ...view("stamp-1"), timestamp: "2026-01-01T00:00:00Z" });
  await stamped.close();
  const [first, second] = JSON.parse(bodies[0] ?? "");
  assert.deepEqual(first, { ...view("stamp-1"), event_id: "e1", timestamp: 1_700_000_000_500 });
  assert.equal(second.timestamp, "2026-01-01T00:00:00Z");
  assert.match(second.event_id, /^[0-9a-f]{32}$/);
});

test("an event without a JSON form is refused where it is tracked", () => {
  const event = { ...view("json-1"), properties: { count: 1n } };
  assert.throws(() => client({ flushInterval: NEVER }).track(event), /BigInt/);
});

test("a full queue drops and counts", async () => {
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { maxBatch: 2, capacity: 2, flushInterval: NEVER });
  const queued = await Promise.all([1, 2, 3, 4, 5].map(() => buffer.add(view("drop-1"))));
  assert.deepEqual(queued, [true, true, false, false, false]);
  sender.open();
  await buffer.close();
  const { accepted, dropped, queued: left } = buffer.stats;
  assert.deepEqual([accepted, dropped, left], [2, 3, 0]);
});

test("a full queue waits if told so", async () => {
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { maxBatch: 2, capacity: 2, flushInterval: NEVER, whenFull: "wait" });
  await buffer.add(view("wait-1"));
  await buffer.add(view("wait-1"));
  let isQueued = false;
  const third = buffer.add(view("wait-1")).then((result) => (isQueued = result));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isQueued, false);
  sender.open();
  await third;
  assert.equal(isQueued, true);
  await buffer.close();
  assert.deepEqual(sender.batches, [2, 1]);
  assert.equal(buffer.stats.accepted, 3);
});

test("events that are not sent at close are reported", async () => {
  const lost: Event[] = [];
  const buffer = new EventBuffer(new GatedSender(), { closeTimeout: 10, onError: (events) => lost.push(...events) });
  const events = [view("lost-1"), view("lost-1")];
  for (const event of events) await buffer.add(event);
  await buffer.close();
  assert.deepEqual(lost, events);
  assert.equal(buffer.stats.failed, 2);
});

test("an error in onError does not stop the buffer", async () => {
  const [attempts, logged] = [[] as number[], console.error];
  console.error = () => {};
  const sender = {
    send: async (events: Event[]): Promise<Receipt> => {
      attempts.push(events.length);
      throw new Error("refused");
    },
    sendOnLeave: async () => receipt(0),
  };
  const onError = () => {
    throw new Error("defect");
  };
  const buffer = new EventBuffer(sender, { maxBatch: 1, onError });
  await buffer.add(view("fail-1"));
  await buffer.add(view("fail-1"));
  await buffer.close();
  console.error = logged;
  assert.deepEqual(attempts, [1, 1]);
  assert.equal(buffer.stats.failed, 2);
});

test("a page that is left sends the queue in requests that outlive it", async () => {
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { flushInterval: NEVER });
  const text = "x".repeat(25_000);
  for (let number = 0; number < 5; number += 1) await buffer.add({ ...view("leave-1"), properties: { text } });
  await Promise.all([buffer.leave(), buffer.leave()]);
  // A request holds at most 60,000 bytes, so two events. The second call repeats nothing.
  assert.deepEqual(sender.left, [2, 2, 1]);
  assert.deepEqual([buffer.stats.queued, buffer.stats.accepted], [0, 5]);
});

test("events that are in flight when a page is left count once", async () => {
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { maxBatch: 2, flushInterval: NEVER });
  for (let number = 0; number < 3; number += 1) await buffer.add(view("leave-2"));
  await buffer.leave();
  sender.open();
  await buffer.close();
  const { queued, accepted, failed } = buffer.stats;
  assert.deepEqual([sender.left, queued, accepted, failed], [[2, 1], 0, 3, 0]);
});

test("a browser's pagehide and visibilitychange send the queue with keepalive", async () => {
  const scope = globalThis as unknown as Record<string, unknown>;
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  scope.addEventListener = window.addEventListener.bind(window);
  scope.removeEventListener = window.removeEventListener.bind(window);
  scope.document = document;
  try {
    const requests: RequestInit[] = [];
    const page = new SequorClient({
      buffer: { flushInterval: NEVER },
      fetch: async (_, init) => {
        requests.push(init ?? {});
        return Response.json(receipt(1));
      },
    });
    await page.track(view("page-1"));
    document.dispatchEvent(new globalThis.Event("visibilitychange"));
    assert.equal(requests.length, 0);
    document.visibilityState = "hidden";
    document.dispatchEvent(new globalThis.Event("visibilitychange"));
    await waitUntil("the event is settled", () => page.buffer.stats.accepted === 1);
    await page.track(view("page-1"));
    window.dispatchEvent(new globalThis.Event("pagehide"));
    await waitUntil("the event is settled", () => page.buffer.stats.accepted === 2);
    assert.deepEqual(requests.map(({ keepalive }) => keepalive), [true, true]);
    await page.close();
    window.dispatchEvent(new globalThis.Event("pagehide"));
    assert.equal(requests.length, 2);
  } finally {
    for (const name of ["addEventListener", "removeEventListener", "document"]) delete scope[name];
  }
});

test("invalid options are errors", () => {
  const options = { maxBatch: 11, capacity: 10, closeTimeout: PATIENCE };
  assert.throws(() => new EventBuffer(new GatedSender(), options), /maxBatch is 11; it must be 1 to capacity \(10\)/);
});
