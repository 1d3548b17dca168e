//! `edgehold serve` without a configuration: the demo, on the addresses that are its own. Where one of them is taken,
//! the story says so and does not begin.

import path from 'node:path';
import { program } from './edgehold.mjs';
import { mustBe } from './expect.mjs';
import { listening } from './ports.mjs';
import { start } from './processes.mjs';
import { until } from './until.mjs';

export const PORT = 8080;
export const ADMIN = 9180;

async function mustBeFree(port) {
  if (await listening(port)) throw new Error(`127.0.0.1:${port} is taken; the demo needs it (try unshare -rn, with lo up)`);
}

async function ready(server) {
  server.mustRun();
  return (await fetch(`http://127.0.0.1:${ADMIN}/readyz`)).status === 200;
}

async function stop(server) {
  server.mustRun();
  mustBe('exit code of edgehold', (await server.end(15_000)).code, 0);
}

/** Starts the demo on the stage, or what `config` says on its addresses, and resolves when it is ready. */
export async function startDemo(stage, config) {
  for (const port of [PORT, ADMIN]) await mustBeFree(port);
  const log = path.join(stage.folder, 'edgehold.log');
  const args = config ? ['serve', '--config', stage.file('edgehold.toml', config)] : ['serve'];
  const server = start('edgehold', program(), args, { log, cwd: stage.folder });
  stage.defer(() => stop(server).finally(() => server.kill()));
  await until('edgehold to be ready', () => ready(server));
}
