// A page of instructions, taken apart: the commands that somebody types on host-a and host-b, in order, and what the page says they print.
// A fenced block says by its first line what it is:
//   sh host-a           typed on that host; `sh host-a until` is a look, repeated until it prints what it should
//   yaml host-a         the config of that host
//   crontab host-b      lines of a crontab, whose commands are run once
//   text                what the block before it prints: each line is a part of a line there, in that order; … is anything

export type HostName = "host-a" | "host-b";

/** One block that does something. */
export interface Step {
  readonly kind: "type" | "config";
  readonly host: HostName;
  /** Commands, or the config. */
  readonly text: string;
  /** Whether it is repeated until it prints what it should. */
  readonly until: boolean;
  /** Lines that it must print. */
  readonly prints: readonly string[];
}

/** The steps of a page. Throws when it has commands that nobody would run, or output that nothing prints. */
export function readWalkThrough(markdown: string): readonly Step[] {
  const steps: Step[] = [];
  for (const [, info = "", text = ""] of markdown.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const [kind, host, ...flags] = info.split(" ");
    if (kind === "") continue;
    if (kind === "text") {
      const last = steps.pop();
      if (last === undefined) throw new Error(`nothing prints this: ${text}`);
      steps.push({ ...last, prints: text.trimEnd().split("\n") });
    } else if ((kind === "sh" || kind === "yaml" || kind === "crontab") && (host === "host-a" || host === "host-b")) {
      const commands = kind === "crontab" ? text.replace(/^(?:\S+ ){5}/gm, "") : text;
      const until = flags.includes("until");
      steps.push({ kind: kind === "yaml" ? "config" : "type", host, text: commands, until, prints: [] });
    } else throw new Error(`a block of an unknown kind: ${info}`);
  }
  return steps;
}

/** The first line that is not there, or null when all are. */
export function missingLine(printed: string, expected: readonly string[]): string | null {
  const lines = printed.split("\n");
  let at = 0;
  for (const line of expected) {
    const parts = line.split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const pattern = new RegExp(parts.join(".*"));
    while (at < lines.length && !pattern.test(lines[at] ?? "")) at++;
    if (at++ >= lines.length) return line;
  }
  return null;
}
