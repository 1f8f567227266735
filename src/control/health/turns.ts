// When each endpoint is probed. Endpoints have fixed places in the interval, by a hash of their names, so that they are spread over it however many
// there are and whenever they came; around its place a probe moves at random.

/** A place in the interval, from 0 up to 1, that is always the same for a name. */
export function placeInInterval(name: string): number {
  // FNV-1a, then the finalizer of MurmurHash3: names that differ in one digit have to end up far apart.
  let hash = 0x811c9dc5;
  for (let index = 0; index < name.length; index++) hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

/** The first turn after `afterMs` of whoever has this place in an interval. */
export function nextTurnMs(afterMs: number, { place, intervalMs }: { place: number; intervalMs: number }): number {
  const offsetMs = place * intervalMs;
  return (Math.floor((afterMs - offsetMs) / intervalMs) + 1) * intervalMs + offsetMs;
}
