//! What the specifications of MQTT 3.1.1 and 5.0 demand of a server, statement by statement: of edgehold by TCP and by WebSocket, and of
//! Mosquitto itself, which shows that the scripts are right. EDGEHOLD_LAW=words plays those whose names have these words.

import { startMosquittoForAll } from '../lib/offloaded.mjs';
import { MQTT_LAWS } from '../lib/laws/mqtt.mjs';
import { Field } from '../lib/laws/peer.mjs';
import { within } from '../lib/until.mjs';
import { startMqttOffload } from './offload-mqtt.mjs';

const LAW_MS = 20_000;

/** Plays a law; gives its fault as a line, or nothing. */
async function play(side, address, { law, play: script }, version, number) {
  const field = new Field(address, version, `${side}${version}n${number}`);
  try {
    await within(law, script(field), LAW_MS);
    return [];
  } catch (error) {
    return [`${law} (${side}, version ${version}): ${error.message}`];
  } finally {
    field.end();
  }
}

/** Plays all laws that do not say why not, one after the other; gives the faults, how many were played, and why others were not. */
async function all(side, address, whyNot) {
  const laws = MQTT_LAWS.filter(({ law }) => law.includes(process.env.EDGEHOLD_LAW ?? ''));
  const result = { faults: [], played: 0, left: [] };
  for (const [number, law] of laws.entries()) {
    if (law[whyNot]) {
      result.left.push(`${law.law}: ${law[whyNot]}`);
      continue;
    }
    for (const version of law.versions) {
      result.faults.push(...await play(side, address, law, version, number));
      result.played += 1;
    }
  }
  return result;
}

export default async function lawsMqtt(stage) {
  const broker = await startMosquittoForAll(stage);
  // What one law has subscribed to must not be there for the next.
  const edgehold = await startMqttOffload(stage, broker.ports.mqtt, { linger: '10ms' });
  const sides = [
    ['direct', `tcp://127.0.0.1:${broker.ports.mqtt}`, 'direct'],
    ['edge', `tcp://127.0.0.1:${edgehold.ports.mqtt}`, 'unmet'],
    ['web', edgehold.ws('/mqtt'), 'unmet'],
  ];
  const results = [];
  for (const side of sides) results.push(await all(...side));
  const faults = results.flatMap((it) => it.faults);
  if (faults.length) throw new Error(`${faults.length} are not kept:\n${faults.join('\n')}`);
  stage.note(sides.map(([side], i) => `${results[i].played} scripts ${side}`).join(', '));
  sides.forEach(([side], i) => results[i].left.length && stage.note(`${results[i].left.length} left out ${side}, for the reasons in lib/laws`));
}
