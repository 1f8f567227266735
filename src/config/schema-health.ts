// The fields of a backend's `health`: how its endpoints are probed, and what the answers mean. Part of the one definition in schema.ts.

import { z } from "zod";
import { duration, escapedBytes, hostHeader, integer, percent, requestPath, statusRange } from "./values.ts";

const SECOND = 1000;
const HOUR = 3600 * SECOND;
/** A minute, the longest that anybody should wait for a probe. */
const LONGEST_PROBE = 60 * SECOND;
const MOST_BYTES = 1024;
const MOST_IN_A_ROW = 100;
const MOST_JITTER_PERCENT = 50;

const http = z
  .strictObject({
    method: z.enum(["GET", "HEAD"]).default("GET").describe("What is asked. With HEAD there is no body."),
    path: requestPath.prefault("/").describe("What is asked for."),
    host: hostHeader
      .optional()
      .describe("The Host header. Default: `tls.server_name`, or the endpoint's address as it is written."),
    expect_status: z
      .array(statusRange)
      .min(1, { error: "an empty list would expect no status, so no endpoint would ever be up" })
      .prefault(["200-299"])
      .describe("Statuses of an endpoint that is up. A redirect is not followed: it is a status like others."),
  })
  .describe(
    "For `type: http`: a request of HTTP/1.1. The head of the answer has 8 KiB at most, the whole of it 1 MiB, and all of it must come within `timeout`.",
  );

/** `backends.NAME.health`. */
export const health = z
  .strictObject({
    type: z
      .enum(["tcp", "tls", "http"])
      .default("tcp")
      .describe(
        "`tcp`: it accepts a connection; where nothing is sent or expected, the connection is withdrawn before the endpoint's program sees it. `tls`: also a TLS handshake by the backend's `tls`, and no refusal of our certificate after it. `http`: also a request, over TLS where the backend has `tls`.",
      ),
    interval: duration({ minMs: 100, maxMs: HOUR })
      .prefault("5s")
      .describe("From one probe of an endpoint to its next. Endpoints have their turns at different times."),
    jitter: percent(MOST_JITTER_PERCENT)
      .prefault("10%")
      .describe("By how much the time between two probes differs from `interval` at random."),
    timeout: duration({ minMs: 50, maxMs: LONGEST_PROBE })
      .optional()
      .describe(
        "How long a probe may take in all; not longer than `interval`. Default: 2s, or `interval` where that is shorter.",
      ),
    rise: integer({ min: 1, max: MOST_IN_A_ROW })
      .default(2)
      .describe("Successes in a row after which an endpoint that is down is up."),
    fall: integer({ min: 1, max: MOST_IN_A_ROW })
      .default(3)
      .describe("Failures in a row after which an endpoint that is up is down."),
    initial: z
      .enum(["up", "down", "check"])
      .default("up")
      .describe(
        "The state of an endpoint that is new. `up`: it is used, and its first probe decides. `check`: it is not used before its first probe, which comes within a second, has succeeded. `down`: it is not used before `rise` successes.",
      ),
    port: integer({ min: 1, max: 65_535 })
      .optional()
      .describe("Another port of the endpoint, for probes alone. They carry no PROXY header then."),
    http: http.optional(),
    send: escapedBytes(MOST_BYTES)
      .optional()
      .describe(
        "For `tcp` and `tls`: what is sent after connecting, such as `PING\\r\\n`. Not in double quotes, where YAML has escapes of its own.",
      ),
    expect: escapedBytes(MOST_BYTES)
      .optional()
      .describe("For `tcp` and `tls`: what must be somewhere in the first 8 KiB of the answer, such as `+PONG`."),
  })
  .describe(
    "Probes of the endpoints. One that is down is given no new connections. With `send_proxy_protocol` a probe begins with a header that says it is one.",
  );

/** `http` where nothing is said. */
export const HTTP_DEFAULTS = http.parse({});

/** `timeout` where nothing is said and the interval is not shorter. */
export const DEFAULT_TIMEOUT_MS = 2 * SECOND;
