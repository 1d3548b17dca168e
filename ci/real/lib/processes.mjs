//! Child processes, each the leader of a process group of its own, so that what it starts can be ended with it.
//!
//! The law of this file: nothing outlives the run. Whatever is still there when this process ends is killed by its
//! group's id, and no process is ever looked up by name.

import { spawn } from 'node:child_process';
import { openSync, closeSync, readFileSync } from 'node:fs';
import { Hopeless } from './until.mjs';

const running = new Set();

class Process {
  constructor(name, child, log) {
    Object.assign(this, { name, child, pid: child.pid, logFile: log });
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
      child.once('error', (error) => resolve({ code: null, error }));
    });
    this.exited.then((how) => { this.how = how; });
    running.add(this);
  }

  /** What the process has written to its standard output and error. */
  log() {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Sends a signal to the whole group; false when nobody of it is left. */
  signal(name) {
    if (!this.pid) return false;
    try {
      return process.kill(-this.pid, name);
    } catch {
      return false;
    }
  }

  /** Kills the group at once and resolves when its leader is gone. */
  async kill() {
    this.signal('SIGKILL');
    const how = await this.exited;
    running.delete(this);
    return how;
  }

  /** Asks the group to end, kills what is left after `ms` milliseconds, resolves with how the leader went. */
  async end(ms = 10_000) {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), ms);
    const how = await this.exited;
    clearTimeout(timer);
    this.signal('SIGKILL');
    running.delete(this);
    return how;
  }

  /** Throws with the end of the log when the process is gone. */
  mustRun() {
    if (this.how) {
      const why = this.how.error?.message ?? `code ${this.how.code}, signal ${this.how.signal}`;
      throw new Hopeless(`${this.name} ended (${why}):\n${this.how.error ? '' : this.log().slice(-2000)}`);
    }
  }
}

/** Starts `command` with its output in the file `log`, and with `child.stdin` to be written to where `input` is set. */
export function start(name, command, args, { env = {}, cwd, log, input = false }) {
  const out = openSync(log, 'a');
  const stdio = [input ? 'pipe' : 'ignore', out, out];
  const options = { cwd, env: { ...process.env, ...env }, detached: true, stdio };
  const child = spawn(command, args, options);
  closeSync(out);
  return new Process(name, child, log);
}

process.on('exit', () => running.forEach((each) => each.signal('SIGKILL')));
for (const [signal, number] of [['SIGINT', 2], ['SIGTERM', 15], ['SIGHUP', 1]]) {
  process.on(signal, () => process.exit(128 + number));
}
