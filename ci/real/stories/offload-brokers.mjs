//! Brokers beside Mosquitto behind the service `mqtt`: Aedes (npm) and RabbitMQ's plugin, of which both speak 3.1.1 alone. The
//! conversation in mqtt.js brings the same at the broker itself and through the edge, in whatever version the client speaks.

import net from 'node:net';
import { Aedes } from 'aedes';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mqttJs } from '../lib/libraries/mqtt.mjs';
import { startRabbitmqForAll } from '../lib/offloaded.mjs';
import { freePort } from '../lib/ports.mjs';
import { within } from '../lib/until.mjs';

const TALK_MS = 30_000;

/** Aedes in this process; gives its port. */
async function startAedes(stage) {
  const port = await freePort();
  const aedes = await Aedes.createBroker();
  const server = net.createServer(aedes.handle);
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve); });
  stage.defer(() => new Promise((resolve) => { aedes.close(() => server.close(resolve)); }));
  return port;
}

export default async function offloadBrokers(stage) {
  const credentials = { user: 'guest', password_file: stage.file('broker.pw', 'guest\n') };
  const rabbitmq = await startRabbitmqForAll(stage);
  const brokers = { aedes: [await startAedes(stage), {}], rabbitmq: [rabbitmq.ports.mqtt, { credentials }] };
  const edgehold = await startEdgehold(stage, {
    routes: Object.entries(brokers).map(([name, [port, more]]) => ({ path: `/${name}`, service: 'mqtt', upstream: `tcp://127.0.0.1:${port}`, ...more })),
  });
  const [failed, sides] = [[], (name, port) => [
    ['direct', 4, `mqtt://guest:guest@127.0.0.1:${port}`], ['edge', 4, edgehold.ws(`/${name}`)], ['edge', 5, edgehold.ws(`/${name}`)],
  ]];
  const talks = Object.entries(brokers).flatMap(([name, [port]]) => sides(name, port).map(([side, ...rest]) => [`${name}-${side}-${rest[0]}`, ...rest]));
  for (const [name, version, url] of talks) {
    await within(name, mqttJs(url, version, name), TALK_MS).catch((error) => failed.push(`${name}: ${error.message}`));
  }
  if (failed.length) throw new Error(failed.join('\n'));
  stage.note(`${talks.length} conversations with Aedes and RabbitMQ, directly and through edgehold`);
}
