// Who may ask the admin API: the token and the certificates that the config names, read and judged with all other files of the config.

import { messageOf } from "../base/errors.ts";
import type { Path } from "../config/problems.ts";
import type { AdminConfig } from "../config/schema-admin.ts";
import { readCertificateDetails } from "../protocol/certificate-details.ts";
import type { HttpServerTls } from "../runtime/http.ts";
import { decodePem } from "../tls-tools/pem.ts";
import { misuseOf, titleOf } from "./findings.ts";
import type { MaterialOptions, MaterialReader } from "./material.ts";

/** What whoever asks has to know or show. It holds secrets. */
export interface AdminAccess {
  /** Null: none is asked for. */
  readonly token: string | null;
  readonly tls: HttpServerTls | null;
}

/** Nobody is asked for anything. */
export const OPEN_ACCESS: AdminAccess = { token: null, tls: null };

const SHORTEST_TOKEN = 16;
const CERTIFICATE = "CERTIFICATE";

/** Reads the files of `admin`, and notes what is wrong with them. */
export function readAdminAccess(
  { files, findings }: MaterialReader,
  { token_file, tls }: AdminConfig,
  runtime: MaterialOptions["runtime"],
): AdminAccess {
  let token: string | null = null;
  if (token_file !== undefined) {
    const path: Path = ["admin", "token_file"];
    token = files.text(token_file, path)?.trim() ?? null;
    // Never quoted: it may be a secret of something else.
    if (token !== null && !/^[\x21-\x7e]*$/.test(token))
      findings.error(path, `${token_file}: a token is one line of ASCII without spaces`);
    else if (token !== null && token.length < SHORTEST_TOKEN)
      findings.error(
        path,
        `${token_file}: the token has ${token.length} characters; it needs at least ${SHORTEST_TOKEN}`,
      );
  }
  if (tls === undefined) return { token, tls: null };
  const at = (field: keyof typeof tls): Path => ["admin", "tls", field];
  const problemsBefore = findings.problems.length;
  const certificates = (file: string, path: Path, role: "certificate" | "authority"): readonly string[] =>
    files.blocks(file, CERTIFICATE, path).filter((pem, index) => {
      const details = readCertificateDetails(decodePem(pem, CERTIFICATE));
      if (details === null) {
        findings.error(path, `${file}: certificate ${index + 1} cannot be read`);
        return false;
      }
      const isShown = role === "certificate" && index === 0;
      findings.noteCertificate(path, details, { file, role: isShown || role === "authority" ? role : "intermediate" });
      const misuse = isShown ? misuseOf(details, "SERVER_AUTH") : "";
      if (misuse !== "") findings.warn(path, `${file}: ${titleOf(details)}: ${misuse}`);
      if (role === "authority" && !details.isCa)
        findings.suspect(path, [file], `${file}: certificate ${index + 1} is no authority: it vouches for nobody`);
      return true;
    });
  const chain = certificates(tls.cert, at("cert"), "certificate");
  const keyPem = files.key(tls.key, at("key"));
  const clientCaPem = tls.client_ca.flatMap((file, index) =>
    certificates(file, [...at("client_ca"), index], "authority"),
  );
  // With those it would be open to everybody.
  if (keyPem === null || chain.length === 0 || findings.problems.length > problemsBefore) return { token, tls: null };
  const served: HttpServerTls = { chainPem: chain.join(""), keyPem, clientCaPem };
  try {
    runtime?.serverContext({
      ...served,
      clientAuth: clientCaPem.length > 0 ? "required" : "none",
      clientCrlPem: [],
      minVersion: "1.2",
      alpn: [],
      sessionTickets: false,
    });
  } catch (thrown) {
    findings.error(at("key"), `${tls.cert} with ${tls.key}: ${messageOf(thrown)}`);
  }
  return { token, tls: served };
}
