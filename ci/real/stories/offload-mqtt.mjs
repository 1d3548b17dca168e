//! Unmodified MQTT libraries at Mosquitto itself, then at edgehold in front of it: mqtt.js and paho-mqtt over TCP and WebSocket,
//! mosquitto_pub and mosquitto_sub. One conversation of all QoS, retained messages and a will brings the same.

import { startMosquittoForAll } from '../lib/offloaded.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { BODIES, expected, mosquittoTools, mqttJs } from '../lib/libraries/mqtt.mjs';
import { python } from '../lib/python.mjs';
import { within } from '../lib/until.mjs';

const TALK_MS = 30_000;

async function paho(stage, port, version, transport, path, name) {
  const wanted = JSON.stringify({ port, version, transport, path, name, bodies: BODIES });
  const heard = await python(stage, 'real/clients/mqtt_talk.py', [wanted], TALK_MS);
  const sorted = (object) => JSON.stringify(Object.entries(object).sort());
  mustBe(`what ${name} heard`, sorted(heard), sorted(expected(name)));
}

/** Every library in each version, by TCP and by WebSocket; gives how many conversations there were. */
async function allTalk(stage, side, { tcp, ws, path }) {
  const talks = [];
  for (const version of [4, 5]) {
    talks.push(['js-tcp', version, (name) => mqttJs(`mqtt://127.0.0.1:${tcp}`, version, name)]);
    talks.push(['js-ws', version, (name) => mqttJs(`ws://127.0.0.1:${ws}${path}`, version, name)]);
    talks.push(['py-tcp', version, (name) => paho(stage, tcp, version, 'tcp', '/', name)]);
    talks.push(['py-ws', version, (name) => paho(stage, ws, version, 'websockets', path, name)]);
    talks.push(['tools', version, (name) => mosquittoTools(stage, tcp, version, name)]);
  }
  const failed = [];
  for (const [library, version, run] of talks) {
    const name = `${side}-${library}-${version}`;
    await within(name, run(name), TALK_MS).catch((error) => failed.push(`${name}: ${error.message}`));
  }
  if (failed.length) throw new Error(failed.join('\n'));
  return talks.length;
}

/** edgehold in front of an MQTT port. */
export function startMqttOffload(stage, port, keys = {}) {
  return startEdgehold(stage, {
    listeners: { mqtt: { protocol: 'mqtt' } },
    routes: [{ path: '/mqtt', service: 'mqtt', upstream: `tcp://127.0.0.1:${port}`, ...keys }],
  });
}

export default async function offloadMqtt(stage) {
  const broker = await startMosquittoForAll(stage);
  let count = await allTalk(stage, 'direct', { tcp: broker.ports.mqtt, ws: broker.ports.mqttWs, path: '/' });
  if (!process.env.EDGEHOLD_DIRECT) {
    const edgehold = await startMqttOffload(stage, broker.ports.mqtt);
    count += await allTalk(stage, 'edge', { tcp: edgehold.ports.mqtt, ws: edgehold.port, path: '/mqtt' });
  }
  stage.note(`${count} conversations, mqtt.js, paho-mqtt, mosquitto_pub and mosquitto_sub, 3.1.1 and 5`);
}
