// The fields that limit how fast: new connections of a listener, and bytes to and from a backend. See schema.ts.

import { integer, size } from "./values.ts";

/** More than any host accepts. */
const MOST_PER_SECOND = 1_000_000;
/** One read of the platform may bring 512 KiB: then a connection at this rate waits for half a minute. */
const LEAST_BANDWIDTH = 16 * 2 ** 10;
const MOST_BANDWIDTH = 1024 * 2 ** 30;

const rate = integer({ min: 0, max: MOST_PER_SECOND, zero: "no limit" });
const bandwidth = size({ min: LEAST_BANDWIDTH, max: MOST_BANDWIDTH, zero: "no limit" });

/** Of a listener. */
export const connectionRates = {
  max_connections_per_second: rate
    .default(0)
    .describe(
      "New connections in a second, of the whole program: each worker accepts an equal part of them. A second's worth may come at once; more wait in the accept queue.",
    ),
  max_connections_per_second_per_source: rate
    .default(0)
    .describe(
      "New connections in a second for each source address, after any PROXY header; a second's worth may come at once. More are reset with `limit_reached`. Each worker counts for itself, and remembers 10,000 sources.",
    ),
};

/** Of a backend. */
export const bandwidthLimits = {
  max_bandwidth: bandwidth
    .prefault("0B")
    .describe(
      "Bytes per second of each connection, each way. Beyond it reading pauses, so that TCP slows the sender down. A reload changes it for new connections.",
    ),
  max_backend_bandwidth: bandwidth
    .prefault("0B")
    .describe(
      "Bytes per second of all its connections together, each way. Each worker has an equal part of it, whatever its share of the connections. A reload changes it for all, and adds it for new ones.",
    ),
};
