/** Values that JSON would change or drop are errors that name the field. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SequorClient } from "../src/index.js";
import { NEVER } from "./harness.js";

/** A client that must send nothing. */
const client = new SequorClient({
  buffer: { flushInterval: NEVER },
  fetch: async () => assert.fail("a request was sent"),
});

const ALLOWED = "it must be a text, a finite number, a boolean, null, a valid Date, an array or a plain object";

const cyclic: unknown[] = [];
cyclic.push({ again: cyclic });

class Point {
  constructor(readonly x: number) {}
}

/** What JSON would change or drop, and how the message describes it. */
const REFUSED: [unknown, string][] = [
  ...[NaN, Infinity, -Infinity].map((number): [unknown, string] => [number, `is ${number}; it must be a finite number`]),
  [new Date(NaN), "is an invalid Date; it must be a valid one"],
  [1n, `is of the type BigInt; ${ALLOWED}`],
  [Symbol("s"), `is of the type Symbol; ${ALLOWED}`],
  [() => 1, `is of the type Function; ${ALLOWED}`],
  [async () => 1, `is of the type AsyncFunction; ${ALLOWED}`],
  [new Map([["a", 1]]), `is of the type Map; ${ALLOWED}`],
  [new Set([1]), `is of the type Set; ${ALLOWED}`],
  [new Float32Array(2), `is of the type Float32Array; ${ALLOWED}`],
  [new ArrayBuffer(2), `is of the type ArrayBuffer; ${ALLOWED}`],
  [new Error("e"), `is of the type Error; ${ALLOWED}`],
  [/a/, `is of the type RegExp; ${ALLOWED}`],
  [Promise.resolve(1), `is of the type Promise; ${ALLOWED}`],
  [new URLSearchParams("a=1"), ""],
  [new Number(NaN), `is of the type Number; ${ALLOWED}`],
];

function refusal(call: () => unknown): Promise<Error> {
  return (async () => call())().then(
    () => assert.fail(`not refused: ${call}`),
    (error: Error) => error,
  );
}

/** Calls with a value at a place of the arguments, and how the message names the place. */
const PLACES: [string, (value: any) => unknown][] = [
  ["the event: `value` ", (value) => client.track({ user_id: "ann", type: "rate", value })],
  ["the event: `timestamp` ", (timestamp) => client.track({ user_id: "ann", type: "rate", timestamp })],
  ["the event: `properties` ", (properties) => client.track({ user_id: "ann", type: "rate", properties })],
  ["the event: `properties.a` ", (a) => client.track({ user_id: "ann", type: "rate", properties: { a } })],
  ["the event: `context.a` ", (a) => client.track({ user_id: "ann", type: "rate", context: { a } })],
  [
    "event 1: `properties.a[1].b` ",
    (b) => client.sendEvents([{ user_id: "a", type: "view" }, { user_id: "a", type: "view", properties: { a: [0, { b }] } }]),
  ],
  ["event 0: `quantity` ", (quantity) => client.sendEvents([{ user_id: "a", type: "view", quantity }])],
  ["item change 1: `price` ", (price) => client.changeItems([{ item_id: "a" }, { item_id: "tea", price }])],
  ["`price` ", (price) => client.putItem("tea", { price })],
  ["`attributes.size` ", (size) => client.patchItem("tea", { attributes: { size } })],
  ["`vectors.text[1]` ", (number) => client.putItem("tea", { vectors: { text: [0, number] } })],
  ["`attributes.age` ", (age) => client.updateUser("ann", { age })],
  ["`items[0].features.relevance` ", (relevance) => client.rank([{ item_id: "tea", relevance }])],
  ["`items[0].relevance` ", (relevance) => client.reportImpression("ann", [{ item_id: "tea", relevance }])],
  ["`limit` ", (limit) => client.recommendationsForSession(["tea"], { limit })],
  ["`min_offset` ", (after) => client.recommendationsForSession(["tea"], {}, { after: { offset: after } })],
  ["`diversity` ", (diversity) => client.putPlacement("home", { diversity } as object)],
  ["`[1].a` ", (a) => client.request("POST", "/v1/other", { json: [0, { a }] })],
  ["the body ", (json) => client.request("POST", "/v1/other", { json })],
];

for (const [place, call] of PLACES) {
  test(`${place.trim()} is what JSON can express`, async () => {
    for (const [value, description] of REFUSED) {
      const { name, message } = await refusal(() => call(value));
      assert.ok(message.startsWith(`${place}${description}`), message);
      const isRange = typeof value === "number" || value instanceof Date;
      assert.equal(name, isRange ? "RangeError" : "TypeError", message);
    }
    const { message } = await refusal(() => call(cyclic));
    assert.match(message, /^(the event|event \d|item change \d)?(: )?(`.+\[0\]\.again`|`\[0\]\.again`) contains itself; JSON has no cycles$/);
    assert.equal(client.buffer.stats.queued, 0);
  });
}

