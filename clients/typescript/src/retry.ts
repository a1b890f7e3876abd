import { shown } from "./json.js";

/** The longest time of a timer in milliseconds. A timer with a longer time, or NaN, ends after 1 ms. */
const MAX_TIME = 2 ** 31 - 1;

/**
 * Exponential backoff with full jitter. All times are in milliseconds.
 *
 * The delay before retry n is a random time up to `baseDelay` * 2^(n-1), at most `maxDelay`. It is
 * added to the `Retry-After` of the response. A response with a `Retry-After` above `maxRetryAfter`
 * is not retried. `attempts` includes the first attempt.
 */
export interface RetryPolicy {
  attempts: number;
  baseDelay: number;
  maxDelay: number;
  maxRetryAfter: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 5, baseDelay: 200, maxDelay: 10_000, maxRetryAfter: 60_000 };

/** The delay after a failed attempt, counted from 1. Undefined if there is no further attempt. */
export function delayBeforeRetry(
  policy: RetryPolicy,
  attempt: number,
  retryAfter: number | undefined,
  random: () => number,
): number | undefined {
  if (attempt >= policy.attempts || (retryAfter ?? 0) > policy.maxRetryAfter) return undefined;
  const backoff = Math.min(policy.maxDelay, policy.baseDelay * 2 ** (attempt - 1));
  return (retryAfter ?? 0) + random() * backoff;
}

// The daemon stores nothing if it answers with one of these.
const NOTHING_STORED = [408, 429, 503];
// The request can have taken effect.
const UNKNOWN_OUTCOME = [500, 502, 504];

/** Whether a request with a response of this status is sent again. */
export function isRetryableStatus(status: number, isIdempotent: boolean): boolean {
  return NOTHING_STORED.includes(status) || (isIdempotent && UNKNOWN_OUTCOME.includes(status));
}

/** The milliseconds that a `Retry-After` header asks to wait, from a number of seconds or a date. */
export function parseRetryAfter(value: string | null, now: number): number | undefined {
  const text = value?.trim() ?? "";
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  // `Date.parse` accepts numbers such as -1; a date of HTTP ends in GMT.
  const date = text.endsWith("GMT") ? Date.parse(text) : NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** Waits. An aborted signal ends the wait with the reason of the signal. */
export type Sleep = (milliseconds: number, signal: AbortSignal | undefined) => Promise<void>;

/** A wait that does not keep a Node process running if `isBackground` is set. */
export function timerSleep(isBackground: boolean): Sleep {
  return (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        if (signal?.aborted) reject(signal.reason);
        else resolve();
      };
      const timer = setTimeout(end, Math.min(milliseconds, MAX_TIME));
      if (isBackground) unref(timer);
      signal?.addEventListener("abort", end);
      if (signal?.aborted) end();
    });
}

/** Lets a Node process exit while the timer runs. Timers of browsers are numbers. */
export function unref(timer: unknown): void {
  (timer as { unref?: () => void }).unref?.();
}

/** Throws if an option is no time that a timer can wait. */
export function checkTime(name: string, value: number, least: number): void {
  if (!(value >= least && value <= MAX_TIME)) {
    throw new RangeError(`${name} is ${shown(value)}; it must be ${least} to ${MAX_TIME} milliseconds`);
  }
}

export function checkPolicy(policy: RetryPolicy): void {
  const leasts = { attempts: 1, baseDelay: 0, maxDelay: 0, maxRetryAfter: 0 };
  for (const [name, least] of Object.entries(leasts)) {
    const value = policy[name as keyof RetryPolicy];
    if (!(value >= least)) throw new RangeError(`retry.${name} is ${shown(value)}; it must be at least ${least}`);
  }
}
