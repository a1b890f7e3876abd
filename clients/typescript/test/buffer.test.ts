/** When the buffer sends, what it does if it is full, and what it loses. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import {
  ConnectionFailed,
  EventBuffer,
  SequorClient,
  type BufferOptions,
  type Event,
  type Receipt,
} from "../src/index.js";
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

  async send(records: string[]): Promise<Receipt> {
    await this.#gate;
    this.batches.push(records.length);
    return receipt(records.length);
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

/** A client that keeps the events that it sends, and answers each batch with `answer`. */
function recorder(buffer: Partial<BufferOptions>, answer: (events: Event[]) => Response) {
  const sent: Event[] = [];
  const recording = new SequorClient({
    buffer: { flushInterval: NEVER, ...buffer },
    fetch: async (_, init) => {
      const events = JSON.parse(String(init?.body)) as Event[];
      sent.push(...events);
      return answer(events);
    },
  });
  return { recording, sent };
}

/** What a program can do with an event after `track`. */
const LATER_CHANGES: Record<string, (event: any) => void> = {
  "a cycle": ({ properties }) => (properties.self = properties),
  "a number that is not finite": ({ properties }) => (properties.count = NaN),
  "a BigInt": ({ properties }) => (properties.count = 1n),
  "another number": ({ properties }) => (properties.count = 2),
  "a removed member": ({ properties }) => delete properties.count,
  "a longer list": ({ properties }) => properties.tags.push("x".repeat(2_000_000)),
  "a toJSON that throws": ({ properties }) => (properties.toJSON = () => assert.fail("serialised again")),
  "another user": (event) => (event.user_id = "other"),
};

test("an event is sent as it was when it was tracked", async () => {
  const { recording, sent } = recorder({}, (events) => Response.json(receipt(events.length)));
  const asTracked = (): Event => ({ ...view("snapshot-1"), properties: { count: 1, tags: ["a"] } });
  for (const change of Object.values(LATER_CHANGES)) {
    const event = asTracked();
    void recording.track(event);
    change(event);
  }
  await recording.close();
  for (const [index, name] of Object.keys(LATER_CHANGES).entries()) {
    const { event_id, timestamp, ...members } = sent[index]!;
    assert.deepEqual(members, asTracked(), name);
  }
  assert.equal(recording.buffer.stats.accepted, Object.keys(LATER_CHANGES).length);
});

test("an event that waits for space is sent as it was when it was tracked", async () => {
  const { recording, sent } = recorder({ maxBatch: 1, capacity: 1, whenFull: "wait" }, () => Response.json(receipt(1)));
  const event = { ...view("snapshot-2"), properties: { count: 1 } };
  const tracked = [recording.track(event), recording.track(event)];
  event.properties.count = 2;
  assert.deepEqual(await Promise.all(tracked), [true, true]);
  await recording.close();
  assert.deepEqual(sent.map(({ properties }) => properties), [{ count: 1 }, { count: 1 }]);
});

test("a later change to one event does not lose the batch", async () => {
  const tracking = client({ flushInterval: NEVER });
  const properties: Record<string, unknown> = {};
  for (let number = 0; number < 20; number += 1) void tracking.track(view("snapshot-3"));
  void tracking.track({ ...view("snapshot-3"), properties });
  properties.self = properties;
  await tracking.close();
  assert.deepEqual([tracking.buffer.stats.accepted, tracking.buffer.stats.failed], [21, 0]);
  assert.equal((await daemon.storedEventIds("snapshot-3")).length, 21);
});

test("onError gets events as they were tracked, with the ids that were sent", async () => {
  const lost: Event[] = [];
  const refuse = () => new Response("no", { status: 403 });
  const { recording, sent } = recorder({ onError: (events) => lost.push(...events) }, refuse);
  const event = { ...view("snapshot-4"), properties: { count: 1 } };
  void recording.track(event);
  event.properties.count = 2;
  await recording.close();
  assert.equal(lost.length, 1);
  assert.deepEqual(lost, sent);
});

test("events with the same id are counted each", async () => {
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { flushInterval: NEVER });
  for (let number = 0; number < 3; number += 1) await buffer.add({ ...view("same-1"), event_id: "e1" });
  sender.open();
  await buffer.close();
  assert.deepEqual([buffer.stats.queued, buffer.stats.accepted], [0, 3]);
});

