import { sendInBatches } from "./batches.js";
import { EventBuffer, type BufferOptions } from "./buffer.js";
import { ConnectionFailed, problemOf, SequorError } from "./errors.js";
import { encode, encodeRecords, queryText, requireArray, requireObject, shown } from "./json.js";
import { listsOfStream } from "./stream.js";
import {
  checkPolicy,
  checkTime,
  DEFAULT_RETRY,
  delayBeforeRetry,
  isRetryableStatus,
  parseRetryAfter,
  timerSleep,
  type RetryPolicy,
  type Sleep,
} from "./retry.js";
import type {
  CallOptions,
  ChangeReceipt,
  Event,
  ImpressionReceipt,
  Item,
  ItemAttributes,
  ItemChange,
  ItemList,
  ItemListParams,
  ListItem,
  ListParams,
  PlacementConfig,
  RankedList,
  RankParams,
  ReadOptions,
  Receipt,
  Recommendations,
  SessionListParams,
  TrendingParams,
  UserAttributes,
} from "./types.js";

export interface ClientOptions {
  /** The address of the daemon, such as `https://recs.example.com`. */
  baseUrl?: string;
  /** An API key or, in a page, a user token. */
  key?: string;
  /** Milliseconds for each attempt. */
  timeout?: number;
  retry?: Partial<RetryPolicy>;
  buffer?: Partial<BufferOptions>;
  /** Replaces the global `fetch`. */
  fetch?: typeof fetch;
  /** Replace the clock, the waits and the random numbers in tests. */
  now?: () => number;
  sleep?: Sleep;
  random?: () => number;
}

type Query = Record<string, unknown>;

interface Call extends CallOptions {
  query?: Query;
  /** A value, or text that is JSON already. */
  json?: unknown;
  body?: string;
  /** A call that is not idempotent is not repeated after a lost response. Default: true. */
  isIdempotent?: boolean;
  /** A batch without a valid record gets 400 with a receipt. */
  hasReceiptOn400?: boolean;
  retry?: RetryPolicy;
  sleep?: Sleep;
  keepalive?: boolean;
}

/** A client of one daemon. */
export class SequorClient {
  readonly buffer: EventBuffer;
  readonly #baseUrl: string;
  readonly #headers: Record<string, string>;
  readonly #timeout: number;
  readonly #retry: RetryPolicy;
  readonly #fetch: typeof fetch;
  readonly #now: () => number;
  readonly #sleep: Sleep;
  readonly #backgroundSleep: Sleep;
  readonly #random: () => number;
  readonly #removeListeners: () => void;

