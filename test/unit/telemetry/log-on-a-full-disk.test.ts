import { expect, test } from "bun:test";
import { join } from "node:path";

const LOG = join(import.meta.dir, "../../../src/telemetry/log.ts");

for (const format of ["json", "pretty"]) {
  test(`a full disk under the ${format} log throws nothing and ends nothing`, async () => {
    const script = `
      import { createLog } from ${JSON.stringify(LOG)};
      const log = createLog({ level: "info", format: "${format}" });
      for (let line = 0; line < 200; line++) log.info("x".repeat(10_000));
      await new Promise((resolve) => setTimeout(resolve, 20));
      console.log("alive", process.memoryUsage().rss < 400e6);`;
    const child = Bun.spawn(["sh", "-c", `exec "$0" -e "$1" 2>/dev/full`, process.execPath, script]);
    expect(await new Response(child.stdout).text()).toBe("alive true\n");
    expect(await child.exited).toBe(0);
  });
}
