// Run inside a page by tests of it: what is not legible, and what sticks out.

/**
 * Texts whose contrast with what is behind them is less than WCAG 2.2 AA asks for (1.4.3), each with its ratio.
 * @returns {readonly string[]}
 */
export function paleTexts() {
  /** @param {string} color */
  const parts = (color) => {
    const [r = 0, g = 0, b = 0, a = 1] = (color.match(/[\d.]+/g) ?? []).map(Number);
    return { r, g, b, a };
  };
  /** @param {{ r: number, g: number, b: number }} color */
  const luminance = ({ r, g, b }) => {
    const [x = 0, y = 0, z = 0] = [r, g, b].map((part) => {
      const value = part / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  /** The nearest opaque colour behind an element. @param {Element} element */
  const behind = (element) => {
    for (let at = /** @type {Element | null} */ (element); at !== null; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255, a: 1 };
  };
  const pale = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (element === null || node.textContent?.trim() === "" || element.closest("noscript, option, [hidden], :disabled"))
      continue;
    if (element.getClientRects().length === 0) continue;
    const [one, other] = [luminance(parts(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5)
      pale.push(`${ratio.toFixed(2)} "${node.textContent?.trim()}" in ${element.tagName}.${element.className}`);
  }
  return [...new Set(pale)];
}
