// Writing DER (X.690): one function is all that it takes, since an element is made of the elements in it. Reading is der.ts.

/** An element: tag, length in its shortest form, contents one after the other. */
export function derElement(tag: number, ...contents: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const length = contents.reduce((sum, part) => sum + part.length, 0);
  const header = [tag];
  if (length < 0x80) header.push(length);
  else {
    const lengthBytes: number[] = [];
    for (let left = length; left > 0; left = Math.floor(left / 0x100)) lengthBytes.unshift(left % 0x100);
    header.push(0x80 | lengthBytes.length, ...lengthBytes);
  }
  const element = new Uint8Array(header.length + length);
  element.set(header);
  let at = header.length;
  for (const part of contents) {
    element.set(part, at);
    at += part.length;
  }
  return element;
}
