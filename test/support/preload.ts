// Runs before the first test file of a process (bunfig.toml), so that its hooks are those of the whole run.

import { afterAll } from "bun:test";
import { removeTemporaryDirectories } from "./temporary.ts";

afterAll(removeTemporaryDirectories);
