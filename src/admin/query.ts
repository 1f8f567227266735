// The parameters of a request's query: described once, for the reading of them and for the API's description.

import { Problem } from "./problem.ts";

interface Described {
  /** One sentence. */
  readonly about: string;
}
interface TextField extends Described {
  readonly kind: "text";
  readonly values?: readonly string[];
}
interface IntegerField extends Described {
  readonly kind: "integer";
  readonly min: number;
  readonly max: number;
  readonly default: number;
}
/** Null when it is not given. */
interface FlagField extends Described {
  readonly kind: "flag";
}

/** A parameter. None is required: a text that is not given is "". */
export type QueryField = TextField | IntegerField | FlagField;
/** By name. */
export type QueryFields = Readonly<Record<string, QueryField>>;

/** What was given, by name. */
export type QueryOf<F extends QueryFields> = {
  readonly [K in keyof F]: F[K] extends IntegerField ? number : F[K] extends FlagField ? boolean | null : string;
};

/** Characters of a value. */
export const LONGEST_VALUE = 256;

/** Throws the Problem (400) of every parameter that is unknown, given twice or not what it has to be. */
export function readQuery<F extends QueryFields>(fields: F, url: string): QueryOf<F> {
  const given = new URL(url).searchParams;
  const wrong: { readonly parameter: string; readonly detail: string }[] = [];
  const values: Record<string, string | number | boolean | null> = {};
  const names = Object.keys(fields);
  for (const parameter of new Set(given.keys())) {
    const known = names.length === 0 ? "none is taken here" : `known: ${names.join(", ")}`;
    if (!Object.hasOwn(fields, parameter))
      wrong.push({ parameter: parameter.slice(0, LONGEST_VALUE), detail: `is unknown; ${known}` });
    else if (given.getAll(parameter).length > 1) wrong.push({ parameter, detail: "is given more than once" });
  }
  for (const [parameter, field] of Object.entries(fields)) {
    const value = readValue(field, given.get(parameter));
    if (typeof value === "object" && value !== null) wrong.push({ parameter, detail: value.wrong });
    else values[parameter] = value;
  }
  if (wrong.length > 0) {
    const told = wrong.map(({ parameter, detail }) => `${parameter} ${detail}`).join("; ");
    throw new Problem(400, told, { members: { parameters: wrong } });
  }
  return values as QueryOf<F>;
}

interface Wrong {
  readonly wrong: string;
}

function readValue(field: QueryField, text: string | null): string | number | boolean | null | Wrong {
  switch (field.kind) {
    case "text": {
      const value = text ?? "";
      if (value.length > LONGEST_VALUE) return { wrong: `has more than ${LONGEST_VALUE} characters` };
      if (value !== "" && field.values !== undefined && !field.values.includes(value))
        return { wrong: `is none of ${field.values.join(", ")}` };
      return value;
    }
    case "integer": {
      if (text === null) return field.default;
      const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
      const isWithin = value >= field.min && value <= field.max;
      return isWithin ? value : { wrong: `has to be a whole number from ${field.min} to ${field.max}` };
    }
    case "flag":
      if (text === null) return null;
      return text === "true" || text === "false" ? text === "true" : { wrong: "has to be true or false" };
  }
}
