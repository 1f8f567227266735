// @peculiar/x509 finds its algorithms through tsyringe, which refuses to load unless `Reflect` can store metadata (a proposal that
// never became part of the language). Its decorated classes take no constructor parameters, so three functions are
// all that is ever called; they are put in place here, unless something fuller is there already.
//
// The library is imported by a statement that waits, not by a declaration: it is CommonJS, and Bun runs those before the first line
// of any module that declares them.

const metadata = new WeakMap<object, Map<unknown, unknown>>();

function define(key: unknown, value: unknown, target: object): void {
  const ofTarget = metadata.get(target) ?? new Map<unknown, unknown>();
  ofTarget.set(key, value);
  metadata.set(target, ofTarget);
}

function getOwn(key: unknown, target: object): unknown {
  return metadata.get(target)?.get(key);
}

function get(key: unknown, target: object): unknown {
  for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
    const ofTarget = metadata.get(at);
    if (ofTarget?.has(key)) return ofTarget.get(key);
  }
  return undefined;
}

if (!("getMetadata" in Reflect)) {
  Object.defineProperties(Reflect, {
    defineMetadata: { value: define, configurable: true, writable: true },
    getOwnMetadata: { value: getOwn, configurable: true, writable: true },
    getMetadata: { value: get, configurable: true, writable: true },
  });
}

/** The library, ready for use. Types come from `@peculiar/x509` itself. */
export const x509 = await import("@peculiar/x509");
