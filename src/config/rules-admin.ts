// Rules for the admin API: clients on other hosts have to authenticate.

import { formatAddress, isOnHost } from "../base/address.ts";
import type { Path } from "./problems.ts";
import type { Report } from "./report.ts";
import type { AdminConfig } from "./schema-admin.ts";

/** Judges the fields of `admin` together. */
export function checkAdmin(report: Report, admin: AdminConfig): void {
  const { address, token_file, tls, allow_plaintext } = admin;
  const at = (field: keyof AdminConfig): Path => ["admin", field];
  if (address === null || address.kind === "unix") {
    const why = address === null ? "the admin API is off" : "a unix socket is reached by file permission";
    if (tls !== undefined) report.error(at("tls"), `has no effect: ${why}`, at("address"));
    if (address === null && token_file !== undefined)
      report.error(at("token_file"), `has no effect: ${why}`, at("address"));
    if (allow_plaintext) report.error(at("allow_plaintext"), `has no effect: ${why}`, at("address"));
    return;
  }
  const text = formatAddress(address);
  const isProven = (tls?.client_ca.length ?? 0) > 0;
  if (isOnHost(address)) {
    if (allow_plaintext)
      report.error(at("allow_plaintext"), `has no effect: ${text} is reached from this host only`, at("address"));
    return;
  }
  if (!isProven && token_file === undefined)
    report.error(
      at("address"),
      `${text} can be reached from other hosts, and whoever reaches it commands the daemon: give \`tls\` with \`client_ca\`, or \`token_file\` with \`tls\`; or use 127.0.0.1 or unix:/path`,
      at("token_file"),
      at("tls"),
    );
  else if (tls === undefined && !allow_plaintext)
    report.error(
      at("token_file"),
      `would be sent to ${text} in plaintext from other hosts: give \`tls\`; if that is meant, say \`allow_plaintext: true\``,
      at("tls"),
    );
  if (tls !== undefined && allow_plaintext)
    report.error(at("allow_plaintext"), "has no effect beside `tls`", at("tls"));
}
