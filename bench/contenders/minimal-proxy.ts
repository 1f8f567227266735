// A careless proxy: what Bun's sockets cost with no peek, no limits, no accounting, no timers. It stays in the lab as a floor,
// to tell what bunnel's features cost. It loses close reasons, trusts its peers and is no example of anything. With
// `busyMicroseconds` it wastes so much CPU time on each chunk: the lab's own test must see that.
// Usage: bun minimal-proxy.ts '{"listeners":[{"port":1,"targets":[2],"tls":{"cert":"","key":"","ca":""},"targetTls":{"serverName":"",…}}]}'
import type { Socket } from "bun";

interface Leg {
  other: Socket<Leg> | undefined;
  backlog: Uint8Array[];
}

const options = JSON.parse(process.argv[2] ?? "{}");
const filesOf = ({ cert = "", key = "", ca = "" }) => ({ cert: Bun.file(cert), key: Bun.file(key), ca: Bun.file(ca) });
const strict = { requestCert: true, rejectUnauthorized: true };
/** SSL_OP_NO_TICKET. */
const NO_TICKETS = 0x4000;
const busyMs = (options.busyMicroseconds ?? 0) / 1000;

function flush(socket: Socket<Leg>): void {
  const leg = socket.data;
  for (let chunk = leg.backlog.shift(); chunk !== undefined; chunk = leg.backlog.shift()) {
    const taken = socket.write(chunk);
    if (taken < chunk.length) {
      if (taken >= 0) leg.backlog.unshift(chunk.subarray(taken));
      return;
    }
  }
  leg.other?.resume();
}
const relay = {
  data(socket: Socket<Leg>, chunk: Uint8Array) {
    const other = socket.data.other;
    if (busyMs > 0) for (const until = performance.now() + busyMs; performance.now() < until; );
    if (other === undefined) return void socket.data.backlog.push(chunk);
    const taken = other.data.backlog.length > 0 ? 0 : other.write(chunk);
    if (taken < 0 || taken === chunk.length) return;
    other.data.backlog.push(chunk.subarray(taken));
    socket.pause();
  },
  drain: (socket: Socket<Leg>) => (socket.data.backlog.length > 0 && socket.data.other ? flush(socket) : undefined),
  close: (socket: Socket<Leg>) => void socket.data?.other?.end(),
  error: (socket: Socket<Leg>) => socket.terminate(),
};
for (const { port, targets, tls, targetTls } of options.listeners) {
  const downTls = tls && { tls: { ...filesOf(tls), ...strict, secureOptions: tls.tickets ? 0 : NO_TICKETS } };
  const upTls = targetTls && { tls: { ...filesOf(targetTls), ...strict, serverName: targetTls.serverName } };
  let turn = 0;
  const open = (down: Socket<Leg>) => {
    down.data = { other: undefined, backlog: [] };
    const opened = (up: Socket<Leg>) => {
      up.data = { other: down, backlog: down.data.backlog }; // What came before the upstream was there goes out first.
      down.data = { other: up, backlog: [] };
      flush(up);
    };
    turn = (turn + 1) % targets.length;
    const target = { hostname: "127.0.0.1", port: targets[turn], socket: { ...relay, open: opened }, ...upTls };
    Bun.connect<Leg>(target).catch(() => down.terminate());
  };
  Bun.listen<Leg>({ hostname: "127.0.0.1", port, socket: { ...relay, open }, ...downTls });
}
