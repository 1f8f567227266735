// Dropping privileges to another user. It is done once, irreversibly, and verified afterwards: a process that only believes that it has given up
// root is worse than one that did not start.

import { readdirSync, readFileSync } from "node:fs";
import { codeOf, ProxyError } from "../../base/errors.ts";
import {
  become,
  canBecome,
  currentIds,
  findUser,
  forbidNewPrivileges,
  forbidNewPrivilegesToAllThreads,
  type UserEntry,
} from "./libc-privileges.ts";

const ROOT = 0;

/** See `Runtime.userExists`. */
export function userExists(user: string): boolean {
  return findUser(user) !== null;
}

/** See `Runtime.dropPrivileges`. */
export function dropPrivileges(user: string): void {
  const entry = findUser(user);
  if (entry === null) throw new ProxyError("EUSER", `there is no user ${user} on this host: create it or name another`);
  if (currentIds()[1] === ROOT) changeTo(entry);
  else if (!isAlready(entry))
    throw new ProxyError(
      "EPERM",
      `cannot run as user ${user}: only root may become another user; start as root or as ${user}, or leave \`user\` out`,
    );
  forbidPrivileges(user);
}

/** See `Runtime.commandLine`. */
export function commandLine(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch {
    return [];
  }
}

function changeTo(entry: UserEntry): void {
  const failure = become(entry);
  if (failure !== "") {
    const advice = failure.endsWith("EPERM") ? ": the capabilities CAP_SETUID and CAP_SETGID are needed" : "";
    throw new ProxyError("EPERM", `cannot run as user ${entry.name}: ${failure}${advice}`);
  }
  if (!isAlready(entry)) throw notDropped(entry.name, `the ids are ${currentIds().join(" ")}`);
  if (entry.uid !== ROOT && canBecome({ uid: ROOT, gid: ROOT })) throw notDropped(entry.name, "root can be taken back");
}

function isAlready({ uid, gid }: UserEntry): boolean {
  const [realUid, effectiveUid, savedUid, ...groups] = currentIds();
  return [realUid, effectiveUid, savedUid].every((id) => id === uid) && groups.every((id) => id === gid);
}

function forbidPrivileges(user: string): void {
  const failure = forbidNewPrivileges();
  if (failure !== "") throw notDropped(user, `prctl: ${failure}`);
  // Threads that were there before have it only if our parent had.
  if (allThreadsAreBound()) return;
  const refused = forbidNewPrivilegesToAllThreads();
  if (refused !== "") throw notDropped(user, `seccomp: ${refused}`);
}

function allThreadsAreBound(): boolean {
  return readdirSync("/proc/self/task").every((thread) => {
    try {
      return readFileSync(`/proc/self/task/${thread}/status`, "utf8").includes("\nNoNewPrivs:\t1\n");
    } catch (thrown) {
      // It has ended meanwhile.
      return codeOf(thrown) === "ENOENT" || codeOf(thrown) === "ESRCH";
    }
  });
}

function notDropped(user: string, why: string): ProxyError {
  return new ProxyError("EPERM", `privileges could not be given up to run as user ${user}: ${why}`);
}
