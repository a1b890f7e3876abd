import { SequorError } from "./errors.js";
import type { Receipt } from "./types.js";

// The daemon's defaults of `server.max_batch` and `server.max_body_bytes`. If the daemon has smaller
// limits, it answers with 413, and the client halves the batch.
const MAX_BATCH = 1000;
const MAX_BODY_BYTES = 1_000_000;

/** Records in JSON, and the index of the first of them. */
interface Batch {
  first: number;
  records: string[];
}

/** Sends records in order, in batches within the limits of the daemon. */
export async function sendInBatches(
  records: readonly string[],
  send: (body: string, isLast: boolean) => Promise<Receipt>,
): Promise<Receipt> {
  const pending = splitBatches(records, MAX_BATCH, MAX_BODY_BYTES);
  let merged: Receipt = { accepted: 0, duplicates: 0, withheld: 0, rejected: [], offset: null };
  for (let batch = pending.shift(); batch; batch = pending.shift()) {
    const { first, records } = batch;
    try {
      merged = mergeReceipts(merged, await send(`[${records.join(",")}]`, pending.length === 0), first);
    } catch (error) {
      if (!(error instanceof SequorError && error.status === 413)) throw error;
      const half = Math.floor(records.length / 2);
      if (half > 0) {
        pending.unshift(
          { first, records: records.slice(0, half) },
          { first: first + half, records: records.slice(half) },
        );
      } else {
        merged.rejected.push({ index: first, code: "too_large", reason: error.message });
      }
    }
  }
  return merged;
}

/** Consecutive batches. A record above the limit of bytes has a batch of its own. */
export function splitBatches(records: readonly string[], maxRecords: number, maxBytes: number): Batch[] {
  const batches: Batch[] = [];
  let [current, size]: [Batch | undefined, number] = [undefined, 0];
  const encoder = new TextEncoder();
  records.forEach((record, index) => {
    const bytes = encoder.encode(record).length + 1;
    if (!current || current.records.length === maxRecords || size + bytes > maxBytes) {
      current = { first: index, records: [] };
      size = 2;
      batches.push(current);
    }
    current.records.push(record);
    size += bytes;
  });
  return batches;
}

function mergeReceipts(earlier: Receipt, later: Receipt, first: number): Receipt {
  const shifted = (entries: Receipt["rejected"] = []) =>
    entries.map((entry) => ({ ...entry, index: entry.index + first }));
  const offsets = [earlier.offset, later.offset].filter((offset) => offset != null);
  const merged: Receipt = {
    accepted: earlier.accepted + later.accepted,
    duplicates: earlier.duplicates + later.duplicates,
    withheld: earlier.withheld + later.withheld,
    rejected: [...earlier.rejected, ...shifted(later.rejected)],
    offset: offsets.length > 0 ? Math.max(...offsets) : null,
  };
  const warnings = [...(earlier.warnings ?? []), ...shifted(later.warnings)];
  if (warnings.length > 0) merged.warnings = warnings;
  const recommendations = later.recommendations ?? earlier.recommendations;
  if (recommendations) merged.recommendations = recommendations;
  return merged;
}
