import type { Recommendations } from "./types.js";

/** The lists of a stream of server-sent events. The id of an event is the journal offset of its list. */
export async function* listsOfStream(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<{ list: Recommendations; offset: number | undefined }, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const member = (name: string) =>
          block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        const [data, id] = [member("data"), member("id")];
        if (data !== undefined) {
          yield { list: JSON.parse(data) as Recommendations, offset: id === undefined ? undefined : Number(id) };
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
