// What the rules of a config find, gathered.

import type { Path, Problem } from "./problems.ts";

/** What a rule found. */
export interface Finding extends Problem {
  readonly severity: "error" | "warning";
  /** The maps that the rule looked at. When one of them was misread, what the rule found there may not be so. */
  readonly about: readonly Path[];
}

/** Takes what the rules find. */
export class Report {
  readonly findings: Finding[] = [];
  /** Endpoints that are said to be wrong already: many routes can lead to one. */
  readonly blamedEndpoints = new Set<string>();

  /** `also`: maps, besides the one around `path`, that the rule looked at. */
  error(path: Path, message: string, ...also: Path[]): void {
    this.findings.push({ severity: "error", path, message, about: [path, path.slice(0, -1), ...also] });
  }

  /** For what is wrong whatever else the map around it says. */
  errorOfField(path: Path, message: string): void {
    this.findings.push({ severity: "error", path, message, about: [] });
  }

  warning(path: Path, message: string): void {
    this.findings.push({ severity: "warning", path, message, about: [path, path.slice(0, -1)], atKey: true });
  }
}
