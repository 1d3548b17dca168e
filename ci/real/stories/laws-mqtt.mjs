//! What the specifications of MQTT 3.1.1 and 5.0 demand of a server, statement by statement: of edgehold by TCP and by WebSocket, and of
//! Mosquitto itself, which shows that the scripts are right. EDGEHOLD_LAW=words plays those whose names have these words.

import { startMosquittoForAll } from '../lib/offloaded.mjs';
import { MQTT_LAWS } from '../lib/laws/mqtt.mjs';
import { Field } from '../lib/laws/peer.mjs';
import { played } from '../lib/laws/played.mjs';
import { startMqttOffload } from './offload-mqtt.mjs';

export default async function lawsMqtt(stage) {
  const broker = await startMosquittoForAll(stage);
  // What one law has subscribed to must not be there for the next.
  const edgehold = await startMqttOffload(stage, broker.ports.mqtt, { linger: '10ms' });
  await played(stage, MQTT_LAWS, [
    ['direct', `tcp://127.0.0.1:${broker.ports.mqtt}`, 'direct'],
    ['edge', `tcp://127.0.0.1:${edgehold.ports.mqtt}`, 'unmet'],
    ['web', edgehold.ws('/mqtt'), 'unmet'],
  ], (...where) => new Field(...where));
}
