// Whether two pieces of plain data are the same. A snapshot may have ten thousand endpoints and each reload compares two of them: as JSON text
// that is megabytes to make and throw away.

/** Whether JSON would write both alike but for the order of keys: a field that is undefined counts as absent. */
export function sameData(first: unknown, second: unknown): boolean {
  if (first === second) return true;
  if (typeof first !== "object" || typeof second !== "object" || first === null || second === null) return false;
  if (Array.isArray(first) || Array.isArray(second)) {
    if (!Array.isArray(first) || !Array.isArray(second) || first.length !== second.length) return false;
    for (let index = 0; index < first.length; index++) if (!sameData(first[index], second[index])) return false;
    return true;
  }
  return holds(first as Fields, second as Fields) && lacksNone(second as Fields, first as Fields);
}

type Fields = Readonly<Record<string, unknown>>;

function holds(outer: Fields, inner: Fields): boolean {
  for (const key in inner) if (!sameData(outer[key], inner[key])) return false;
  return true;
}

/** Whether every field that `inner` has is in `outer` too. */
function lacksNone(outer: Fields, inner: Fields): boolean {
  for (const key in inner) if (inner[key] !== undefined && outer[key] === undefined) return false;
  return true;
}
