// The contenders of the lab, in the order in which they are reported.
import { bunnel, bunnelWithLog } from "./bunnel.ts";
import type { Contender } from "./contender.ts";
import { envoy } from "./envoy.ts";
import { haproxy, haproxyWithSplice } from "./haproxy.ts";
import { nginx } from "./nginx.ts";
import { bunnelOnDeno, minimalDeno } from "./on-deno.ts";
import { minimalBun, minimalC, socat } from "./relays.ts";
import { ghostunnel, hitch, stunnel } from "./tls-tunnels.ts";

/** Every contender that is a program. "direct", which is none, is the lab's own (lab.ts). */
export const CONTENDERS: readonly Contender[] = [
  bunnel,
  bunnelWithLog,
  haproxy,
  haproxyWithSplice,
  nginx,
  stunnel,
  hitch,
  socat,
  envoy,
  ghostunnel,
  minimalC,
  minimalBun,
  bunnelOnDeno,
  minimalDeno,
];
