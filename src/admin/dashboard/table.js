// Tables that are rendered again each second: only cells whose text has changed are touched, rows keep their element, their focus and whether they are
// open, and elements of rows that are gone become those of new ones. Rows that can be opened are one tab stop together; the arrow keys go from one to the next.

import { make, setText } from "./dom.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} title
 * @property {string} [hint] What the title means, when it is pointed at.
 * @property {string} [kind] Class of its cells: `number`, `code`, `spare` (left out on narrow screens).
 * @property {(row: Row) => string} text What is shown, or what `paint` shows: the same text means that nothing has changed.
 * @property {(cell: HTMLElement, row: Row) => void} [paint] Fills the cell by other means than that text.
 */

/**
 * @template Row
 * @typedef {object} TableOptions
 * @property {string} label Names it for those who do not see it.
 * @property {readonly Column<Row>[]} columns
 * @property {(row: Row) => string} key
 * @property {string} empty What is said instead of rows when there are none.
 * @property {(row: Row) => string} [rowClass]
 * @property {(row: Row) => string} [opens] Names what a row's button opens. There is a button in the first cell when this is given and not "".
 * @property {(row: Row) => Node} [detail] What is shown below a row while it is open.
 * @property {(row: Row) => void} [open] Or: what is done when it is opened.
 * @property {(row: Row) => boolean} [isOpen] With `open`, where that shows other rows below it: whether they are shown.
 */

/**
 * @template Row
 * @typedef {object} Entry
 * @property {Row} row
 * @property {HTMLTableRowElement} element
 * @property {HTMLElement[]} cells What holds the text of each column.
 * @property {string[]} texts
 * @property {HTMLButtonElement | null} button
 * @property {HTMLTableRowElement | null} detail
 */

/** @template Row */
export class Table {
  /** @type {TableOptions<Row>} */
  #options;
  /** @type {Map<string, Entry<Row>>} */
  #entries = new Map();
  #body = make("tbody");
  #none = make("td", { class: "none" });
  #noneRow = make("tr", {}, this.#none);
  #place;

