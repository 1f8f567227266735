// `bunnel run` with no config makes its own PKI and prints two curl commands. Pasted into a shell they work, over mTLS and over plain TCP;
// the first one without the client's certificate does not. Stopped, it exits with 0; started again, the copied commands still work.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child, run } from "../support/child.ts";
import { bunnel } from "../support/daemon.ts";
import { missingPrograms } from "../support/programs.ts";

/** The embedded default has fixed ports. Somebody else's program on them is no fault of ours. */
async function portInUse(...ports: readonly number[]): Promise<string> {
  for (const port of ports) {
    const server = net.createServer();
    const free = await new Promise((resolve) => {
      server.on("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) return `port ${port} is in use`;
    await new Promise((resolve) => server.close(resolve));
  }
  return "";
}

const obstacle = missingPrograms("curl") || (await portInUse(8443, 8080));

test.skipIf(obstacle !== "")(`the printed commands work ${obstacle}`.trim(), async () => {
  // With a blank in the path, so that quoting is put to the test too.
  const state = mkdtempSync(join(tmpdir(), "bunnel quickstart-"));
  const start = (): Child => new Child(bunnel("run"), { env: { XDG_STATE_HOME: state }, cwd: state });
  try {
    let copied: string[];
    {
      await using daemon = start();
      await daemon.says("curl http://");
      copied = daemon.stdout.split("\n").flatMap((line) => /^ {2}(curl .*)$/.exec(line)?.[1] ?? []);
      expect(copied).toHaveLength(2);
      for (const command of copied) expect(await shell(command)).toMatchObject({ exitCode: 0, stdout: ECHOED });
      const withoutCertificate = (copied[0] ?? "").replace(/--cert .* (?=https:)/, "");
      expect(withoutCertificate).not.toContain("client.pem");
      const refused = await shell(withoutCertificate);
      expect(refused.exitCode).not.toBe(0);
      expect(refused.stdout).toBe("");
      expect(statSync(join(state, "bunnel/quickstart/client.key")).mode & 0o077).toBe(0);
      daemon.signal("SIGTERM");
      expect(await daemon.exited).toBe(0);
      expect(daemon.stdout).toContain("certificate_rejected");
    }
    await using again = start();
    await again.says("curl http://");
    for (const command of copied) expect(await shell(command)).toMatchObject({ exitCode: 0, stdout: ECHOED });
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
});

const ECHOED = expect.stringMatching(/^echo-[123]\n$/);

function shell(command: string): ReturnType<typeof run> {
  return run(["sh", "-c", `${command.replace("curl ", "curl --silent --show-error --max-time 4 ")}`]);
}
