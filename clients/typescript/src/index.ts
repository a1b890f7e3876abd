export { EventBuffer, type BufferOptions, type BufferStats } from "./buffer.js";
export { SequorClient, type ClientOptions } from "./client.js";
export { ConnectionFailed, EventsRejected, SequorError } from "./errors.js";
export type { RetryPolicy } from "./retry.js";
export type * from "./types.js";
