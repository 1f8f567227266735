// Making and finding elements. Text only ever becomes text: nothing on this page is made from markup, as much of what it shows was chosen by strangers.

/** @typedef {string | Node | null} Child */

/**
 * An element. Attributes with null are left out; what begins with `on` is a listener.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Readonly<Record<string, string | null | ((event: Event) => void)>>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice("on".length), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

/**
 * The element of the page with that id; it is a defect when there is none of that kind.
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function find(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no #${id}`);
  return element;
}

/**
 * Sets a text if it is another one, so that what did not change is not laid out again and a selection in it stays. The text's node stays, too: the browser
 * would make all anew that it keeps for one.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  const { firstChild } = node;
  if (firstChild instanceof Text && firstChild.nextSibling === null) {
    if (firstChild.data !== text) firstChild.data = text;
  } else if (node.textContent !== text) node.textContent = text;
}

/**
 * Two lines in a cell, the second one smaller, in the elements that are there already. Each is cut to its column and said in full when it is pointed at.
 * @param {HTMLElement} cell
 * @param {string} first
 * @param {string} second Nothing when it is "".
 */
export function setLines(cell, first, second) {
  const [one, two] =
    cell.children.length === 2 ? cell.children : [make("span", { class: "line" }), make("span", { class: "sub line" })];
  if (one === undefined || two === undefined) return;
  if (one.parentNode !== cell) cell.replaceChildren(one, two);
  for (const [line, text] of /** @type {const} */ ([
    [one, first],
    [two, second],
  ])) {
    if (line.textContent === text) continue;
    setText(line, text);
    line.setAttribute("title", text);
  }
}

/**
 * A state in a word and a colour. The word says it all; the colour is for the eye.
 * @param {string} text
 * @param {"good" | "warn" | "bad" | "none"} level
 */
export function pill(text, level) {
  return make("span", { class: "pill", "data-level": level }, text);
}

/**
 * Makes the choices of a select those names, behind its first one, and keeps what is chosen.
 * @param {HTMLSelectElement} select
 * @param {readonly string[]} names
 * @param {(name: string) => string} [label]
 */
export function setChoices(select, names, label = (name) => name) {
  const { value } = select;
  const wanted = value === "" || names.includes(value) ? names : [...names, value];
  const there = [...select.options].slice(1).map((option) => option.value);
  if (there.length === wanted.length && there.every((name, index) => name === wanted[index])) return;
  const [first] = select.options;
  select.replaceChildren(
    ...(first === undefined ? [] : [first]),
    ...wanted.map((name) => make("option", { value: name }, label(name))),
  );
  select.value = value;
}
