/** Values of the caller as JSON and as parameters of queries. A value that these cannot express is an error. */

const ALLOWED = "it must be a text, a finite number, a boolean, null, a valid Date, an array or a plain object";

/** A problem of a value: the class and the text of the error. */
type Problem = [typeof TypeError | typeof RangeError, string];

/**
 * The JSON text of a value. `JSON.stringify` makes `null` of NaN and of invalid dates, makes `{}` of
 * a Map, and leaves out functions. Here, they are errors, like cycles and BigInts. `subject` is the
 * record that the error names.
 */
export function encode(value: unknown, subject = ""): string {
  // The objects that contain the present member, outermost first.
  const parents: { object: unknown; path: string }[] = [];
  let refusal: Error | undefined;

  function check(this: any, key: string, member: unknown): unknown {
    while (parents.length > 0 && parents[parents.length - 1]!.object !== this) parents.pop();
    const isElement = Array.isArray(this);
    const isCycle = parents.some(({ object }) => object === member);
    // An invalid Date is null; `this` has the Date.
    const isInvalidDate = member === null && kindOf(this[key]) === "Date";
    const problem = isCycle ? CYCLE : isInvalidDate ? INVALID_DATE : problemOf(member, isElement);
    if (!problem && (typeof member !== "object" || member === null)) return member;
    const parent = parents[parents.length - 1]?.path ?? "";
    const path = isElement ? `${parent}[${key}]` : parent ? `${parent}.${key}` : key;
    if (problem) {
      const [ErrorClass, text] = problem;
      refusal = new ErrorClass(`${subject && `${subject}: `}${path ? `\`${path}\`` : "the body"} ${text}`);
      throw refusal;
    }
    parents.push({ object: member, path });
    return member;
  }

  try {
    return JSON.stringify(value, check);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw refusal ?? new TypeError(`${subject || "the body"} has no JSON form: ${text}`, { cause: error });
  }
}

const CYCLE: Problem = [TypeError, "contains itself; JSON has no cycles"];
const INVALID_DATE: Problem = [RangeError, "is an invalid Date; it must be a valid one"];

function problemOf(member: unknown, isElement: boolean): Problem | undefined {
  switch (typeof member) {
    case "string":
    case "boolean":
      return undefined;
    case "number":
      return Number.isFinite(member) ? undefined : [RangeError, `is ${member}; it must be a finite number`];
    case "undefined":
      if (!isElement) return undefined;
      break;
    case "object":
      // `dataset` of an element of a page is a DOMStringMap.
      if (["Null", "Object", "Array", "DOMStringMap"].includes(kindOf(member))) return undefined;
  }
  return [TypeError, `is ${describe(member)}; ${ALLOWED}`];
}

/** The JSON text of each record. The records must be objects. */
export function encodeRecords<R>(
  name: string,
  subject: string,
  records: readonly R[],
  complete = (record: R) => record,
): string[] {
  requireArray(name, records);
  // `Array.from` includes the gaps of a sparse array.
  return Array.from(records, (record, index) => {
    requireObject(`${subject} ${index}`, record);
    return encode(complete(record), `${subject} ${index}`);
  });
}

export function requireArray(name: string, value: unknown): void {
  if (!Array.isArray(value)) throw new TypeError(`${name} is ${describe(value)}; it must be an array`);
}

export function requireObject(name: string, value: unknown, allowed = "an object"): void {
  if (kindOf(value) !== "Object") throw new TypeError(`${name} is ${describe(value)}; it must be ${allowed}`);
}

/** A parameter of a query. A list of ids is joined by commas. */
export function queryText(name: string, value: unknown): string {
  if (Array.isArray(value)) {
    const ids = value.map((id) => queryText(name, id));
    const wrong = ids.find((id) => id.includes(","));
    if (wrong === undefined) return ids.join(",");
    throw new RangeError(`\`${name}\` has the id ${JSON.stringify(wrong)}; the query separates ids by commas`);
  }
  const isNumber = typeof value === "number";
  if (isNumber ? Number.isFinite(value) : ["string", "boolean", "bigint"].includes(typeof value)) return String(value);
  const text = `\`${name}\` is ${isNumber ? value : describe(value)}; it must be a text, a finite number or a boolean`;
  throw isNumber ? new RangeError(text) : new TypeError(text);
}

/** An invalid option or id in an error message. */
export function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** The kind of a value, such as `Map`. */
function kindOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

function describe(value: unknown): string {
  return value === null || value === undefined ? String(value) : `of the type ${kindOf(value)}`;
}
