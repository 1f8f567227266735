// PostgreSQL with TLS of its own works through bunnel as it works without: psql verifies the server's certificate and name, the server
// verifies the client's, and neither can tell that somebody stands between them.

import { expect, test } from "bun:test";
import { testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { startDaemon } from "../support/daemon.ts";
import { missingPrograms } from "../support/programs.ts";
import { startPostgres } from "../support/servers.ts";

const missing = missingPrograms("postgres", "psql", "openssl");

test.skipIf(missing !== "")(
  `psql and PostgreSQL verify each other ${missing}`.trim(),
  async () => {
    const pki = await testPki();
    await using postgres = await startPostgres(pki.server, pki.authority.certificatePath);
    await using daemon = await startDaemon(`
listeners: [{ name: db, address: 127.0.0.1:0, backend: db }]
backends: { db: { endpoints: ["${postgres.address}"] } }
`);
    const psql = (port: number, client: typeof pki.client, query: string): ReturnType<typeof run> =>
      run(["psql", "--no-psqlrc", "--tuples-only", "--no-align", "-c", query], {
        env: {
          PGHOST: "localhost",
          PGHOSTADDR: "127.0.0.1",
          PGPORT: String(port),
          PGUSER: "client",
          PGDATABASE: "postgres",
          PGSSLMODE: "verify-full",
          PGSSLROOTCERT: pki.authority.certificatePath,
          PGSSLCERT: client.certificatePath,
          PGSSLKEY: client.keyPath,
          PGCONNECT_TIMEOUT: "4",
        },
      });
    const port = await daemon.port("db");

    // What the server knows of its client is the same as over a direct connection.
    const session =
      "SELECT ssl, version, cipher, client_dn, client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    const direct = await psql(postgres.port, pki.client, session);
    expect(direct.stdout).toStartWith("t|TLSv1.3|");
    expect(direct.stdout).toContain("/CN=client|");
    expect(await psql(port, pki.client, session)).toEqual(direct);

    // A few megabytes, so that it is not only small talk.
    const rows = "SELECT n, md5(n::text) FROM generate_series(1, 100000) AS n";
    const expected = await psql(postgres.port, pki.client, rows);
    expect(expected.stdout.length).toBeGreaterThan(3_000_000);
    expect((await psql(port, pki.client, rows)).stdout === expected.stdout).toBe(true);

    // It is the server that refuses, with its own words, through bunnel as without it.
    const refused = await psql(port, pki.wrongAuthority, session);
    expect(refused.stderr).toBe(
      (await psql(postgres.port, pki.wrongAuthority, session)).stderr.replaceAll(String(postgres.port), String(port)),
    );
    expect(refused.exitCode).not.toBe(0);

    const records = await daemon.recorded(3);
    expect(records.map(({ route, tls_version, identity }) => [route, tls_version, identity])).toEqual(
      Array(3).fill(["default", undefined, undefined]),
    );
  },
  20_000,
);
