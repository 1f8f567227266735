// The floor under bunnel on Deno: its own node:net and node:tls, one stream piped into the other. Its argument is JSON: where to listen, with which TLS,
// and the ports behind, taken in turn.
import { readFileSync } from "node:fs";
import net from "node:net";
import process from "node:process";
import type { Duplex } from "node:stream";
import tls from "node:tls";

interface Listener {
  readonly port: number;
  readonly targets: readonly number[];
  /** Paths. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
}

for (const { port, targets, tls: files } of JSON.parse(process.argv[2] ?? "[]") as Listener[]) {
  let next = 0;
  const relay = (client: Duplex): void => {
    const target = net.connect({
      host: "127.0.0.1",
      port: targets[next++ % targets.length] as number,
      allowHalfOpen: true,
      noDelay: true,
    });
    client.pipe(target).pipe(client);
    client.on("error", () => target.destroy());
    target.on("error", () => client.destroy());
  };
  const server =
    files === undefined
      ? net.createServer({ allowHalfOpen: true, noDelay: true }, relay)
      : tls.createServer(
          {
            cert: readFileSync(files.cert),
            key: readFileSync(files.key),
            ca: readFileSync(files.ca),
            requestCert: true,
            rejectUnauthorized: true,
          },
          relay,
        );
  server.listen({ host: "127.0.0.1", port, backlog: 4096 });
}