  constructor(options: ClientOptions = {}) {
    this.#baseUrl = checkedUrl(options.baseUrl ?? "http://localhost:8080");
    this.#headers = options.key ? { authorization: `Bearer ${checkedKey(options.key)}` } : {};
    this.#timeout = options.timeout ?? 10_000;
    checkTime("timeout", this.#timeout, 1);
    this.#retry = { ...DEFAULT_RETRY, ...options.retry };
    checkPolicy(this.#retry);
    // `fetch` of browsers throws if it is called as a method of another object.
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#now = options.now ?? Date.now;
    this.#sleep = options.sleep ?? timerSleep(false);
    this.#backgroundSleep = options.sleep ?? timerSleep(true);
    this.#random = options.random ?? Math.random;
    const sender = {
      send: (records: string[], signal: AbortSignal) => this.#sendTracked(records, signal),
      sendOnLeave: (records: string[]) => this.#sendOnLeave(records),
    };
    this.buffer = new EventBuffer(sender, options.buffer);
    this.#removeListeners = listenForEnd(this.buffer);
  }

  /** Sends the tracked events. */
  async close(): Promise<void> {
    await this.buffer.close();
    this.#removeListeners();
  }

  // Events

  /**
   * Queues an event for `buffer`, which sends it in the background. The result is whether it was
   * queued; it never rejects. An event without `timestamp` gets the present time. Later changes to
   * the event have no effect. Throws if the event has no JSON form.
   */
  track(event: Event): Promise<boolean> {
    requireObject("the event", event);
    return this.buffer.add({ ...withId(event), timestamp: event.timestamp ?? this.#now() });
  }

  /** Waits until the tracked events are sent. */
  flush(): Promise<void> {
    return this.buffer.flush();
  }

  /**
   * Sends events and returns after they are on disk. Sends several requests if there are many.
   *
   * `recommend` also asks for recommendations for the user of the last event. The receipt lists
   * invalid events in `rejected`. To repeat a failed call safely, give the events an `event_id`.
   */
  sendEvents(
    events: readonly Event[],
    options: CallOptions & { recommend?: number; placement?: string } = {},
  ): Promise<Receipt> {
    const { signal, ...query } = options;
    const records = encodeRecords("events", "event", events, withId);
    return this.#sendBatches("/v1/events", records, query, signal ? { signal } : {});
  }

  // Lists

  /** Recommends items for a user. With `{ after: receipt }`, the list includes the events of the receipt. */
  recommendations(userId: string, params: ListParams = {}, options: ReadOptions = {}): Promise<Recommendations> {
    return this.#call("GET", userPath(userId, "/recommendations"), readCall(listQuery(params), options));
  }

  /**
   * The pages of one list. Requests a page when the caller asks for it.
   *
   * Each page has a `recommendation_id` of its own, which the events on its items name.
   */
  async *recommendationPages(
    userId: string,
    pageSize: number,
    params: ListParams = {},
    options: ReadOptions = {},
  ): AsyncGenerator<Recommendations, void, undefined> {
    let page = await this.recommendations(userId, { ...params, limit: pageSize }, options);
    const firstId = page.recommendation_id;
    for (let offset = 0; page.items.length > 0; ) {
      offset += page.items.length;
      yield page;
      // A later page keeps the other parameters of the first one.
      const query = { recommendation_id: firstId, offset, limit: pageSize };
      page = await this.#call("GET", userPath(userId, "/recommendations"), readCall(query, signalOf(options)));
    }
  }

  /**
   * The list of a user, and a new list after each event of the user, with the journal offset of the
   * event. Reconnects without end. Throws if the daemon refuses the request, or after
   * `retry.attempts` failures in a row.
   */
  async *streamRecommendations(
    userId: string,
    params: ListParams = {},
    options: ReadOptions = {},
  ): AsyncGenerator<{ list: Recommendations; offset: number | undefined }, void, undefined> {
    const url = this.#url(userPath(userId, "/recommendations/stream"), readCall(listQuery(params), options).query);
    for (let failures = 1; ; failures += 1) {
      let failure: Failure;
      try {
        const response = await this.#fetch(url, { headers: this.#headers, signal: options.signal ?? null });
        if (response.ok && response.body) {
          for await (const received of listsOfStream(response.body)) {
            failures = 0;
            yield received;
          }
          failure = { error: new ConnectionFailed("the stream ended"), isRetryable: true };
        } else {
          failure = this.#failureOf(response, await response.text(), true);
        }
      } catch (error) {
        options.signal?.throwIfAborted();
        failure = { error: connectionFailed(error), isRetryable: true };
      }
      failures = Math.max(failures, 1);
      await this.#sleep(this.#delay(this.#retry, failures, failure), options.signal);
    }
  }

  /** Recommends items for a session that the request describes, oldest item first. Stores nothing. */
  recommendationsForSession(
    items: readonly string[],
    params: SessionListParams = {},
    options: ReadOptions = {},
  ): Promise<Recommendations> {
    requireArray("items", items);
    return this.#call("POST", "/v1/recommendations", bodyCall({ ...params, items }, options));
  }

  /** Orders a list of the site for a user or a session. `log` records the list as shown. */
  rank(items: readonly (string | ListItem)[], params: RankParams = {}, options: ReadOptions = {}): Promise<RankedList> {
    requireItems(items);
    const listed = items.map((item) => {
      if (typeof item === "string") return { item_id: item };
      const { item_id, relevance } = item;
      return relevance === undefined ? { item_id } : { item_id, features: { relevance } };
    });
    // A logged list is an impression with a new id, so a second request records a second one.
    const call = { ...bodyCall({ ...params, items: listed }, options), isIdempotent: !params.log };
    return this.#call("POST", "/v1/rank", call);
  }

  /** Items that are similar to an item. */
  similarItems(itemId: string, params: ItemListParams = {}, options: CallOptions = {}): Promise<ItemList> {
    return this.#call("GET", `${itemPath(itemId)}/similar`, { query: params, ...signalOf(options) });
  }

  /** Trending items. */
  trendingItems(params: TrendingParams = {}, options: CallOptions = {}): Promise<ItemList> {
    return this.#call("GET", "/v1/trending", { query: params, ...signalOf(options) });
  }

  /** Reports items that the site has shown to a user. */
  reportImpression(
    userId: string,
    items: readonly (string | ListItem)[],
    params: { recommendation_id?: string; placement?: string; consent?: "none" | "session" | "full" } = {},
    options: CallOptions = {},
  ): Promise<ImpressionReceipt> {
    requireItems(items);
    // The client makes the id of the list, so that a retry counts once.
    const json = { recommendation_id: newId(), ...params, user_id: userId, items };
    return this.#call("POST", "/v1/impressions", { json, ...signalOf(options) });
  }

  // Catalog

  /** An item of the catalog. */
  getItem(itemId: string, options: CallOptions = {}): Promise<Item> {
    return this.#call("GET", itemPath(itemId), signalOf(options));
  }

  /** Describes an item. Replaces an earlier description. */
  putItem(itemId: string, attributes: ItemAttributes, options: CallOptions = {}): Promise<Receipt> {
    return this.#call("PUT", itemPath(itemId), { json: attributes, ...signalOf(options) });
  }

  /** Changes the named attributes of an item. `null` removes an attribute. */
  patchItem(itemId: string, attributes: ItemAttributes, options: CallOptions = {}): Promise<Receipt> {
    return this.#call("PATCH", itemPath(itemId), { json: attributes, ...signalOf(options) });
  }

  /** Deletes an item. Deleting an unknown item has no effect, so a retry is safe. */
  deleteItem(itemId: string, options: CallOptions = {}): Promise<Receipt> {
    return this.changeItems([{ item_id: itemId, op: "delete" }], options);
  }

  /** Puts, patches and deletes many items. Sends several requests if there are many. */
  changeItems(changes: readonly ItemChange[], options: CallOptions = {}): Promise<Receipt> {
    return this.#sendBatches("/v1/items", encodeRecords("changes", "item change", changes), {}, signalOf(options));
  }

  // Users

  /** Sets attributes of a user. `null` removes an attribute; other attributes stay. */
  updateUser(userId: string, attributes: UserAttributes, options: CallOptions = {}): Promise<Receipt> {
    return this.#call("PATCH", userPath(userId), { json: { attributes }, ...signalOf(options) });
  }

  /** Makes `fromId` another id of the user, such as at the login of a visitor. */
  mergeUsers(userId: string, fromId: string, options: CallOptions = {}): Promise<Receipt> {
    return this.#call("POST", userPath(userId, "/merge"), { json: { from: fromId }, ...signalOf(options) });
  }

  // Placements

  /** All placements by name. */
  async listPlacements(options: CallOptions = {}): Promise<Record<string, PlacementConfig>> {
    type Response = { placements: Record<string, PlacementConfig> };
    return (await this.#call<Response>("GET", "/v1/placements", signalOf(options))).placements;
  }

  /** The configuration of a placement. */
  getPlacement(name: string, options: CallOptions = {}): Promise<PlacementConfig> {
    return this.#call("GET", `/v1/placements/${segment(name)}`, signalOf(options));
  }

  /** Creates or replaces a placement. */
  putPlacement(name: string, config: PlacementConfig, options: CallOptions = {}): Promise<ChangeReceipt> {
    return this.#call("PUT", `/v1/placements/${segment(name)}`, { json: config, ...signalOf(options) });
  }

  /** Deletes a placement. */
  deletePlacement(name: string, options: CallOptions = {}): Promise<ChangeReceipt> {
    return this.#call("DELETE", `/v1/placements/${segment(name)}`, signalOf(options));
  }

  // Everything else

  /**
   * Sends a request to any path, such as `/v1/rules/summer`. Returns the decoded JSON. A POST is not
   * repeated after a lost response.
   */
  request(method: string, path: string, options: CallOptions & { query?: Query; json?: unknown } = {}): Promise<unknown> {
    return this.#call(method, path, { ...options, isIdempotent: method !== "POST" });
  }

  /** Sends a batch of the buffer, until the daemon has stored or refused it. */
  #sendTracked(records: string[], signal: AbortSignal): Promise<Receipt> {
    const retry = { ...this.#retry, attempts: Infinity, maxRetryAfter: Infinity };
    return this.#sendBatches("/v1/events", records, {}, { signal, retry, sleep: this.#backgroundSleep });
  }

  #sendOnLeave(records: string[]): Promise<Receipt> {
    const body = `[${records.join(",")}]`;
    const retry = { ...this.#retry, attempts: 1 };
    return this.#call("POST", "/v1/events", { body, retry, hasReceiptOn400: true, keepalive: true });
  }

  #sendBatches(path: string, records: string[], query: Query, call: Call): Promise<Receipt> {
    // Recommendations are for the last event, so only the last batch asks for them.
    return sendInBatches(records, (body, isLast) =>
      this.#call("POST", path, { ...call, body, query: isLast ? query : {}, hasReceiptOn400: true }),
    );
  }

  async #call<T>(method: string, path: string, call: Call = {}): Promise<T> {
    const { signal, isIdempotent = true, retry = this.#retry, sleep = this.#sleep } = call;
    const url = this.#url(path, call.query);
    const body = call.body ?? (call.json === undefined ? undefined : encode(call.json));
    const headers = { ...this.#headers, ...(body === undefined ? {} : { "content-type": "application/json" }) };
    const init: RequestInit = { method, headers, keepalive: call.keepalive ?? false };
    if (body !== undefined) init.body = body;
    for (let attempt = 1; ; attempt += 1) {
      signal?.throwIfAborted();
      let failure: Failure;
      try {
        const { response, text } = await this.#attempt(url, init, signal);
        const isJson = response.headers.get("content-type")?.startsWith("application/json") ?? false;
        if (response.ok || (call.hasReceiptOn400 && response.status === 400 && isJson)) return JSON.parse(text) as T;
        failure = this.#failureOf(response, text, isIdempotent);
      } catch (error) {
        signal?.throwIfAborted();
        failure = { error: connectionFailed(error), isRetryable: isIdempotent };
      }
      await sleep(this.#delay(retry, attempt, failure), signal);
    }
  }

  /** One attempt, which ends at the timeout or when the signal aborts. */
  async #attempt(url: string, init: RequestInit, signal?: AbortSignal): Promise<{ response: Response; text: string }> {
    const controller = new AbortController();
    const abort = () => controller.abort(signal?.reason);
    signal?.addEventListener("abort", abort);
    const timer = setTimeout(() => controller.abort(new Error(`no response within ${this.#timeout} ms`)), this.#timeout);
    try {
      const response = await this.#fetch(url, { ...init, signal: controller.signal });
      return { response, text: await response.text() };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }

  #failureOf(response: Response, body: string, isIdempotent: boolean): Failure {
    const problem = problemOf(response.status, response.headers, body);
    // A page of another origin can read the header only if the response exposes it.
    const seconds = response.headers.get("retry-after") ?? problem.retry_after?.toString() ?? null;
    const retryAfter = parseRetryAfter(seconds, this.#now());
    const error = SequorError.fromProblem(problem);
    return { error, isRetryable: isRetryableStatus(response.status, isIdempotent), retryAfter };
  }

  /** The delay before the next attempt. Throws the error of the failure if there is none. */
  #delay(policy: RetryPolicy, attempt: number, failure: Failure): number {
    const { isRetryable, retryAfter, error } = failure;
    const delay = isRetryable ? delayBeforeRetry(policy, attempt, retryAfter, this.#random) : undefined;
    if (delay === undefined) throw error;
    return delay;
  }

  #url(path: string, query: Query = {}): string {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null) search.append(name, queryText(name, value));
    }
    const text = search.toString();
    return `${this.#baseUrl}${path}${text ? `?${text}` : ""}`;
  }
}

/** A failed attempt. `retryAfter` is in milliseconds. */
interface Failure {
  error: SequorError;
  isRetryable: boolean;
  retryAfter?: number | undefined;
}

function connectionFailed(error: unknown): ConnectionFailed {
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
  const text = error instanceof Error ? error.message : String(error);
  return new ConnectionFailed(`no response: ${text}${cause}`, undefined, { cause: error });
}

/** The address without the last slashes. An address such as `/recs` is relative to the page. */
function checkedUrl(url: string): string {
  // The message does not repeat an address that contains a password.
  if (String(url).includes("@")) throw new RangeError("baseUrl has a user name or a password; use `key` instead");
  if (!isServerUrl(url)) {
    throw new RangeError(`baseUrl is ${shown(url)}; it must be http://HOST:PORT or https://HOST:PORT, without a query`);
  }
  return url.replace(/\/+$/, "");
}

/** The key, without repeating it in an error. */
function checkedKey(key: string): string {
  if (typeof key === "string" && /^[\x20-\x7e]+$/.test(key)) return key;
  throw new RangeError("the key has a character that a header cannot have, such as a line break or a letter outside ASCII");
}

function isServerUrl(url: unknown): url is string {
  const { location } = globalThis as { location?: Location };
  try {
    return typeof url === "string" && !/[?#]/.test(url) && /^https?:$/.test(new URL(url, location?.href).protocol);
  } catch {
    return false;
  }
}

function newId(): string {
  const bytes = new Uint8Array(16);
  // Node 18 has no global `crypto`. An id must be unique, but not secret.
  const { crypto } = globalThis as { crypto?: Crypto };
  if (crypto) crypto.getRandomValues(bytes);
  else bytes.forEach((_, index) => (bytes[index] = Math.floor(Math.random() * 256)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function withId(event: Event): Event {
  return event.event_id == null ? { ...event, event_id: newId() } : event;
}

function requireItems(items: readonly (string | ListItem)[]): void {
  requireArray("items", items);
  items.forEach((item, index) => {
    if (typeof item !== "string") requireObject(`item ${index}`, item, "an id or an object with `item_id`");
  });
}

/** A part of a path. URLs drop the parts `.` and `..`. */
function segment(id: string): string {
  const isText = typeof id === "string" || Number.isFinite(id);
  if (!isText || ["", ".", ".."].includes(id)) {
    const allowed = 'an id is a text of 1 to 256 bytes other than "." and ".."';
    throw new RangeError(`the id ${shown(id)} cannot be in a URL; ${allowed}`);
  }
  return encodeURIComponent(id);
}

function userPath(userId: string, rest = ""): string {
  return `/v1/users/${segment(userId)}${rest}`;
}

function itemPath(itemId: string): string {
  return `/v1/items/${segment(itemId)}`;
}

function listQuery(params: ListParams): Query {
  const { context = {}, ...rest } = params;
  const query: Query = { ...rest };
  for (const [name, value] of Object.entries(context)) query[`context.${name}`] = value;
  return query;
}

function signalOf({ signal }: CallOptions): CallOptions {
  return signal ? { signal } : {};
}

function minOffset({ after }: ReadOptions): number | undefined {
  return typeof after === "number" ? after : (after?.offset ?? undefined);
}

function readCall(query: Query, options: ReadOptions): Call {
  return { query: { ...query, min_offset: minOffset(options) }, ...signalOf(options) };
}

function bodyCall(json: object, options: ReadOptions): Call {
  return { json: { ...json, min_offset: minOffset(options) }, ...signalOf(options) };
}

/** The parts of the global scopes of browsers and of Node that say that a page or a process ends. */
interface EndingScope {
  addEventListener?: (type: string, listener: () => void) => void;
  removeEventListener?: (type: string, listener: () => void) => void;
  document?: EndingScope & { visibilityState: string };
  process?: { on(type: string, listener: () => void): void; off(type: string, listener: () => void): void };
}

/**
 * Sends the queued events when the page is hidden or left, and before a Node process exits because
 * it has nothing left to do. Returns a function that stops this.
 */
function listenForEnd(buffer: EventBuffer): () => void {
  const scope = globalThis as unknown as EndingScope;
  const { document, process } = scope;
  if (document && scope.addEventListener) {
    const leave = () => void buffer.leave();
    const hide = () => {
      if (document.visibilityState === "hidden") leave();
    };
    scope.addEventListener("pagehide", leave);
    document.addEventListener?.("visibilitychange", hide);
    return () => {
      scope.removeEventListener?.("pagehide", leave);
      document.removeEventListener?.("visibilitychange", hide);
    };
  }
  if (process) {
    const close = () => void buffer.close();
    process.on("beforeExit", close);
    return () => process.off("beforeExit", close);
  }
  return () => {};
}
