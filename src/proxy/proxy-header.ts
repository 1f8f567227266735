// The PROXY header that tells an endpoint who the client is: its addresses, and with `v2-tls` what its TLS said. It goes before everything else, a
// TLS handshake with the endpoint included, so it travels in the clear; what it says of the client is for this host or a trusted network.

import { readCertificate } from "../protocol/certificate.ts";
import { type ProxyAddress, TLV, type Tlv } from "../protocol/proxy-protocol.ts";
import {
  alpnTlv,
  authorityTlv,
  encodeProxyV1,
  encodeProxyV2,
  sslTlv,
  uniqueIdTlv,
} from "../protocol/proxy-protocol-out.ts";
import type { BackendSpec } from "../snapshot/snapshot.ts";
import type { Connection } from "./connection.ts";
import { SourceAddress } from "./source-address.ts";

/** Not passed on: they are about the header itself. */
const OF_THE_HEADER: readonly number[] = [TLV.CRC32C, TLV.NOOP];

/** The header for a connection; null when what is to be passed on does not fit into one. */
export function proxyHeader(connection: Connection, spec: BackendSpec): Uint8Array | null {
  const source = addressOf(connection.source);
  const destination = connection.received?.destination ?? dialled(connection);
  if (spec.sendProxyProtocol === "v1") return encodeProxyV1(source, destination);
  const own = spec.sendProxyProtocol === "v2-tls" ? ownTlvs(connection) : [];
  const received = spec.forwardProxyTlvs ? (connection.received?.tlvs ?? []) : [];
  // What we know ourselves stands for what we were told of the same kind.
  const ownTypes: readonly number[] = own.map(({ type }) => type);
  // Where TLS ends here, what somebody before us says of the client's TLS is about another one.
  const known = connection.secured === null ? ownTypes : [...ownTypes, TLV.SSL, TLV.ALPN];
  const passedOn = received.filter(({ type }) => !known.includes(type) && !OF_THE_HEADER.includes(type));
  return encodeProxyV2({
    source,
    destination,
    tlvs: [...own, ...passedOn],
    crc32c: spec.sendProxyProtocol === "v2-tls",
  });
}

function ownTlvs(connection: Connection): Tlv[] {
  const { secured, sni, listener, downstream } = connection;
  const tlvs: Tlv[] = [];
  if (secured !== null && secured.alpn !== "") tlvs.push(alpnTlv(secured.alpn));
  if (sni !== "") tlvs.push(authorityTlv(sni));
  tlvs.push(uniqueIdTlv(new TextEncoder().encode(connection.uniqueId)));
  if (secured === null || downstream.socket === null) return tlvs;
  const certificate = listener.worker.runtime.peerCertificate(downstream.socket);
  tlvs.push(
    sslTlv({
      presented: certificate === null ? "none" : secured.resumed ? "session" : "connection",
      // Nobody whose certificate does not verify comes this far.
      verified: certificate !== null,
      version: secured.version,
      cipher: secured.cipher,
      commonName: (certificate === null ? null : readCertificate(certificate))?.commonNames[0] ?? "",
      // Of our own certificate, unlike the rest (2.2.6).
      signatureAlgorithm: secured.shown.signatureAlgorithm,
      keyAlgorithm: secured.shown.keyAlgorithm,
      certificate,
    }),
  );
  return tlvs;
}

function dialled({ downstream }: Connection): ProxyAddress | null {
  const { socket } = downstream;
  return socket === null ? null : addressOf(new SourceAddress(socket.localAddress, socket.localPort));
}

function addressOf({ ip, port }: SourceAddress): ProxyAddress | null {
  return ip === "" ? null : { ip, port };
}
