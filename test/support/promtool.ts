// Prometheus' own tool, which judges metrics, rules and tests of rules.

import { program } from "./servers.ts";

/** What `promtool check metrics` says of an exposition; "" when it finds nothing. */
export async function checkMetrics(text: string): Promise<string> {
  return await promtool(["check", "metrics"], text);
}

/** Runs it; what it says when it is not content, and "" when it is. */
export async function promtool(args: readonly string[], input = "", cwd = "."): Promise<string> {
  const child = Bun.spawn([program("promtool"), ...args], {
    cwd,
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
    timeout: 30_000,
  });
  const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return said[2] === 0 ? said[1] : said.join("");
}
