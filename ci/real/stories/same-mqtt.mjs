//! Random MQTT scripts, in versions 3.1.1 and 5 beside each other, played by Mosquitto alone and by edgehold in front of it:
//! every client hears the same. EDGEHOLD_SEED=n plays one seed, EDGEHOLD_SEEDS=n so many; what fails names its seed.

import { startMosquittoForAll } from '../lib/offloaded.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { sameForSeeds } from '../lib/scripts/same.mjs';
import { mqttScript, MqttPlayer } from '../lib/scripts/mqtt.mjs';

const SEEDS = 12;

export default async function sameMqtt(stage) {
  const broker = await startMosquittoForAll(stage);
  const edgehold = process.env.EDGEHOLD_DIRECT ? undefined : await startEdgehold(stage, {
    listeners: { mqtt: { protocol: 'mqtt' } },
    routes: [{ path: '/mqtt', service: 'mqtt', upstream: `tcp://127.0.0.1:${broker.ports.mqtt}` }],
  });
  const direct = [`tcp://127.0.0.1:${broker.ports.mqtt}`, `ws://127.0.0.1:${broker.ports.mqttWs}`];
  const edge = edgehold ? [`tcp://127.0.0.1:${edgehold.ports.mqtt}`, edgehold.ws('/mqtt')] : direct;
  const player = (script, side) => new MqttPlayer(script, side === 'edge' ? edge : direct, side);
  stage.note(await sameForSeeds(stage, SEEDS, (seed) => mqttScript(seed), player));
}