  /**
   * @param {HTMLElement} place
   * @param {TableOptions<Row>} options
   */
  constructor(place, options) {
    this.#options = options;
    this.#place = place;
    const { columns, label } = options;
    const head = columns.map(({ title, hint = null, kind = "" }) =>
      make("th", { scope: "col", class: kind, title: hint }, title),
    );
    this.#none.colSpan = columns.length;
    this.#none.textContent = "Looking …";
    place.setAttribute("role", "region");
    place.setAttribute("aria-label", label);
    // What scrolls must be reachable for those who have no wheel.
    place.tabIndex = 0;
    place.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), this.#body));
    this.#body.append(this.#noneRow);
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    this.#body.addEventListener("focusin", ({ target }) => {
      if (target instanceof HTMLButtonElement && target.classList.contains("open")) this.#makeTabStop(target);
    });
  }

  /** Leaves out all rows, which are no longer true, and keeps their place. The browser holds some 30 KB for each. */
  forget() {
    const focused = document.activeElement;
    if (this.#entries.size === 0 || this.#place.contains(focused)) return;
    const { height } = this.#place.getBoundingClientRect();
    this.render([], "Looking …");
    this.#place.style.minHeight = `${height}px`;
  }

  /** Whether a row of these is open. */
  get hasOpen() {
    return [...this.#entries.values()].some(({ detail }) => detail !== null);
  }

  /**
   * @param {readonly Row[]} rows
   * @param {string} [empty] What is said when there are none.
   */
  render(rows, empty = this.#options.empty) {
    setText(this.#none, empty);
    this.#place.style.minHeight = "";
    const focused = document.activeElement;
    const at = focused === null ? -1 : this.#buttons().indexOf(/** @type {HTMLButtonElement} */ (focused));
    const keys = new Set(rows.map(this.#options.key));
    /** Rows that are gone: their elements are given to new ones, as the browser would hold both until it next collects. */
    const gone = [];
    for (const [key, entry] of this.#entries) {
      if (keys.has(key)) continue;
      this.#entries.delete(key);
      if (entry.detail === null) gone.push(entry);
      else {
        entry.element.remove();
        entry.detail.remove();
      }
    }
    /** @type {Node | null} */
    let next = this.#body.firstChild;
    /** @param {Node} element */
    const put = (element) => {
      if (element === next) next = element.nextSibling;
      else this.#body.insertBefore(element, next);
    };
    if (rows.length === 0) put(this.#noneRow);
    else this.#noneRow.remove();
    if (next === this.#noneRow) next = this.#body.firstChild;
    for (const row of rows) {
      const entry = this.#update(row, gone);
      put(entry.element);
      if (entry.detail !== null) put(entry.detail);
    }
    for (const { element } of gone) element.remove();
    this.#keepFocus(focused, at);
    this.#place.classList.toggle("reading", this.hasOpen);
  }

  /**
   * @param {Row} row
   * @param {Entry<Row>[]} gone One is taken out if it fits a row that is new.
   * @returns {Entry<Row>}
   */
  #update(row, gone) {
    const { columns, key, rowClass, isOpen, opens } = this.#options;
    const id = key(row);
    const known = this.#entries.get(id);
    if (known?.row === row) return known;
    const name = opens?.(row) ?? "";
    const at = known === undefined ? gone.findIndex(({ button }) => (button !== null) === (name !== "")) : -1;
    const entry = known ?? gone.splice(at, at < 0 ? 0 : 1)[0] ?? this.#create(row, name);
    entry.row = row;
    if (entry.button !== null && entry.button.ariaLabel !== name) entry.button.ariaLabel = name;
    for (const [index, { text, paint }] of columns.entries()) {
      const value = text(row);
      const cell = entry.cells[index];
      if (cell === undefined || entry.texts[index] === value) continue;
      entry.texts[index] = value;
      if (paint === undefined) setText(cell, value);
      else paint(cell, row);
    }
    if (rowClass !== undefined && entry.element.className !== rowClass(row)) entry.element.className = rowClass(row);
    if (isOpen !== undefined && entry.button !== null) setExpanded(entry.button, isOpen(row));
    if (known === undefined) this.#entries.set(id, entry);
    return entry;
  }

  /**
   * @param {Row} row
   * @param {string} name Of what its button opens.
   * @returns {Entry<Row>}
   */
  #create(row, name) {
    const { columns } = this.#options;
    const element = make("tr");
    /** @type {Entry<Row>} */
    const entry = { row, element, cells: [], texts: [], button: null, detail: null };
    for (const [index, { kind = "" }] of columns.entries()) {
      const cell = make("td", { class: kind });
      if (index === 0 && name !== "") {
        entry.button = make("button", { type: "button", class: "open", tabindex: "-1" });
        if (this.#options.detail !== undefined) entry.button.setAttribute("aria-expanded", "false");
        cell.append(entry.button);
      }
      element.append(cell);
      if (kind.startsWith("number")) entry.cells.push(cell.appendChild(make("span", { class: "figure" })));
      else entry.cells.push(entry.button !== null && index === 0 ? entry.button : cell);
    }
    if (name !== "") {
      element.addEventListener("click", (event) => {
        // The whole row can be pressed, but text that is being selected in it, or another button, is not meant.
        const { target } = event;
        if (target instanceof Element && target.closest("button, a") !== null && target.closest(".open") === null)
          return;
        if (getSelection()?.isCollapsed === false) return;
        this.#toggle(entry);
      });
      element.dataset.opens = "";
    }
    return entry;
  }

  /** @param {Entry<Row>} entry */
  #toggle(entry) {
    const { detail, open, columns } = this.#options;
    open?.(entry.row);
    if (detail === undefined) return;
    if (entry.detail === null) {
      const cell = make("td", {}, detail(entry.row));
      cell.colSpan = columns.length;
      entry.detail = make("tr", { class: "detail" }, cell);
      entry.element.after(entry.detail);
    } else {
      entry.detail.remove();
      entry.detail = null;
    }
    if (entry.button !== null) setExpanded(entry.button, entry.detail !== null);
    this.#place.classList.toggle("reading", this.hasOpen);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { key, target } = event;
    if (!(target instanceof HTMLElement)) return;
    if (key === "Escape") {
      const element = target.closest("tr");
      const entry = [...this.#entries.values()].find((each) => each.element === element || each.detail === element);
      if (entry === undefined || entry.detail === null) return;
      event.stopPropagation();
      this.#toggle(entry);
      entry.button?.focus();
      return;
    }
    if (!target.classList.contains("open")) return;
    const buttons = this.#buttons();
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (target));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[key];
    if (to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  }

  /** @returns {HTMLButtonElement[]} */
  #buttons() {
    return [...this.#body.querySelectorAll("button.open")].filter((each) => each instanceof HTMLButtonElement);
  }

  /** @param {HTMLButtonElement} button */
  #makeTabStop(button) {
    for (const other of this.#body.querySelectorAll('button.open[tabindex="0"]'))
      if (other !== button) other.setAttribute("tabindex", "-1");
    button.tabIndex = 0;
  }

  /**
   * One that was moved loses the focus, and one that went away leaves it to the row that took its place.
   * @param {Element | null} focused
   * @param {number} at
   */
  #keepFocus(focused, at) {
    if (this.#options.opens === undefined) return;
    const buttons = this.#buttons();
    if (at >= 0 && document.activeElement !== focused) {
      const to = focused?.isConnected === true ? focused : buttons[Math.min(at, buttons.length - 1)];
      if (to instanceof HTMLElement) to.focus({ preventScroll: true });
    }
    const [first] = buttons;
    if (first !== undefined && this.#body.querySelector('button.open[tabindex="0"]') === null) first.tabIndex = 0;
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {boolean} isExpanded
 */
function setExpanded(button, isExpanded) {
  if (button.ariaExpanded !== String(isExpanded)) button.ariaExpanded = String(isExpanded);
}
