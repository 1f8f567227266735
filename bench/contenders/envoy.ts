// Envoy as a contender: a static config with its TCP proxy filter and one worker thread.
import { SERVER_NAME } from "../certificates.ts";
import {
  type BenchListener,
  type CommandLine,
  type Contender,
  type ContenderInput,
  missingProgram,
  writeConfig,
} from "./contender.ts";

const TYPES = "type.googleapis.com/envoy.extensions";

/** Envoy, when it is in PATH: it is in no distribution's packages. */
export const envoy: Contender = {
  name: "envoy",
  about: "Envoy, `--concurrency 1`, static config, TCP proxy filter, no access log",
  role: "peer",
  missing: () => missingProgram("envoy"),
  prepare,
};

function prepare(input: ContenderInput): readonly CommandLine[] {
  const config = {
    static_resources: {
      listeners: input.listeners.map((listener) => listenerOf(listener, input)),
      clusters: input.listeners.map((listener) => clusterOf(listener, input)),
    },
  };
  // YAML is a superset of JSON.
  const file = writeConfig(input.folder, "envoy.yaml", [JSON.stringify(config, undefined, 2)]);
  return [["envoy", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c", file]];
}

function listenerOf({ name, port, terminates, sni }: BenchListener, { certificates: files }: ContenderInput) {
  const proxy = {
    name: "envoy.filters.network.tcp_proxy",
    typed_config: {
      "@type": `${TYPES}.filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: name,
      cluster: name,
      idle_timeout: "3600s",
    },
  };
  const inspector = {
    name: "envoy.filters.listener.tls_inspector",
    typed_config: { "@type": `${TYPES}.filters.listener.tls_inspector.v3.TlsInspector` },
  };
  const tls = terminates && {
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": `${TYPES}.transport_sockets.tls.v3.DownstreamTlsContext`,
        require_client_certificate: true,
        disable_stateless_session_resumption: terminates.tickets !== true,
        disable_stateful_session_resumption: true,
        common_tls_context: {
          tls_params: { tls_minimum_protocol_version: "TLSv1_2", tls_maximum_protocol_version: "TLSv1_3" },
          ...pair(files.serverCertificateFile, files.serverKeyFile),
          validation_context: { trusted_ca: { filename: files.caFile } },
        },
      },
    },
  };
  const chain = { ...(sni && { filter_chain_match: { server_names: [sni] } }), filters: [proxy], ...tls };
  return {
    name,
    address: addressOf(port),
    ...(sni && { listener_filters: [inspector] }),
    filter_chains: [chain],
  };
}

function clusterOf(
  { name, endpoints, originates }: BenchListener,
  { certificates: files, connections }: ContenderInput,
) {
  const tls = originates && {
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": `${TYPES}.transport_sockets.tls.v3.UpstreamTlsContext`,
        sni: SERVER_NAME,
        max_session_keys: 0,
        common_tls_context: {
          tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
          ...pair(files.clientCertificateFile, files.clientKeyFile),
          validation_context: {
            trusted_ca: { filename: files.caFile },
            match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: SERVER_NAME } }],
          },
        },
      },
    },
  };
  const limits = { max_connections: connections, max_pending_requests: connections };
  return {
    name,
    type: "STATIC",
    lb_policy: "LEAST_REQUEST",
    connect_timeout: "5s",
    circuit_breakers: { thresholds: [limits] },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: endpoints.map((port) => ({ endpoint: { address: addressOf(port) } })) }],
    },
    ...tls,
  };
}

function addressOf(port: number) {
  return { socket_address: { address: "127.0.0.1", port_value: port } };
}

function pair(certificate: string, key: string) {
  return { tls_certificates: [{ certificate_chain: { filename: certificate }, private_key: { filename: key } }] };
}
