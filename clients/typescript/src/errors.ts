import type { Problem, Rejection } from "./types.js";

/** A request failed. `problem` is the error response; it is undefined if there was no response. */
export class SequorError extends Error {
  override readonly name: string = "SequorError";

  constructor(
    message: string,
    readonly problem?: Problem,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  static fromProblem(problem: Problem): SequorError {
    const code = problem.type.replace("/problems/", "");
    const allowed = problem.allowed ? ` (allowed: ${problem.allowed})` : "";
    return new SequorError(`${problem.status} ${code}: ${problem.detail}${allowed}`, problem);
  }

  /** The type of the problem, such as `/problems/out-of-range`. */
  get type(): string | undefined {
    return this.problem?.type;
  }

  get status(): number | undefined {
    return this.problem?.status;
  }

  /** The invalid field or parameter. */
  get field(): string | undefined {
    return this.problem?.field ?? undefined;
  }

  /** The allowed values, in words. */
  get allowed(): string | undefined {
    return this.problem?.allowed ?? undefined;
  }
}

/** The daemon sent no response: the connection failed, was reset, or timed out. */
export class ConnectionFailed extends SequorError {
  override readonly name = "ConnectionFailed";
}

/** The daemon rejected events. `rejected` names the field and the reason of each. */
export class EventsRejected extends SequorError {
  override readonly name = "EventsRejected";

  constructor(readonly rejected: readonly Rejection[]) {
    const first = rejected[0];
    super(`${rejected.length} events rejected; event ${first?.index}: ${first?.reason}`);
  }
}

/**
 * The problem of an error response. A response without a problem document, such as that of a
 * reverse proxy, has the type `about:blank`.
 */
export function problemOf(status: number, headers: Headers, body: string): Problem {
  if (headers.get("content-type")?.startsWith("application/problem+json")) {
    try {
      return JSON.parse(body) as Problem;
    } catch {
      // A truncated document is no document.
    }
  }
  return { type: "about:blank", title: `HTTP status ${status}`, status, detail: body.slice(0, 200) };
}
