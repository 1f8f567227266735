// `${NAME}` in the values of a config file, and what becomes of a value that was put together so.

import type { PlainValue } from "./yaml.ts";

/** The values of environment variables; what is absent or undefined is unset. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Replaces each `${NAME}` by the variable's value and each `$${` by `${`. `problem` says which variable is unset, or
 * that a `${` is not followed by a name and `}`; the text is then unchanged at that place.
 */
export function substitute(text: string, environment: Environment): { text: string; problem: string | null } {
  let problem: string | null = null;
  const replaced = text.replace(
    /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{/g,
    (found: string, name: string | undefined) => {
      if (found === "$${") return "${";
      if (name === undefined) {
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is shown as it is.
        problem ??= 'after "${" comes the name of an environment variable and "}"; for a literal "${" write "$${"';
        return found;
      }
      const value = environment[name];
      if (value === undefined) problem ??= `the environment variable ${name} is not set`;
      return value ?? found;
    },
  );
  return { text: replaced, problem };
}

/**
 * An unquoted scalar means after substitution what it would mean had the value been written there: `${LIMIT}` can be a
 * number.
 */
export function asIfWritten(text: string): PlainValue {
  if (/^-?(0|[1-9]\d{0,14})$/.test(text)) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  return text;
}
