import { splitBatches } from "./batches.js";
import { ConnectionFailed, EventsRejected, SequorError } from "./errors.js";
import { encode, shown } from "./json.js";
import { checkTime, unref } from "./retry.js";
import type { Event, Receipt } from "./types.js";

/**
 * How events are queued and sent. Times are in milliseconds.
 *
 * The buffer sends a batch if `maxBatch` events are queued, or if `flushInterval` has passed since
 * the first of them. `capacity` bounds the queue. If the queue is full, `track` drops the event and
 * counts it (`drop`), or its promise waits for space (`wait`). `closeTimeout` bounds `close`.
 * `onError` gets every event that is lost: rejected, refused, or unsent at `close`. If a request is
 * without a response at `close`, its events can be stored: the error is a `ConnectionFailed`.
 */
export interface BufferOptions {
  maxBatch: number;
  flushInterval: number;
  capacity: number;
  whenFull: "drop" | "wait";
  closeTimeout: number;
  onError: (events: Event[], error: SequorError) => void;
}

/**
 * Numbers of events. Every event that was tracked is in exactly one of them.
 *
 * `duplicates` were stored by an earlier attempt whose response was lost. `withheld` were not
 * stored, because their users have not given consent. `failed` were refused, or had no response at
 * `close`.
 */
export interface BufferStats {
  queued: number;
  accepted: number;
  duplicates: number;
  withheld: number;
  rejected: number;
  dropped: number;
  failed: number;
}

export const DEFAULT_BUFFER: BufferOptions = {
  maxBatch: 500,
  flushInterval: 1000,
  capacity: 10_000,
  whenFull: "drop",
  closeTimeout: 10_000,
  onError: (events, error) => console.error(`sequor: ${events.length} events failed:`, error.message),
};

// Browsers limit the bodies of requests that outlive their page to 64 KiB in all.
const MAX_KEEPALIVE_BYTES = 60_000;

/** How the buffer sends batches. */
export interface Sender {
  /** Retries until the daemon has stored or refused the batch, or until the signal aborts. */
  send(records: string[], signal: AbortSignal): Promise<Receipt>;
  /** Sends once, with a request that outlives the page. */
  sendOnLeave(records: string[]): Promise<Receipt>;
}

/** An event of the queue: its JSON text, which later changes to the event of the caller do not reach. */
interface QueuedEvent {
  readonly json: string;
}

/** Sends events in the background, in the order in which they were added. */
export class EventBuffer {
  readonly #sender: Sender;
  readonly #options: BufferOptions;
  readonly #abort = new AbortController();
  #queue: QueuedEvent[] = [];
  /** The batch that is being sent. */
  #inFlight: QueuedEvent[] = [];
  #counts = { accepted: 0, duplicates: 0, withheld: 0, rejected: 0, dropped: 0, failed: 0 };
  #running: Promise<void> | undefined;
  #timer: unknown;
  #isDue = false;
  #closing: Promise<void> | undefined;
  #waiting: (() => void)[] = [];
  #leaving = new Set<QueuedEvent>();

