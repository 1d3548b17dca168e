//! Plays a script: a list of steps, each done by one client, with what it must cause at every client waited for before the next.
//!
//! A step is `{ by, what, words…, counts }`: `counts` says how many frames each client has heard in all once the step has had
//! its effect, or 'closed'. Where a script has none, the first player `settles`: it finds out how long to wait, and what it has heard
//! then are the counts of the next. A player of the protocol does the step and tells what was heard; the transcript of a client is
//! what it heard, step by step, the frames of one step in an order of their own, since a broker may choose it.

import { until } from '../until.mjs';

const STEP_MS = 10_000;

/** A step as one line, for whoever replays it. */
export const told = ({ by, what, counts, ...words }) => `${by} ${what} ${JSON.stringify(words).slice(0, LINE)}`;

/** As much of a line as is shown. */
const LINE = 600;

/** The frames of one step as a line. */
export const shown = (frames = []) => frames.map((each) => (each.line ?? each).replace(/x{9,}/g, 'x…')).join(' | ').slice(0, LINE);

/** The transcript of each client; `player` has `act(step)`, `heard(client)`, `ended(client)` and `shape(client, frame)`. */
export async function play(script, player) {
  const transcripts = script.clients.map(() => []);
  const taken = script.clients.map(() => 0);
  const ended = script.clients.map(() => true);
  for (const [number, step] of script.steps.entries()) {
    if (step.what === 'connect') taken[step.by] = 0;
    const done = player.act(step).then(() => (player.settles ? settled(script, step, player) : caused(step, player)));
    const late = await done.then(() => undefined, (error) => error.message);
    script.clients.forEach((_, client) => {
      const frames = player.heard(client).slice(taken[client]).map((each) => player.shape(client, each)).sort(byLine);
      taken[client] += frames.length;
      if (player.ended(client) && !ended[client]) frames.push('(closed)');
      ended[client] = player.ended(client);
      if (frames.length) transcripts[client].push({ step: number, frames });
    });
    if (late) throw Object.assign(new Error(`step ${number}, ${told(step)}: ${late}`), { transcripts });
  }
  return transcripts;
}

// Frames of one subscription keep their order: the sort is stable, and compares kind and subscription alone.
const byLine = (a, b) => (a.key < b.key ? -1 : Number(a.key > b.key));

async function settled(script, step, player) {
  await player.settle();
  step.counts = Object.fromEntries(script.clients.map((c) => [c, player.ended(c) ? 'closed' : player.heard(c).length]));
}

function caused({ counts }, player) {
  const lacks = ([client, count]) => (count === 'closed' ? !player.ended(client) : player.heard(client).length < count);
  const all = Object.entries(counts).map(([client, count]) => [Number(client), count]);
  const words = () => all.filter(lacks).map(([c, n]) => `client ${c} has ${player.heard(c).length} instead of ${n}`).join(', ');
  return until('what it must cause', () => {
    if (all.some(lacks)) throw new Error(words());
    return true;
  }, STEP_MS);
}

/** Compares two transcripts of one script; the words tell the first difference of each client, or '' where there is none. */
export function difference(script, direct, edge) {
  return script.clients.map((_, client) => clientDifference(script, client, direct[client], edge[client])).filter(Boolean).join('\n');
}

function clientDifference(script, client, direct, edge) {
  const lines = (steps) => steps.map(({ step, frames }) => `${step}: ${frames.map((each) => each.line ?? each).join(' | ')}`);
  const [one, two] = [lines(direct), lines(edge)];
  const at = one.findIndex((line, i) => line !== two[i]);
  if (at < 0 && two.length <= one.length) return '';
  const from = at < 0 ? one.length : at;
  const step = direct[from]?.step ?? edge[from].step;
  return [`client ${client}, step ${step}: ${told(script.steps[step])}`, ...[['direct', direct], ['edge', edge]].map(([side, steps]) => `  ${side}: ${steps[from]?.step} ${shown(steps[from]?.frames)}`)].join('\n');
}
