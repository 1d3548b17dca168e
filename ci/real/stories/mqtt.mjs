//! Mosquitto behind edgehold, spoken to by npm's mqtt: MQTT 3.1.1 and 5, QoS 0 and 1, 10 000 messages each way each time.

import mqtt from 'mqtt';
import WebSocket from 'ws';
import { startMosquitto } from '../lib/brokers.mjs';
import { bodies, checklist } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { within } from '../lib/until.mjs';

const COUNT = 10_000;
const VERSIONS = { 4: '3.1.1', 5: '5' };

/** A connected client, and the WebSocket it speaks through. */
async function connectMqtt(url, protocolVersion, lists) {
  let ws;
  const createWebsocket = (address, protocols) => {
    ws = new WebSocket(address, protocols, { perMessageDeflate: false });
    return ws;
  };
  const connecting = mqtt.connectAsync(url, { protocolVersion, createWebsocket, reconnectPeriod: 0, clean: true });
  const client = await within(`MQTT ${VERSIONS[protocolVersion]} CONNECT`, connecting);
  client.on('error', (error) => lists.forEach((list) => list.fail(error.message)));
  client.on('close', () => lists.forEach((list) => list.fail('connection closed')));
  if (ws.protocol !== 'mqtt') throw new Error(`subprotocol '${ws.protocol}' instead of mqtt`);
  return client;
}

/** All messages there and all back, over one version at one QoS. */
export async function exchange(url, protocolVersion, qos) {
  const [there, back] = [bodies(3, COUNT), bodies(4, COUNT)];
  const lists = [checklist('there', there), checklist('back', back)];
  const [one, two] = [await connectMqtt(url, protocolVersion, lists), await connectMqtt(url, protocolVersion, lists)];

  one.on('message', (topic, body) => lists[1].take(body));
  two.on('message', (topic, body) => {
    const number = lists[0].take(body);
    if (number !== undefined) two.publish('back', Buffer.from(back[number]), { qos });
  });
  await Promise.all([one.subscribeAsync('back', { qos }), two.subscribeAsync('there', { qos })]);
  for (const body of there) one.publish('there', Buffer.from(body), { qos });
  await within(`MQTT ${VERSIONS[protocolVersion]} QoS ${qos}`, Promise.all(lists.map((list) => list.done)), 60_000);
  await Promise.all([one.endAsync(), two.endAsync()]);
}

export default async function story(stage) {
  const broker = await startMosquitto(stage);
  const edgehold = await startEdgehold(stage, {
    routes: [{ path: '/mqtt', service: 'proxy', upstream: `tcp://127.0.0.1:${broker.port}`, subprotocols: ['mqtt'] }],
  });
  for (const version of [4, 5]) {
    for (const qos of [0, 1]) {
      const from = performance.now();
      await exchange(edgehold.ws('/mqtt'), version, qos);
      stage.note(`${VERSIONS[version]} QoS ${qos} ${((performance.now() - from) / 1000).toFixed(1)} s`);
    }
  }
  stage.note(`${COUNT} each way each time`);
}