  constructor(sender: Sender, options: Partial<BufferOptions> = {}) {
    this.#sender = sender;
    this.#options = { ...DEFAULT_BUFFER, ...options };
    checkOptions(this.#options);
  }

  /** The numbers of events so far. */
  get stats(): BufferStats {
    return { queued: this.#queue.length, ...this.#counts };
  }

  /**
   * Queues an event. The result is false if it was dropped: the queue is full, or the buffer is closed.
   * Throws if the event has no JSON form.
   */
  add(event: Event): Promise<boolean> {
    return this.#enqueue({ json: encode(event, "the event") });
  }

  async #enqueue(event: QueuedEvent): Promise<boolean> {
    while (this.#closing || this.#queue.length >= this.#options.capacity) {
      // The buffer does not throw after `close`: few callers await the result of `track`.
      if (this.#closing || this.#options.whenFull === "drop") {
        this.#counts.dropped += 1;
        return false;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#queue.push(event);
    this.#schedule();
    return true;
  }

  /** Sends all queued events at once, and waits until the daemon has them. */
  async flush(): Promise<void> {
    while (this.#queue.length > 0) {
      this.#isDue = true;
      this.#schedule();
      await this.#running;
    }
  }

  /** Sends all queued events, for at most `closeTimeout`. Reports the rest to `onError`. */
  close(): Promise<void> {
    // Later, so that `#closing` is set when the first request begins.
    return (this.#closing ??= Promise.resolve().then(() => this.#close()));
  }

  async #close(): Promise<void> {
    const { closeTimeout } = this.#options;
    let timer: unknown;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, closeTimeout);
    });
    this.#releaseWaiting();
    await Promise.race([this.flush(), timeout]);
    clearTimeout(timer as number);
    const rest = this.#queue;
    this.#queue = [];
    this.#abort.abort();
    this.#counts.failed += rest.length;
    const inFlight = new Set([...this.#inFlight, ...this.#leaving]);
    const again = "It is safe to send them again with the same `event_id`.";
    const unknown = `no response within ${closeTimeout} ms after close: the daemon may have stored the events. ${again}`;
    this.#report(rest.filter((event) => inFlight.has(event)), new ConnectionFailed(unknown));
    const unsent = rest.filter((event) => !inFlight.has(event));
    this.#report(unsent, new SequorError(`not sent within ${closeTimeout} ms after close`));
  }

  /**
   * Sends a copy of all queued events with requests that outlive the page. The events stay queued
   * until a response arrives, because the page may stay. If both requests arrive, the events count
   * once, because they have the same ids.
   */
  async leave(): Promise<void> {
    const events = this.#queue.filter((event) => !this.#leaving.has(event));
    const batches = splitBatches(events.map(({ json }) => json), this.#options.maxBatch, MAX_KEEPALIVE_BYTES);
    await Promise.all(
      batches.map(async (batch) => {
        const sent = events.slice(batch.first, batch.first + batch.records.length);
        sent.forEach((event) => this.#leaving.add(event));
        try {
          const receipt = await this.#sender.sendOnLeave(batch.records);
          this.#settle(sent, receipt);
        } catch {
          // The events are still queued.
        } finally {
          sent.forEach((event) => this.#leaving.delete(event));
        }
      }),
    );
  }

  #schedule(): void {
    if (this.#running) return;
    if (this.#isDue || this.#queue.length >= this.#options.maxBatch) {
      this.#running = this.#run().finally(() => {
        this.#running = undefined;
        if (this.#queue.length > 0) this.#schedule();
      });
    } else if (this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#isDue = true;
        this.#schedule();
      }, this.#options.flushInterval);
      unref(this.#timer);
    }
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0 && (this.#isDue || this.#queue.length >= this.#options.maxBatch)) {
      const batch = this.#queue.slice(0, this.#options.maxBatch);
      this.#inFlight = batch;
      try {
        this.#settle(batch, await this.#sender.send(batch.map(({ json }) => json), this.#abort.signal));
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        const failure = error instanceof SequorError ? error : new SequorError(`the batch cannot be sent: ${error}`);
        this.#counts.failed += this.#remove(batch);
        this.#report(batch, failure);
      }
      this.#inFlight = [];
    }
    this.#isDue = false;
  }

  /**
   * Removes and counts a batch that the daemon has answered. If another request has settled a part
   * of the batch, the rest stays queued and is sent again.
   */
  #settle(batch: QueuedEvent[], receipt: Receipt): void {
    const queued = new Set(this.#queue);
    if (!batch.every((event) => queued.has(event))) return;
    this.#remove(batch);
    this.#counts.accepted += receipt.accepted;
    this.#counts.duplicates += receipt.duplicates;
    this.#counts.withheld += receipt.withheld;
    this.#counts.rejected += receipt.rejected.length;
    const rejected = receipt.rejected.flatMap((entry) => batch[entry.index] ?? []);
    this.#report(rejected, new EventsRejected(receipt.rejected));
  }

  #remove(batch: QueuedEvent[]): number {
    const sent = new Set(batch);
    const before = this.#queue.length;
    this.#queue = this.#queue.filter((event) => !sent.has(event));
    this.#releaseWaiting();
    return before - this.#queue.length;
  }

  #releaseWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((resolve) => resolve());
  }

  #report(events: QueuedEvent[], error: SequorError): void {
    if (events.length === 0) return;
    try {
      this.#options.onError(events.map(({ json }) => JSON.parse(json) as Event), error);
    } catch (defect) {
      console.error("sequor: onError failed:", defect);
    }
  }
}

function checkOptions(options: BufferOptions): void {
  const { maxBatch, capacity, whenFull } = options;
  checkCount("capacity", capacity, Number.MAX_SAFE_INTEGER, `${Number.MAX_SAFE_INTEGER}`);
  checkCount("maxBatch", maxBatch, capacity, `capacity (${capacity})`);
  checkTime("flushInterval", options.flushInterval, 0);
  checkTime("closeTimeout", options.closeTimeout, 0);
  if (whenFull !== "drop" && whenFull !== "wait") {
    throw new RangeError(`whenFull is ${shown(whenFull)}; it must be "drop" or "wait"`);
  }
}

function checkCount(name: string, value: number, most: number, limit: string): void {
  if (!(Number.isSafeInteger(value) && value >= 1 && value <= most)) {
    throw new RangeError(`${name} is ${shown(value)}; it must be a whole number from 1 to ${limit}`);
  }
}