test("an event without a JSON form is refused where it is tracked", async () => {
  const tracking = client({ flushInterval: NEVER });
  const event = { ...view("json-1"), properties: { count: 1n } };
  assert.throws(() => tracking.track(event), /`properties.count` is of the type BigInt/);
  assert.equal(tracking.buffer.stats.queued, 0);
  await tracking.close();
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

test("events that are not sent at close are reported once, and those in flight as unknown", async () => {
  const reports: { events: Event[]; error: Error }[] = [];
  const onError = (events: Event[], error: Error) => reports.push({ events, error });
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { maxBatch: 2, closeTimeout: 10, onError });
  const events = ["lost-1", "lost-2", "lost-3"].map(view);
  for (const event of events) await buffer.add(event);
  await buffer.close();
  assert.deepEqual(reports.map((report) => report.events), [events.slice(0, 2), events.slice(2)]);
  const [unknown, unsent] = reports.map(({ error }) => error);
  assert.ok(unknown instanceof ConnectionFailed);
  assert.match(unknown.message, /^no response within 10 ms after close: the daemon may have stored the events/);
  assert.match(unknown.message, /safe to send them again with the same `event_id`/);
  assert.ok(!(unsent instanceof ConnectionFailed));
  assert.match(unsent!.message, /^not sent within 10 ms after close/);
  // The response that arrives later changes nothing.
  sender.open();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(reports.length, 2);
  const { queued, accepted, failed } = buffer.stats;
  assert.deepEqual([queued, accepted, failed], [0, 0, 3]);
});

test("events in a request that outlives the page are reported as unknown", async () => {
  const reports: [number, Error][] = [];
  const never = new Promise<Receipt>(() => {});
  const sender = { send: () => never, sendOnLeave: () => never };
  const onError = (events: Event[], error: Error) => reports.push([events.length, error]);
  const buffer = new EventBuffer(sender, { maxBatch: 1, flushInterval: NEVER, closeTimeout: 10, onError });
  await buffer.add(view("leave-3"));
  await buffer.add(view("leave-3"));
  void buffer.leave();
  await buffer.add(view("leave-3"));
  await buffer.close();
  assert.deepEqual(reports.map(([count, error]) => [count, error.name]), [[2, "ConnectionFailed"], [1, "SequorError"]]);
  assert.equal(buffer.stats.failed, 3);
});

test("a daemon that hangs at close may have the events, which are safe to send again", async () => {
  const hanging = new Daemon();
  await hanging.start();
  const reports: { events: Event[]; error: Error }[] = [];
  const closing = new SequorClient({
    baseUrl: hanging.url,
    buffer: { maxBatch: 1, closeTimeout: 300, onError: (events, error) => reports.push({ events, error }) },
  });
  hanging.pause();
  void closing.track(view("hang-1"));
  await closing.close();
  hanging.resume();
  assert.equal(reports.length, 1);
  assert.match(reports[0]!.error.message, /may have stored the events/);
  const { queued, accepted, failed } = closing.buffer.stats;
  assert.deepEqual([queued, accepted, failed], [0, 0, 1]);
  const again = new SequorClient({ baseUrl: hanging.url });
  await again.sendEvents(reports[0]!.events);
  assert.equal((await hanging.storedEventIds("hang-1")).length, 1);
  await hanging.stop();
  hanging.remove();
});

test("every call of close waits for the end", async () => {
  const sender = new GatedSender();
  const buffer = new EventBuffer(sender, { flushInterval: NEVER });
  await buffer.add(view("close-2"));
  const ended: number[] = [];
  const closes = [1, 2].map((number) => buffer.close().then(() => ended.push(number)));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(ended, []);
  sender.open();
  await Promise.all(closes);
  assert.equal(buffer.stats.accepted, 1);
});

test("onError can track, flush and close", async () => {
  const queued: boolean[] = [];
  let calls = 0;
  const sender = {
    send: async (records: string[]): Promise<Receipt> => {
      if (records[0]!.includes("call-1")) throw new Error("refused");
      return receipt(records.length);
    },
    sendOnLeave: async () => receipt(0),
  };
  const buffer: EventBuffer = new EventBuffer(sender, {
    maxBatch: 1,
    capacity: 1,
    whenFull: "wait",
    closeTimeout: PATIENCE,
    onError: async () => {
      calls += 1;
      queued.push(await buffer.add(view("call-2")));
      await buffer.flush();
      await buffer.close();
      queued.push(await buffer.add(view("call-3")));
    },
  });
  await buffer.add(view("call-1"));
  await waitUntil("onError has ended", () => queued.length === 2);
  await buffer.close();
  assert.deepEqual([calls, queued], [1, [true, false]]);
  const { accepted, failed, dropped } = buffer.stats;
  assert.deepEqual([accepted, failed, dropped], [1, 1, 1]);
});

test("an error in onError does not stop the buffer", async () => {
  const [attempts, logged] = [[] as number[], console.error];
  console.error = () => {};
  const sender = {
    send: async (records: string[]): Promise<Receipt> => {
      attempts.push(records.length);
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
  const refused = (options: object, message: string) =>
    assert.throws(() => new EventBuffer(new GatedSender(), options), { name: "RangeError", message });
  const counts = [0, -1, 1.5, NaN, Infinity, undefined, "500"];
  for (const count of counts) {
    const shown = typeof count === "string" ? JSON.stringify(count) : count;
    refused({ capacity: count }, `capacity is ${shown}; it must be a whole number from 1 to 9007199254740991`);
    refused({ maxBatch: count }, `maxBatch is ${shown}; it must be a whole number from 1 to capacity (10000)`);
  }
  refused({ maxBatch: 11, capacity: 10 }, "maxBatch is 11; it must be a whole number from 1 to capacity (10)");
  for (const name of ["flushInterval", "closeTimeout"]) {
    // Timers end a longer time after 1 ms.
    for (const time of [-1, NaN, Infinity, 2 ** 31, undefined]) {
      refused({ [name]: time }, `${name} is ${time}; it must be 0 to 2147483647 milliseconds`);
    }
    for (const time of [0, 0.5, 2 ** 31 - 1]) new EventBuffer(new GatedSender(), { [name]: time });
  }
  refused({ whenFull: "block" }, 'whenFull is "block"; it must be "drop" or "wait"');
});
