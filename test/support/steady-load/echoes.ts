// Endpoints that send everything back, in a process of their own: `bun echoes.ts COUNT`. The first line tells their addresses; each line on standard input is answered with
// their counts. They count for themselves, which is what limits and balance are judged by. Standard input closed: ends.

interface State {
  readonly endpoint: number;
  backlog: Uint8Array[];
  ended: boolean;
}

interface Count {
  readonly address: string;
  open: number;
  /** The most that were open at once. */
  peak: number;
  total: number;
}

const count = Number(process.argv[2] ?? 1);
const counts: Count[] = [];
let peakOfAll = 0;

function flush(socket: Bun.Socket<State>): void {
  const state = socket.data;
  const wasBehind = state.backlog.length > 0;
  for (let next = state.backlog[0]; next !== undefined; next = state.backlog[0]) {
    const taken = socket.write(next);
    if (taken < 0) {
      socket.terminate();
      return;
    }
    if (taken < next.length) {
      state.backlog[0] = next.subarray(taken);
      return;
    }
    state.backlog.shift();
  }
  if (wasBehind) socket.resume();
  if (state.ended) socket.shutdown();
}

for (let endpoint = 0; endpoint < count; endpoint++) {
  const listener = Bun.listen<State>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      binaryType: "uint8array",
      open(socket) {
        socket.data = { endpoint, backlog: [], ended: false };
        const own = counts[endpoint] as Count;
        own.total++;
        own.peak = Math.max(own.peak, ++own.open);
        let all = 0;
        for (const { open } of counts) all += open;
        peakOfAll = Math.max(peakOfAll, all);
      },
      data(socket, bytes) {
        const { backlog } = socket.data;
        const taken = backlog.length > 0 ? 0 : socket.write(bytes);
        if (taken < 0) {
          socket.terminate();
          return;
        }
        if (taken === bytes.length) return;
        backlog.push(bytes.subarray(taken));
        socket.pause();
      },
      drain: flush,
      end(socket) {
        socket.data.ended = true;
        flush(socket);
      },
      close(socket) {
        (counts[socket.data.endpoint] as Count).open--;
      },
    },
  });
  counts.push({ address: `127.0.0.1:${listener.port}`, open: 0, peak: 0, total: 0 });
}

process.stdout.write(`${JSON.stringify({ addresses: counts.map(({ address }) => address) })}\n`);
process.stdin.on("data", (asked: Buffer) => {
  for (const byte of asked)
    if (byte === 10) process.stdout.write(`${JSON.stringify({ endpoints: counts, peakOfAll })}\n`);
});
process.stdin.on("end", () => process.exit(0));
