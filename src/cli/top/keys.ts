// What is shown by `bunnel top`, and what each key changes of that. No key changes anything of the daemon.

import { VIEW_NAMES, VIEWS, type ViewName } from "./views.ts";

export interface Sorting {
  /** Index of a column of the view. */
  readonly column: number;
  /** The other way round than the column is sorted at first. */
  readonly isReversed: boolean;
}

/** What the person before the screen has chosen. */
export interface Choice {
  readonly view: ViewName;
  readonly sortings: Readonly<Record<ViewName, Sorting>>;
  /** Only rows that contain this; "" all. */
  readonly filter: string;
  /** A filter that is being written, and is what counts meanwhile; null: none is. */
  readonly draft: string | null;
  readonly isPaused: boolean;
  readonly showsHelp: boolean;
  /** Rows of the table that are scrolled away above. */
  readonly above: number;
}

/** How much there was to show. */
export interface Extent {
  /** Of the table, and of those how many find room. */
  readonly rows: number;
  readonly page: number;
}

/** Longest filter, in characters. */
const LONGEST_FILTER = 100;

const VIEW_OF_KEY = new Map(VIEW_NAMES.map((name) => [VIEWS[name].key, name]));

/** As `top` begins. */
export function firstChoice(view: ViewName): Choice {
  const sorting = (name: ViewName): Sorting => ({ column: VIEWS[name].sortedBy, isReversed: false });
  return {
    view,
    sortings: {
      listeners: sorting("listeners"),
      backends: sorting("backends"),
      endpoints: sorting("endpoints"),
      connections: sorting("connections"),
      failures: sorting("failures"),
      workers: sorting("workers"),
    },
    filter: "",
    draft: null,
    isPaused: false,
    showsHelp: false,
    above: 0,
  };
}

/** The filter that counts. */
export function filterOf({ draft, filter }: Choice): string {
  return draft ?? filter;
}

/** What the terminal sent, key by key. A key is a character, or a name: `up`, `enter` … Sequences that mean nothing here are left out. */
export function keysOf(sent: string): readonly string[] {
  const keys: string[] = [];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this is how keys come
  for (const [whole] of sent.matchAll(/\x1b\[[\d;?]*[ -/]*[@-~]|\x1bO[@-~]|./gsu)) {
    if (whole.length > 2 && whole.startsWith("\x1b")) {
      const name = SEQUENCES[whole.slice(2)];
      if (name !== undefined) keys.push(name);
    } else keys.push(CONTROLS[whole] ?? whole);
  }
  return keys;
}

/** After the bytes that begin a sequence: `ESC [`, `ESC O`. */
const SEQUENCES: Readonly<Record<string, string>> = {
  A: "up",
  B: "down",
  C: "right",
  D: "left",
  H: "home",
  F: "end",
  Z: "back-tab",
  "5~": "page-up",
  "6~": "page-down",
  "1~": "home",
  "4~": "end",
};

const CONTROLS: Readonly<Record<string, string>> = {
  "\x03": "ctrl-c",
  "\x04": "ctrl-d",
  "\x0c": "ctrl-l",
  "\x15": "ctrl-u",
  "\t": "tab",
  "\r": "enter",
  "\n": "enter",
  "\x1b": "escape",
  "\x7f": "backspace",
  "\b": "backspace",
};

/** What is chosen after a key; null: it ends. */
export function afterKey(choice: Choice, key: string, extent: Extent): Choice | null {
  if (key === "ctrl-c" || key === "ctrl-d") return null;
  if (choice.draft !== null) return afterDraftKey(choice, choice.draft, key);
  if (choice.showsHelp) return key === "q" ? null : { ...choice, showsHelp: false };
  const view = VIEW_OF_KEY.get(key);
  if (view !== undefined) return { ...choice, view, above: 0 };
  switch (key) {
    case "q":
      return null;
    case "tab":
      return neighbour(choice, 1);
    case "back-tab":
      return neighbour(choice, -1);
    case "s":
    case "right":
      return sortedBeside(choice, 1);
    case "S":
    case "left":
      return sortedBeside(choice, -1);
    case "r":
      return sorted(choice, { ...choice.sortings[choice.view], isReversed: !choice.sortings[choice.view].isReversed });
    case "/":
      return { ...choice, draft: choice.filter, above: 0 };
    case "escape":
      return { ...choice, filter: "", above: 0 };
    case "p":
    case " ":
      return { ...choice, isPaused: !choice.isPaused };
    case "?":
    case "h":
      return { ...choice, showsHelp: true };
    default:
      return scrolled(choice, key, extent);
  }
}

function afterDraftKey(choice: Choice, draft: string, key: string): Choice {
  if (key === "enter") return { ...choice, filter: draft, draft: null };
  if (key === "escape") return { ...choice, draft: null };
  if (key === "ctrl-u") return { ...choice, draft: "" };
  if (key === "backspace") return { ...choice, draft: [...draft].slice(0, -1).join("") };
  // Names of other keys are longer than a character.
  const isText = /^[^\p{C}]$/u.test(key) && draft.length < LONGEST_FILTER;
  return isText ? { ...choice, draft: draft + key } : choice;
}

function scrolled(choice: Choice, key: string, { rows, page }: Extent): Choice {
  const last = Math.max(0, rows - page);
  const steps: Readonly<Record<string, number>> = {
    up: -1,
    k: -1,
    down: 1,
    j: 1,
    "page-up": -page,
    "page-down": page,
    home: -rows,
    end: rows,
  };
  const step = steps[key];
  if (step === undefined) return choice;
  return { ...choice, above: Math.min(last, Math.max(0, Math.min(last, choice.above) + step)) };
}

function neighbour(choice: Choice, step: 1 | -1): Choice {
  const index = (VIEW_NAMES.indexOf(choice.view) + step + VIEW_NAMES.length) % VIEW_NAMES.length;
  return { ...choice, view: VIEW_NAMES[index] ?? choice.view, above: 0 };
}

function sortedBeside(choice: Choice, step: 1 | -1): Choice {
  const { length } = VIEWS[choice.view].columns;
  const column = (choice.sortings[choice.view].column + step + length) % length;
  return sorted(choice, { column, isReversed: false });
}

function sorted(choice: Choice, sorting: Sorting): Choice {
  return { ...choice, sortings: { ...choice.sortings, [choice.view]: sorting }, above: 0 };
}
