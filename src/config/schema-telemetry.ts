// The fields for exporting connections to other systems as they end: spans of OpenTelemetry.

import { z } from "zod";
import { isOnHost, parseAddress } from "../base/address.ts";
import { filePath, percent } from "./values.ts";

/** RFC 9110, 5.6.2. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
const HEADER_VALUE = /^[\x20-\x7e]{1,4096}$/;

/** Messages never repeat what was written: it may hold a password. */
function endpointProblem(written: string): string {
  if (!/^https?:\/\//.test(written) || !URL.canParse(written))
    return "is no URL of a collector: write http://HOST:PORT/v1/traces or https://…";
  const { username, password, search, hash } = new URL(written);
  if (username !== "" || password !== "") return "a URL shows what it holds: put a password into `headers`";
  return search === "" && hash === "" ? "" : "a collector's URL has a path, and nothing behind it";
}

const endpoint = z
  .string()
  .superRefine((written, context) => {
    const message = endpointProblem(written);
    if (message !== "") context.addIssue({ code: "custom", message });
  })
  .meta({ allowed: "http://HOST:PORT/PATH or https://HOST:PORT/PATH", kind: "URL" });

const headerName = z.string().regex(HEADER_NAME, { error: "is no name of an HTTP header" });
const headerValue = z
  .string({ error: "a header is text: write it in quotes" })
  .regex(HEADER_VALUE, { error: "a header has up to 4096 printable characters of ASCII" });

const tls = z
  .strictObject({
    ca: z
      .array(filePath)
      .prefault([])
      .describe(
        "PEM files with the CAs that the collector's certificate is verified with. Default: the public ones that come with the program.",
      ),
    cert: filePath
      .optional()
      .describe("PEM file with our client certificate, then its intermediates. Without it, we present none."),
    key: filePath.optional().describe("PEM file with its private key, not encrypted. May be the same file."),
  })
  .describe("For a collector with https. Its certificate must be for the host in `endpoint`.");

const otlp = z
  .strictObject({
    endpoint: endpoint.describe(
      "Where the collector takes traces by OTLP/HTTP, as JSON: with the path, usually `/v1/traces`.",
    ),
    headers: z
      .record(headerName, headerValue)
      .default({})
      .describe("Sent along, such as an `authorization`. They are shown nowhere."),
    tls: tls.optional(),
    sample: percent(100)
      .prefault("100%")
      .describe(
        "How many of the connections that went well are exported. Those of level `warn` in the access log always are.",
      ),
    allow_plaintext: z
      .boolean()
      .default(false)
      .describe("Sends spans, and headers, unencrypted to another host. Spans show who connects to what."),
  })
  .superRefine(({ endpoint: written, allow_plaintext }, context) => {
    if (allow_plaintext || endpointProblem(written) !== "" || !written.startsWith("http:")) return;
    const { hostname, port } = new URL(written);
    const address = parseAddress(`${hostname}:${port === "" ? "80" : port}`);
    if (typeof address !== "string" && isOnHost(address)) return;
    const message =
      "is on another host, and would be sent spans as plaintext; write https://, or, if that is meant, say `allow_plaintext: true`";
    context.addIssue({ code: "custom", path: ["endpoint"], message });
  })
  .describe(
    "Exports a span for each connection, at its end, through the SDK of OpenTelemetry. Without it nothing is exported.",
  );

export type OtlpConfig = z.infer<typeof otlp>;

/** `telemetry`. */
export const telemetry = z
  .strictObject({ otlp: otlp.optional() })
  .describe("Data about connections that is exported to other systems.");
