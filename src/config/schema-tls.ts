// The TLS fields of the config: what listeners and routes present and demand, and what is spoken to endpoints. Part of the one definition
// in schema.ts.

import { z } from "zod";
import { alpnName, dnsPattern, filePath, serverName, trustDomain, uriPattern } from "./values.ts";

const certificate = z.strictObject({
  cert: filePath.describe("PEM file with the certificate, then its intermediates."),
  key: filePath.describe("PEM file with the certificate's private key, not encrypted. May be the same file."),
});

const certificates = z.array(certificate).meta({ allowed: "a list of {cert, key}" });
const clientAuth = z.enum(["required", "optional", "none"]);
const clientCa = z.array(filePath);
const clientCrl = z.array(filePath);
const minVersion = z.enum(["1.2", "1.3"]);
const alpn = z.array(alpnName);
const sessionTickets = z.boolean();
const trustDomains = z.record(trustDomain, z.array(filePath).min(1, { error: "a trust domain needs its bundle" }));
const onExpiry = z.enum(["keep", "close"]);

/** `listeners[].tls`. */
export const listenerTls = z
  .strictObject({
    certificates: certificates
      .prefault([])
      .describe("What is presented. The SNI picks by the DNS names of the certificates; the first is the default."),
    client_auth: clientAuth
      .default("required")
      .describe(
        "Whether a client must show a certificate that verifies against `client_ca`. With `optional` it may show none, but a bad one is refused.",
      ),
    client_ca: clientCa
      .prefault([])
      .describe(
        "PEM files with the CAs that client certificates are verified with. Needed unless `client_auth` is `none`.",
      ),
    client_crl: clientCrl
      .prefault([])
      .describe(
        "PEM files with revocation lists. When there is one, every CA in a client's chain needs one, or the client is refused.",
      ),
    min_version: minVersion.default("1.2").describe("The lowest TLS version. With 1.2 only AEAD suites are offered."),
    alpn: alpn
      .prefault([])
      .describe("Protocols to select from by ALPN, the preferred first. Empty: ALPN is not answered."),
    session_tickets: sessionTickets
      .default(false)
      .describe(
        "Whether clients may resume sessions. Of the certificate in a resumed session only the dates are checked again. A client whose certificate has expired is refused until it discards its ticket, even if it has a new certificate.",
      ),
    trust_domains: trustDomains
      .prefault({})
      .describe(
        "Instead of `client_ca`: SPIFFE trust domains, each with the PEM files of its bundle. A client must then show an X.509-SVID, and only the bundle of its own trust domain can vouch for it.",
      ),
    spiffe_folder: filePath
      .optional()
      .describe(
        "Instead of `certificates`, `client_ca` and `trust_domains`: a folder with one `*.private-key.pem` (the key, the SVID, its intermediates) and a `TRUST-DOMAIN.spiffe-trust-bundle.pem` for each trust domain.",
      ),
    on_expiry: onExpiry
      .default("keep")
      .describe("What happens to a connection whose client's certificate expires while it is open."),
  })
  .describe("What the terminating routes of this listener present and demand.");

/** `listeners[].routes[].terminate`: the same fields without defaults; what is not said here is the listener's. */
export const routeTls = z
  .strictObject({
    certificates: certificates.min(1).optional().describe("Instead of the listener's `tls.certificates`."),
    client_auth: clientAuth.optional().describe("Instead of the listener's `tls.client_auth`."),
    client_ca: clientCa.optional().describe("Instead of the listener's `tls.client_ca`."),
    client_crl: clientCrl.optional().describe("Instead of the listener's `tls.client_crl`."),
    min_version: minVersion.optional().describe("Instead of the listener's `tls.min_version`."),
    alpn: alpn.optional().describe("Instead of the listener's `tls.alpn`."),
    session_tickets: sessionTickets.optional().describe("Instead of the listener's `tls.session_tickets`."),
    trust_domains: trustDomains.optional().describe("Instead of the listener's `tls.trust_domains`."),
    spiffe_folder: filePath.optional().describe("Instead of the listener's `tls.spiffe_folder`."),
    on_expiry: onExpiry.optional().describe("Instead of the listener's `tls.on_expiry`."),
  })
  .describe("For `tls: terminate`: replaces whole fields of the listener's `tls` on this route.");

/** `backends.NAME.tls`. */
export const backendTls = z
  .strictObject({
    cert: filePath
      .optional()
      .describe("PEM file with our client certificate, then its intermediates. Without it, we present none."),
    key: filePath.optional().describe("PEM file with its private key, not encrypted. May be the same file."),
    ca: z
      .array(filePath)
      .prefault([])
      .describe("PEM files with the CAs that endpoints are verified with. The system's are never used."),
    crl: z
      .array(filePath)
      .prefault([])
      .describe(
        "PEM files with revocation lists. When there is one, every CA in an endpoint's chain needs one, or the endpoint is refused.",
      ),
    trust_domains: trustDomains
      .prefault({})
      .describe(
        "Instead of `ca`: SPIFFE trust domains, each with the PEM files of its bundle. An endpoint must then show an X.509-SVID, and only the bundle of its own trust domain can vouch for it.",
      ),
    spiffe_folder: filePath
      .optional()
      .describe("Instead of `cert`, `key`, `ca` and `trust_domains`: a folder as for a listener's `spiffe_folder`."),
    server_name: serverName
      .optional()
      .describe(
        "The host name that is sent as SNI and that the endpoint's certificate must be for. Default: the host in the endpoint's address. Common names are ignored.",
      ),
    verify: z
      .strictObject({
        dns: z
          .array(dnsPattern)
          .prefault([])
          .describe("Patterns, one of which a DNS name of the certificate must match."),
        uri: z
          .array(uriPattern)
          .prefault([])
          .describe("Patterns, one of which a URI name (SPIFFE ID) of the certificate must match."),
      })
      .prefault({})
      .describe("Who the endpoint must be, instead of the host name. When both fields are given, both must hold."),
    min_version: minVersion
      .default("1.3")
      .describe("The lowest TLS version. With 1.2 our certificate is sent before the endpoint's is verified."),
    alpn: alpn
      .prefault([])
      .describe("Protocols that we offer by ALPN. When there are any, the endpoint must choose one."),
    on_expiry: onExpiry
      .default("keep")
      .describe("What happens to a connection whose endpoint's certificate expires while it is open."),
  })
  .describe("TLS towards the endpoints. Without it they get the bytes as the route sees them.");
