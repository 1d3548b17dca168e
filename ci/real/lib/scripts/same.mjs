//! The differential test: the scripts of some seeds, each played directly and through edgehold.

import { difference, play, shown } from './play.mjs';

/** EDGEHOLD_SEED, or the first `usual` numbers (EDGEHOLD_SEEDS: so many). */
function seeds(usual) {
  if (process.env.EDGEHOLD_SEED) return [Number(process.env.EDGEHOLD_SEED)];
  return Array.from({ length: Number(process.env.EDGEHOLD_SEEDS ?? usual) }, (_, n) => n + 1);
}

async function played(side, script, player) {
  try {
    return await play(script, player);
  } catch (error) {
    throw new Error(`EDGEHOLD_SEED=${script.seed}, ${side}: ${error.message}\n${(error.transcripts ?? []).map(tail).join('\n')}`);
  }
}

// The last that a client heard.
const tail = (steps, client) => steps.slice(-3).map(({ step, frames }) => (
  `  client ${client}, step ${step}: ${shown(frames)}`)).join('\n');

async function same(stage, script, player) {
  const direct = await played('direct', script, player(script, 'direct'));
  const edge = await played('edge', script, player(script, 'edge'));
  const words = difference(script, direct, edge);
  if (words) stage.file(`seed-${script.seed}.json`, JSON.stringify({ script, direct, edge }, undefined, 1));
  if (words) throw new Error(`EDGEHOLD_SEED=${script.seed}: not the same\n${words}`);
}

/** Plays the scripts that `write(seed)` makes, by `player(script, side)`; throws all that differed, with the whole
 * transcripts in a file of the stage. Gives words on how many. */
export async function sameForSeeds(stage, usual, write, player) {
  const [failed, scripts] = [[], seeds(usual).map(write)];
  for (const script of scripts) await same(stage, script, player).catch((error) => failed.push(error.message));
  if (failed.length) throw new Error(`${failed.length} of ${scripts.length} scripts:\n${failed.join('\n')}`);
  const steps = scripts.reduce((sum, script) => sum + script.steps.length, 0);
  return `${scripts.length} scripts of ${steps} steps heard the same`;
}
