// Reloads and upgrades under load, at full size: `bun test/soak/changes.ts PER_SECOND STREAMS RELOADS UPGRADES WORKERS SECONDS`, by default 500 200 20 5 2 60.
// Prints what the load saw and how long the changes took; fails when anything was refused, reset, cut or corrupted.

import { testPki } from "../support/certificates.ts";
import { changeUnderLoad } from "../support/changes-under-load.ts";
import { removeTemporaryDirectories } from "../support/temporary.ts";

const DEFAULTS = [500, 200, 20, 5, 2, 60];
const [perSecond, streams, reloads, upgrades, workers, seconds] = DEFAULTS.map((otherwise, index) =>
  Number(process.argv[2 + index] ?? otherwise),
) as [number, number, number, number, number, number];

const outcome = await changeUnderLoad({
  ...{ pki: await testPki(), perSecond, streams, reloads, upgrades, workers, seconds },
});
console.log(JSON.stringify(outcome, null, 1));
removeTemporaryDirectories();
const { ok, attempted, streamsOk } = outcome.summary;
process.exit(ok === attempted && streamsOk === streams ? 0 : 1);
