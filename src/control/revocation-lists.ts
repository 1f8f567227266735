// The revocation lists of one place in a config, judged as a set with the authorities that they are about. TLS libraries fail closed: with
// lists in use, an authority without a good one vouches for nobody, so a list put into the wrong file shuts everybody out. Signatures are
// not looked at: the seam verifies those of certificates only, and the TLS library those of lists, in each handshake.

import type { Path } from "../config/problems.ts";
import type { CertificateDetails } from "../protocol/certificate-details.ts";
import { splitPem } from "../protocol/pem.ts";
import { type RevocationList, readRevocationList } from "../protocol/revocation-list.ts";
import { decodePem } from "../tls-tools/pem.ts";
import { type Findings, titleOf } from "./findings.ts";
import type { PemFiles } from "./pem-files.ts";

const CRL = "X509 CRL";

export interface RevocationListsOptions {
  readonly path: Path;
  readonly files: PemFiles;
  readonly findings: Findings;
  /** Who vouches for peers at this place. */
  readonly authorities: readonly CertificateDetails[];
  /** Texts of the files that are served; null when nothing is. */
  readonly served: ReadonlyMap<string, string> | null;
}

/** Every list in these files, as PEM. */
export function readRevocationLists(paths: readonly string[], options: RevocationListsOptions): string[] {
  const { files, findings, authorities } = options;
  const lists: RevocationList[] = [];
  const servedLists: RevocationList[] = [];
  const pems = paths.flatMap((file, index) => {
    const path = [...options.path, index];
    const blocks = files.blocks(file, CRL, path);
    const before = servedBefore(file, options);
    servedLists.push(...before);
    for (const pem of blocks) {
      const list = readRevocationList(decodePem(pem, CRL));
      const problem = list === null ? "cannot be read" : list.problem;
      if (problem !== "") findings.error(path, `${file}: the revocation list ${problem}`);
      if (list === null) continue;
      lists.push(list);
      judge(list, { ...options, path, file, before });
    }
    return blocks;
  });
  if (lists.length === 0) return pems;
  for (const authority of authorities) {
    if (!authority.isCa || lists.some((list) => isOf(list, authority))) continue;
    const message = `${titleOf(authority)} has no revocation list here, and others have: whoever it vouches for is refused`;
    // A start has nothing better; taking away a list that worked is a mistake.
    if (servedLists.some((list) => isOf(list, authority))) findings.error(options.path, message);
    else findings.warn(options.path, message);
  }
  return pems;
}

interface OneList extends RevocationListsOptions {
  readonly file: string;
  /** What the file held. */
  readonly before: readonly RevocationList[];
}

function judge(list: RevocationList, { path, file, before, findings, authorities }: OneList): void {
  const authority = authorities.find((one) => isOf(list, one));
  const subject = authority === undefined ? "" : titleOf(authority);
  const { thisUpdateMs: notBeforeMs, nextUpdateMs: notAfterMs } = list;
  const role = "revocation_list";
  const expiring = { what: "a revocation list", role, file, subject, names: [], notBeforeMs, notAfterMs } as const;
  findings.noteValidity(path, expiring, { endIsFatal: true });
  const last = before.find(
    ({ issuer, authorityKeyId }) => issuer === list.issuer && authorityKeyId === list.authorityKeyId,
  );
  if (last !== undefined && notBeforeMs < last.thisUpdateMs)
    findings.warn(
      path,
      `${file}: the revocation list goes back in time: it is of ${timeOf(list)}, and the one before was of ${timeOf(last)}`,
    );
  // It may well be that of an intermediate, which peers send and no file here holds.
  if (authority === undefined && last === undefined)
    findings.warn(
      path,
      `${file}: a revocation list is of none of the authorities here: it serves only for one that peers send in their chain`,
    );
}

/** The lists that a file held, when it holds something else now. */
function servedBefore(file: string, { files, served }: RevocationListsOptions): RevocationList[] {
  const text = served?.get(file);
  if (text === undefined || text === files.texts.get(file)) return [];
  return splitPem(text, CRL).flatMap((pem) => readRevocationList(decodePem(pem, CRL)) ?? []);
}

/** By name, and by key where both say which: an authority may have got a new key under its old name. */
function isOf({ issuer, authorityKeyId }: RevocationList, { subjectDer, subjectKeyId }: CertificateDetails): boolean {
  return issuer === subjectDer && (authorityKeyId === "" || subjectKeyId === "" || authorityKeyId === subjectKeyId);
}

function timeOf({ thisUpdateMs }: RevocationList): string {
  return new Date(thisUpdateMs).toISOString();
}
