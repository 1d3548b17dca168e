//! The server under test: its configuration, its start, its end, and what it tells about itself.

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.mjs';
import { start } from './processes.mjs';
import { until } from './until.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');

/** The program: `EDGEHOLD`, or the release build of this checkout. */
export function program() {
  const file = path.resolve(process.env.EDGEHOLD ?? path.join(ROOT, 'target/release/edgehold'));
  if (!existsSync(file)) throw new Error(`no ${file}: build it (cargo build --release) or set EDGEHOLD`);
  return file;
}

// JSON's strings, numbers, booleans and arrays of those are TOML's as well.
const lines = (table) => Object.entries(table).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
const section = (head, table) => [head, ...lines(table), ''].join('\n');

/** The configuration file: `limits` and `server` are tables, `routes` and `feeds` lists of tables. */
export function configuration({ server, listener, limits, routes, feeds = [] }) {
  return [
    section('[server]', server),
    section('[[listener]]', listener),
    section('[limits]', limits),
    ...feeds.map((feed) => section('[[feed]]', feed)),
    ...routes.map((route) => section('[[route]]', route)),
  ].join('\n');
}

class Edgehold {
  constructor(process, port, admin) {
    Object.assign(this, { process, port, admin });
  }

  /** The address of a path for a WebSocket client. */
  ws(path) {
    return `ws://127.0.0.1:${this.port}${path}`;
  }

  /** The address of a path for an HTTP client. */
  http(path) {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  /** Resident memory in bytes. */
  resident() {
    const status = readFileSync(`/proc/${this.process.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)[1]) * 1024;
  }

  /** A request to the admin address. */
  ask(path, options) {
    return fetch(`http://127.0.0.1:${this.admin}${path}`, options);
  }

  async ready() {
    this.process.mustRun();
    return (await this.ask('/readyz')).status === 200;
  }

  /** Ends the server by SIGTERM, once; an exit code other than 0 is an error. */
  async stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.process.mustRun();
    const { code, signal } = await this.process.end();
    if (code !== 0) throw new Error(`edgehold ended with code ${code}, signal ${signal}:\n${this.process.log().slice(-2000)}`);
  }
}

/** Starts edgehold on the stage, with `env` on top of this environment, and resolves when it is ready. */
export async function startEdgehold(stage, { routes, limits = {}, server = {}, feeds = [], env = {} }) {
  const [port, admin] = [await freePort(), await freePort()];
  const file = stage.file('edgehold.toml', configuration({
    server: { shards: 2, admin: `127.0.0.1:${admin}`, shutdown_grace: '5s', ...server },
    listener: { name: 'public', address: `127.0.0.1:${port}` },
    limits,
    routes,
    feeds,
  }));
  const log = path.join(stage.folder, 'edgehold.log');
  const edgehold = new Edgehold(start('edgehold', program(), ['serve', '--config', file], { log, env }), port, admin);
  stage.defer(() => edgehold.stop().finally(() => edgehold.process.kill()));
  await until('edgehold to be ready', () => edgehold.ready());
  return edgehold;
}
