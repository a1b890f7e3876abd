import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The daemon under test: SEQUOR_BINARY, or a build of this repository. */
export function sequorBinary() {
  if (process.env.SEQUOR_BINARY) return process.env.SEQUOR_BINARY;
  const target = fileURLToPath(new URL("../../../target", import.meta.url));
  const found = ["release", "debug"].map((profile) => `${target}/${profile}/sequor`).find((path) => existsSync(path));
  if (!found) throw new Error("no daemon to test: run `cargo build`, or set SEQUOR_BINARY");
  return found;
}
