// The fields of the admin API. Part of the one definition in schema.ts.

import { z } from "zod";
import { adminAddress, filePath } from "./values.ts";

const adminTls = z
  .strictObject({
    cert: filePath.describe("PEM file with the server certificate, then its intermediates."),
    key: filePath.describe("PEM file with its private key, not encrypted."),
    client_ca: z
      .array(filePath)
      .prefault([])
      .describe(
        "PEM files with the CAs of client certificates. When there are any, a client has to present a certificate that one of them has issued.",
      ),
  })
  .describe("Serves the API over TLS, 1.2 or later. Changes of the files are picked up.");

/** `admin`. */
export const admin = z
  .strictObject({
    address: adminAddress
      .prefault("127.0.0.1:9901")
      .describe("Where it listens. One that other hosts can reach needs `tls.client_ca`, or `token_file` and `tls`."),
    token_file: filePath
      .optional()
      .describe(
        "A file with a token of at least 16 characters that every request has to carry: as `Authorization: Bearer TOKEN`, or as the password of any user. Read with the config.",
      ),
    tls: adminTls.optional(),
    allow_plaintext: z
      .boolean()
      .default(false)
      .describe("Takes the token from other hosts without TLS, where everybody on the way can read it."),
  })
  .prefault({})
  .describe("The admin API: status, metrics, probes, and the dashboard at `/`.");

/** The admin API, valid field by field. */
export type AdminConfig = z.output<typeof admin>;
