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

/** A value as TOML, where JSON's strings, numbers and booleans are the same. */
function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(', ')}]`;
  if (typeof value === 'object') return `{ ${lines(value).join(', ')} }`;
  return JSON.stringify(value);
}

const lines = (table) => Object.entries(table).map(([key, value]) => `${key} = ${toml(value)}`);
const section = (head, table) => [head, ...lines(table), ''].join('\n');

/** The configuration file: `limits` and `server` are tables, `listeners`, `routes` and `feeds` lists of tables. */
function configuration({ server, listeners, limits, routes, feeds }) {
  return [
    section('[server]', server),
    ...listeners.map((listener) => section('[[listener]]', listener)),
    section('[limits]', limits),
    ...feeds.map((feed) => section('[[feed]]', feed)),
    ...routes.map((route) => section('[[route]]', route)),
  ].join('\n');
}

class Edgehold {
  /** `launch` starts the process. */
  constructor(launch, ports, admin) {
    Object.assign(this, { launch, process: launch(), ports, port: ports.public, admin });
  }

  /** The address of a path for a WebSocket client. */
  ws(path) {
    return `ws://127.0.0.1:${this.port}${path}`;
  }

  /** The address of a path for an HTTP client. */
  http(path) {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  /** The same by TLS, at the listener of this name. A client finds `localhost` in the certificate, and says it in its hello. */
  wss(path, listener = 'secure') {
    return `wss://localhost:${this.ports[listener]}${path}`;
  }

  /** The same for HTTP. */
  https(path, listener = 'secure') {
    return `https://localhost:${this.ports[listener]}${path}`;
  }

  /** The sum of a metric over all series that have these labels. */
  async metric(name, labels = {}) {
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    const text = await (await this.ask('/metrics')).text();
    const series = text.split('\n').filter((line) => /^[^{ ]*/.exec(line)[0] === name && wanted.every((label) => line.includes(label)));
    if (!series.length) throw new Error(`no metric ${name} with ${wanted}`);
    return series.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
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

  /** Starts it again after a stop, with the same configuration at the same ports. */
  async startAgain() {
    this.process = this.launch();
    this.stopped = false;
    await until('edgehold to be ready again', () => this.ready());
  }
}

/** A free port for each listener: `public` speaks clear text, and what is in `more` has keys of its own. */
async function listenersOf(more) {
  const listeners = [];
  for (const [name, keys] of Object.entries({ public: {}, ...more })) {
    const port = await freePort();
    listeners.push({ port, table: { name, address: `127.0.0.1:${port}`, ...keys } });
  }
  return listeners;
}

/** Starts edgehold on the stage, with `env` on top of this environment, and resolves when it is ready. `listeners`: those beside
 * `public`, their keys by name. */
export async function startEdgehold(stage, { routes, limits = {}, server = {}, listeners: more = {}, feeds = [], env = {} }) {
  const [listeners, admin] = [await listenersOf(more), await freePort()];
  const file = stage.file('edgehold.toml', configuration({
    server: { shards: 2, admin: `127.0.0.1:${admin}`, shutdown_grace: '5s', ...server },
    listeners: listeners.map(({ table }) => table),
    limits,
    routes,
    feeds,
  }));
  const log = path.join(stage.folder, 'edgehold.log');
  const ports = Object.fromEntries(listeners.map(({ port, table }) => [table.name, port]));
  const launch = () => start('edgehold', program(), ['serve', '--config', file], { log, env });
  const edgehold = new Edgehold(launch, ports, admin);
  stage.defer(() => edgehold.stop().finally(() => edgehold.process.kill()));
  await until('edgehold to be ready', () => edgehold.ready());
  return edgehold;
}
