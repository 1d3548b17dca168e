//! Plays laws at each side, one after the other.

import { within } from '../until.mjs';

const LAW_MS = 20_000;

/** Plays a law in `field`; gives its fault as a line, or nothing. */
async function play(side, field, { law, play: script }) {
  try {
    await within(law, script(field), LAW_MS);
    return [];
  } catch (error) {
    return [`${law} (${side}, version ${field.version}): ${error.message}`];
  } finally {
    field.end();
  }
}

/** Plays what does not say why not under `whyNot`, by `fieldOf(version, number)`; gives the faults, and how many were played and
 * left out. EDGEHOLD_LAW=words plays those alone whose names have these words. */
async function all(laws, side, fieldOf, whyNot) {
  const result = { faults: [], played: 0, left: 0 };
  for (const [number, law] of laws.entries()) {
    if (!law.law.includes(process.env.EDGEHOLD_LAW ?? '')) continue;
    result.left += law[whyNot] ? 1 : 0;
    for (const version of law[whyNot] ? [] : law.versions) {
      result.faults.push(...await play(side, fieldOf(version, number), law));
      result.played += 1;
    }
  }
  return result;
}

/** Plays `laws` at all `sides`: `[name, address, whyNot]`, where `field(address, version, name)` makes their place. Throws what is not
 * kept. */
export async function played(stage, laws, sides, field) {
  const faults = [];
  for (const [side, address, whyNot] of sides) {
    const fieldOf = (version, number) => field(address, version, `${side}${version}n${number}`.replaceAll('.', ''));
    const result = await all(laws, side, fieldOf, whyNot);
    faults.push(...result.faults);
    stage.note(`${result.played} scripts ${side}${result.left ? `, ${result.left} laws left out for the reasons that they name` : ''}`);
  }
  if (faults.length) throw new Error(`${faults.length} are not kept:\n${faults.join('\n')}`);
}
