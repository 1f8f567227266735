// A client that opens connections, makes one HTTP request on each and then holds them open in silence. It reads a number
// per line on stdin, opens that many more, and prints "open TOTAL" when each has had its answer. It exits 1, saying why, as
// soon as one fails or is closed.
// Usage: bun hold-idle.ts '{"port":8080,"tls":{"ca":"ca.pem","cert":"client.pem","key":"client.key"}}' (tls optional)
import type { Socket } from "bun";
import { SMALL_BODY, SMALL_PATH } from "./backends.ts";

interface Exchange {
  /** The answer so far; emptied once complete. */
  text: string;
  answered: () => void;
}

const OPENING_AT_ONCE = 32;
const REQUEST = `GET ${SMALL_PATH} HTTP/1.1\r\nHost: bench.test\r\n\r\n`;

const { port, tls: files } = JSON.parse(process.argv[2] ?? "{}");
const tls =
  files === undefined
    ? undefined
    : { ca: Bun.file(files.ca), cert: Bun.file(files.cert), key: Bun.file(files.key), rejectUnauthorized: true };

const handlers = {
  open(socket: Socket<Exchange>) {
    if (tls === undefined) socket.write(REQUEST);
  },
  handshake(socket: Socket<Exchange>, success: boolean) {
    if (!success) fail("a handshake failed");
    socket.write(REQUEST);
  },
  data(socket: Socket<Exchange>, chunk: Uint8Array) {
    const exchange = socket.data;
    exchange.text += Buffer.from(chunk).toString("latin1");
    if (!exchange.text.endsWith(SMALL_BODY)) return;
    exchange.text = "";
    exchange.answered();
  },
  close() {
    fail("a connection was closed");
  },
};

function fail(reason: string): never {
  console.error(reason);
  process.exit(1);
}

async function openOne(): Promise<void> {
  const answered = Promise.withResolvers<void>();
  await Bun.connect<Exchange>({
    hostname: "127.0.0.1",
    port,
    data: { text: "", answered: answered.resolve },
    socket: handlers,
    ...(tls === undefined ? {} : { tls }),
  });
  await answered.promise;
}

let total = 0;
for await (const line of console) {
  let remaining = Number(line);
  total += remaining;
  const opener = async (): Promise<void> => {
    for (; remaining > 0; ) {
      remaining -= 1;
      await openOne();
    }
  };
  await Promise.all(Array.from({ length: OPENING_AT_ONCE }, opener));
  console.log(`open ${total}`);
}
