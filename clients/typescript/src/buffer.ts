import { splitBatches } from "./batches.js";
import { EventsRejected, SequorError } from "./errors.js";
import { unref } from "./retry.js";
import type { Event, Receipt } from "./types.js";

/**
 * How events are queued and sent. Times are in milliseconds.
 *
 * The buffer sends a batch if `maxBatch` events are queued, or if `flushInterval` has passed since
 * the first of them. `capacity` bounds the queue. If the queue is full, `track` drops the event and
 * counts it (`drop`), or its promise waits for space (`wait`). `closeTimeout` bounds `close`.
 * `onError` gets every event that is lost: rejected, refused, or unsent at `close`.
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
 * stored, because their users have not given consent.
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
  onError: (events, error) => console.error(`sequor: ${events.length} events are lost:`, error.message),
};

// Browsers limit the bodies of requests that outlive their page to 64 KiB in all.
const MAX_KEEPALIVE_BYTES = 60_000;

/** How the buffer sends batches. */
export interface Sender {
  /** Retries until the daemon has stored or refused the batch, or until the signal aborts. */
  send(events: Event[], signal: AbortSignal): Promise<Receipt>;
  /** Sends once, with a request that outlives the page. */
  sendOnLeave(records: string[]): Promise<Receipt>;
}

/** Sends events in the background, in the order in which they were added. */
export class EventBuffer {
  readonly #sender: Sender;
  readonly #options: BufferOptions;
  readonly #abort = new AbortController();
  #queue: Event[] = [];
  #counts = { accepted: 0, duplicates: 0, withheld: 0, rejected: 0, dropped: 0, failed: 0 };
  #running: Promise<void> | undefined;
  #timer: unknown;
  #isDue = false;
  #isClosed = false;
  #waiting: (() => void)[] = [];
  #leaving = new Set<Event>();

  constructor(sender: Sender, options: Partial<BufferOptions> = {}) {
    this.#sender = sender;
    this.#options = { ...DEFAULT_BUFFER, ...options };
    const { maxBatch, capacity } = this.#options;
    if (!(maxBatch >= 1 && maxBatch <= capacity)) {
      throw new RangeError(`maxBatch is ${maxBatch}; it must be 1 to capacity (${capacity})`);
    }
  }

  /** The numbers of events so far. */
  get stats(): BufferStats {
    return { queued: this.#queue.length, ...this.#counts };
  }

  /** Queues an event. The result is false if it was dropped: the queue is full, or the buffer is closed. */
  async add(event: Event): Promise<boolean> {
    while (this.#isClosed || this.#queue.length >= this.#options.capacity) {
      // The buffer does not throw after `close`: few callers await the result of `track`.
      if (this.#isClosed || this.#options.whenFull === "drop") {
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
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#releaseWaiting();
    let timer: unknown;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#options.closeTimeout);
    });
    await Promise.race([this.flush(), timeout]);
    clearTimeout(timer as number);
    const unsent = this.#queue;
    this.#queue = [];
    this.#abort.abort();
    this.#counts.failed += unsent.length;
    if (unsent.length > 0) {
      this.#report(unsent, new SequorError(`not sent within ${this.#options.closeTimeout} ms after close`));
    }
  }

  /**
   * Sends a copy of all queued events with requests that outlive the page. The events stay queued
   * until a response arrives, because the page may stay. If both requests arrive, the events count
   * once, because they have the same ids.
   */
  async leave(): Promise<void> {
    const events = this.#queue.filter((event) => !this.#leaving.has(event));
    const records = events.map((event) => JSON.stringify(event));
    const batches = splitBatches(records, this.#options.maxBatch, MAX_KEEPALIVE_BYTES);
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
      try {
        this.#settle(batch, await this.#sender.send(batch, this.#abort.signal));
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        const failure = error instanceof SequorError ? error : new SequorError(`the batch cannot be sent: ${error}`);
        this.#counts.failed += this.#remove(batch);
        this.#report(batch, failure);
      }
    }
    this.#isDue = false;
  }

  /**
   * Removes and counts a batch that the daemon has answered. If another request has settled a part
   * of the batch, the rest stays queued and is sent again.
   */
  #settle(batch: Event[], receipt: Receipt): void {
    const queued = new Set(this.#queue);
    if (!batch.every((event) => queued.has(event))) return;
    this.#remove(batch);
    this.#counts.accepted += receipt.accepted;
    this.#counts.duplicates += receipt.duplicates;
    this.#counts.withheld += receipt.withheld;
    this.#counts.rejected += receipt.rejected.length;
    if (receipt.rejected.length > 0) {
      const rejected = receipt.rejected.flatMap((entry) => batch[entry.index] ?? []);
      this.#report(rejected, new EventsRejected(receipt.rejected));
    }
  }

  #remove(batch: Event[]): number {
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

  #report(events: Event[], error: SequorError): void {
    try {
      this.#options.onError(events, error);
    } catch (defect) {
      console.error("sequor: onError failed:", defect);
    }
  }
}
