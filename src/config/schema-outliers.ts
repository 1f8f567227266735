// The fields of a backend's `outliers`: endpoints that fail are left alone for a while. Part of the one definition in schema.ts.

import { z } from "zod";
import { duration, integer } from "./values.ts";

const SECOND = 1000;
const DAY = 24 * 3600 * SECOND;
const MOST_FAILURES = 1000;

/**
 * `backends.NAME.outliers`. Off unless it is written, as in Envoy and HAProxy: connections that fail go to another endpoint anyhow, and who takes capacity
 * away on a suspicion should have said so.
 */
export const outliers = z
  .strictObject({
    failures: integer({ min: 1, max: MOST_FAILURES })
      .default(5)
      .describe(
        "Failures in a row, of all workers together, after which an endpoint is ejected: a connect that fails, a TLS handshake that fails, a reset before the endpoint's first byte. A client can provoke the last, by what it sends.",
      ),
    ejection: duration({ minMs: SECOND, maxMs: DAY })
      .prefault("10s")
      .describe(
        "How long an endpoint is given no connections, as long as there are others. Then one connection at a time tries it, until one succeeds; if it fails, the next ejection is twice as long.",
      ),
    max_ejection: duration({ minMs: SECOND, maxMs: DAY })
      .prefault("5m")
      .describe("The longest that an ejection grows to."),
    max_ejection_percent: integer({ min: 1, max: 100 })
      .default(50)
      .describe(
        "Of the endpoints of the backend, how many may be ejected at a time. One of several may be in any case; the only one never is.",
      ),
  })
  .describe("Ejects endpoints that connections fail at. Without it, none is ejected: write `{}` for the defaults.");
