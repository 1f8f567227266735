// The fields that say what is written about the program and about its connections.

import { z } from "zod";
import { percent } from "./values.ts";

/** `log`. */
export const log = z
  .strictObject({
    level: z
      .enum(["debug", "info", "warn", "error"])
      .default("info")
      .describe("The least severe level that is written."),
    format: z.enum(["json", "pretty"]).default("json").describe("`pretty` is for people."),
  })
  .describe("What the process says about itself, on standard error.");

const accessLogOutput = z
  .string()
  .refine((written) => ["stdout", "stderr", "off"].includes(written) || written.includes("/"), {
    error: (issue) =>
      `"${String(issue.input)}" is not allowed; allowed: stdout, stderr, off, or a path with a slash in it, such as ./access.log`,
  })
  .meta({ allowed: "stdout, stderr, off, or a path with a slash in it" });

/** `access_log`. */
export const accessLog = z
  .strictObject({
    output: accessLogOutput.default("stdout").describe("Where it goes. A path is relative to this file."),
    format: z.enum(["json", "text"]).default("json").describe("`text` is a line in the style of HAProxy's tcplog."),
    level: z
      .enum(["info", "warn"])
      .default("info")
      .describe(
        "`warn`: only connections that failed, were refused or cut, or that the first endpoint did not take. Which close reason has which level is in README.md.",
      ),
    sample: percent(100)
      .prefault("100%")
      .describe("How many of the others (level `info`) are written. Those of level `warn` always are."),
  })
  .describe("One line for each connection, at its end.");
