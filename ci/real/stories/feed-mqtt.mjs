//! Mosquitto as a feed, ended and started again in mid-stream, with a session that it keeps and QoS 1: no number is missing
//! or doubled.

import mqtt from 'mqtt';
import { startLastingMosquitto } from '../lib/brokers.mjs';
import { count, lost, mustHaveCounted, startCounting } from '../lib/counted.mjs';

const PART = 1000;
const ROUNDS = 4;

/** Publishes one part; resolves when the broker has taken all of it. */
async function publish(broker, round) {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`, { reconnectPeriod: 0 });
  const [first, last] = [round * PART + 1, (round + 1) * PART];
  const sent = [];
  await count(first, last, (n) => sent.push(client.publishAsync('numbers/a', `${n}`, { qos: 1 })));
  await Promise.all(sent);
  await client.endAsync();
}

export default async function feedMqtt(stage) {
  const broker = await startLastingMosquitto(stage);
  const source = `mqtt://127.0.0.1:${broker.port}`;
  const counting = await startCounting(stage, { source, topics: ['numbers/+'], channel: 'counted' });
  for (let round = 0; round < ROUNDS; round += 1) {
    await publish(broker, round);
    // At once: some of them are on their way, and of others the broker has no acknowledgement.
    await broker.end();
    await lost(counting.edgehold);
    await broker.restart();
  }
  await mustHaveCounted(counting, ROUNDS * PART);
  stage.note(`${ROUNDS * PART} numbers with QoS 1 over ${ROUNDS} restarts`);
}