/** Parameters of queries. */
const PARAMETERS: [string, (value: any) => unknown][] = [
  ["`limit`", (limit) => client.recommendations("ann", { limit })],
  ["`context.price`", (price) => client.recommendations("ann", { context: { price } })],
  ["`filter`", (filter) => client.recommendations("ann", { filter })],
  ["`min_offset`", (after) => client.recommendations("ann", {}, { after: { offset: after } })],
  ["`limit`", (pageSize) => client.recommendationPages("ann", pageSize).next()],
  ["`limit`", (limit) => client.streamRecommendations("ann", { limit }).next()],
  ["`limit`", (limit) => client.similarItems("tea", { limit })],
  ["`limit`", (limit) => client.trendingItems({ limit })],
  ["`recommend`", (recommend) => client.sendEvents([{ user_id: "ann", type: "view" }], { recommend })],
  ["`exclude`", (id) => client.recommendations("ann", { exclude: [id] })],
  ["`at`", (at) => client.request("GET", "/v1/other", { query: { at } })],
];

test("a parameter of a query is a text, a finite number or a boolean", async () => {
  for (const [name, call] of PARAMETERS) {
    for (const value of [NaN, Infinity, new Date(0), {}, new Map(), () => 1, Symbol("s")]) {
      const { message } = await refusal(() => call(value));
      const shown = typeof value === "number" ? String(value) : "of the type \\w+";
      assert.match(message, new RegExp(`^${name} is ${shown}; it must be a text, a finite number or a boolean$`));
    }
  }
});

test("records that are no objects are errors", async () => {
  for (const [record, shown] of [
    [null, "null"],
    [undefined, "undefined"],
    ["view", "of the type String"],
    [7, "of the type Number"],
    [[], "of the type Array"],
    [new Map(), "of the type Map"],
  ] as [any, string][]) {
    const calls: [string, () => unknown][] = [
      ["the event", () => client.track(record)],
      ["event 1", () => client.sendEvents([{ user_id: "ann", type: "view" }, record])],
      ["item change 1", () => client.changeItems([{ item_id: "tea" }, record])],
    ];
    for (const [subject, call] of calls) {
      const { name, message } = await refusal(call);
      assert.deepEqual([name, message], ["TypeError", `${subject} is ${shown}; it must be an object`]);
    }
    if (typeof record === "string") continue;
    for (const call of [() => client.rank(["tea", record]), () => client.reportImpression("ann", ["tea", record])]) {
      const { message } = await refusal(call);
      assert.equal(message, `item 1 is ${shown}; it must be an id or an object with \`item_id\``);
    }
  }
});

test("arguments that are no arrays are errors", async () => {
  const single: any = { user_id: "ann", type: "view" };
  for (const [name, call] of [
    ["events", () => client.sendEvents(single)],
    ["changes", () => client.changeItems(single)],
    ["items", () => client.rank(single)],
    ["items", () => client.reportImpression("ann", single)],
    ["items", () => client.recommendationsForSession(single)],
  ] as [string, () => unknown][]) {
    const { message } = await refusal(call);
    assert.equal(message, `${name} is of the type Object; it must be an array`);
  }
});

test("what JSON can express is sent unchanged", async () => {
  const bodies: unknown[] = [];
  const sending = new SequorClient({
    fetch: async (_, init) => {
      bodies.push(JSON.parse(String(init?.body)));
      return Response.json({ accepted: 1, duplicates: 0, withheld: 0, rejected: [] });
    },
  });
  const shared = { a: 1 };
  const properties = {
    twice: [shared, shared],
    point: new Point(1),
    bare: Object.assign(Object.create(null), { b: 2 }),
    at: new Date(0),
    absent: undefined,
    missing: null,
    texts: ["ä", ""],
    numbers: [0, -1.5, 1e300, Number.MAX_SAFE_INTEGER],
    "a.b": { toJSON: () => "c" },
  };
  const timestamp = new Date(1) as unknown as string;
  await sending.sendEvents([{ user_id: "ann", type: "view", event_id: "e1", timestamp, properties }]);
  const { absent, ...sent } = { ...properties, point: { x: 1 }, bare: { b: 2 }, at: "1970-01-01T00:00:00.000Z", "a.b": "c" };
  assert.deepEqual(bodies, [
    [{ user_id: "ann", type: "view", event_id: "e1", timestamp: "1970-01-01T00:00:00.001Z", properties: sent }],
  ]);
});

test("a gap in a list is an error, since JSON would make it null", async () => {
  for (const list of [[1, undefined], [1, , 2]]) {
    const { message } = await refusal(() => client.putItem("tea", { attributes: { list } as any }));
    assert.equal(message, `\`attributes.list[1]\` is undefined; ${ALLOWED}`);
  }
});

test("an error of toJSON says where it comes from", async () => {
  const broken = { toJSON: () => assert.fail("a defect of the program") };
  const { message } = await refusal(() => client.sendEvents([{ user_id: "ann", type: "view", properties: { broken } }]));
  assert.match(message, /^event 0 has no JSON form: a defect of the program/);
});
