/** The daemon and the fault proxy as processes, and the events of a journal. */

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

// The compiled test is in build/test.
const { sequorBinary } = (await import(new URL("../../scripts/binary.mjs", import.meta.url).href)) as {
  sequorBinary: () => string;
};
/** The folder `clients/shared`, seen from the compiled test. */
const SHARED = fileURLToPath(new URL("../../../shared/", import.meta.url));
/** A generous limit for waits. No test is faster or slower with another limit, unless it fails. */
export const PATIENCE = 60_000;
export const NEVER = 3_600_000;

export const CASES = JSON.parse(readFileSync(`${SHARED}/cases.json`, "utf8"));

async function firstLine(process: ChildProcess): Promise<string> {
  const lines = createInterface({ input: process.stdout! });
  const [line] = await Promise.race([once(lines, "line"), once(lines, "close")]);
  // The rest of the output must not fill the pipe.
  lines.on("line", () => {});
  return line ?? "";
}

/** A free port below the ports of outgoing connections, which could take it during a restart. */
async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const port = 32_000 + Math.floor(Math.random() * 100);
    const server = createServer().listen(port, "127.0.0.1");
    // `once` rejects if the server emits an error first.
    const isFree = await once(server, "listening").then(() => true, () => false);
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
  throw new Error("the ports 32000 to 32099 are in use");
}

/** A daemon with a data directory and a port that outlive its restarts. */
export class Daemon {
  readonly #folder = mkdtempSync(join(tmpdir(), "sequor-"));
  #process: ChildProcess | undefined;
  #port = 0;

  constructor(readonly settings: readonly string[] = []) {}

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    this.#port ||= await freePort();
    const addresses = ["--listen", `127.0.0.1:${this.#port}`, "--admin-listen", "127.0.0.1:0", "--until-eof"];
    const settings = this.settings.flatMap((setting) => ["--set", setting]);
    this.#process = spawn(sequorBinary(), ["serve", "--data-dir", this.#dataDir, ...addresses, ...settings], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    const line = await firstLine(this.#process);
    if (!line.includes("is ready")) throw new Error(`the daemon did not start: ${line}`);
  }

  /** Kills the daemon with SIGKILL. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Lets the daemon hang: the system accepts its connections, and it answers nothing. */
  pause(): void {
    this.#process!.kill("SIGSTOP");
  }

  resume(): void {
    this.#process!.kill("SIGCONT");
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }

  /** The event ids in the journal of the stopped daemon. */
  exportedEventIds(): string[] {
    const output = execFileSync(sequorBinary(), ["export", "--data-dir", this.#dataDir, "--only", "event"], {
      encoding: "utf8",
      maxBuffer: 2 ** 28,
      stdio: ["ignore", "pipe", "ignore"],
    });
    return output.trim().split("\n").map((line) => JSON.parse(line).event_id);
  }

  /** The ids of a user's events in the journal. */
  async storedEventIds(userId: string): Promise<string[]> {
    const response = await fetch(`${this.url}/v1/users/${encodeURIComponent(userId)}`);
    const lines = (await response.text()).trim().split("\n").filter(Boolean);
    const entries = lines.map((line) => JSON.parse(line));
    return entries.filter(({ entry }) => entry === "event").map(({ event_id }) => event_id);
  }

  get #dataDir(): string {
    return join(this.#folder, "data");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const exit = once(this.#process!, "exit");
    this.#process!.kill(signal);
    await exit;
  }
}

/** The fault proxy in front of a daemon. */
export class FaultProxy {
  url = "";
  #process: ChildProcess | undefined;

  async start(target: string): Promise<void> {
    this.#process = spawn("python3", [`${SHARED}/fault_proxy.py`, target], { stdio: ["pipe", "pipe", "inherit"] });
    this.url = await firstLine(this.#process);
  }

  async plan(faults: unknown[]): Promise<void> {
    await fetch(`${this.url}/faults`, { method: "PUT", body: JSON.stringify(faults) });
  }

  async requests(): Promise<string[]> {
    return (await (await fetch(`${this.url}/requests`)).json()) as string[];
  }

  async stop(): Promise<void> {
    const exit = once(this.#process!, "exit");
    this.#process!.stdin!.end();
    await exit;
  }
}

/** Polls a condition. Fails after a long time. */
export async function waitUntil(description: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + PATIENCE; !condition(); await delay(10)) {
    if (Date.now() > end) throw new Error(`waited ${PATIENCE} ms in vain: ${description}`);
  }
}
