//! The brokers that the services `stomp` and `mqtt` stand in front of, with all listeners that their own clients may use:
//! the same client, pointed at the broker or at edgehold, must see the same.
//!
//! Each is a broker of `brokers.mjs` with `ports` by name: `stomp`, `ws` (STOMP by WebSocket), `mqtt`, `mqttWs`.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { broker, startMosquitto, startRabbitmq } from './brokers.mjs';
import { freePort, listening } from './ports.mjs';
import { until } from './until.mjs';

const run = promisify(execFile);

/** RabbitMQ, whose clients are STOMP's and MQTT 3.1.1's. */
export async function startRabbitmqForAll(stage, more = []) {
  const ports = { ws: await freePort(), mqtt: await freePort() };
  const started = await startRabbitmq(stage, [
    'web_stomp.tcp.ip = 127.0.0.1', `web_stomp.tcp.port = ${ports.ws}`, `mqtt.listeners.tcp.1 = 127.0.0.1:${ports.mqtt}`, ...more,
  ], ['rabbitmq_web_stomp', 'rabbitmq_mqtt']);
  for (const port of Object.values(ports)) await until('all listeners of RabbitMQ', () => listening(port), 30_000);
  return Object.assign(started, { ports: { stomp: started.port, ...ports } });
}

/** What `rabbitmqctl` prints. */
export async function rabbitmqctl(rabbitmq, ...words) {
  const args = ['-q', '-n', rabbitmq.env.RABBITMQ_NODENAME, ...words];
  return (await run('/usr/lib/rabbitmq/bin/rabbitmqctl', args, { env: { ...process.env, ...rabbitmq.env } })).stdout;
}

/** What it prints as a table, row by row. */
export async function rabbitmqTable(rabbitmq, ...words) {
  const stdout = await rabbitmqctl(rabbitmq, '--no-table-headers', ...words);
  return stdout.split('\n').filter(Boolean).map((line) => line.split('\t'));
}

const ACTIVEMQ = (folder, port) => `<beans xmlns="http://www.springframework.org/schema/beans"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://www.springframework.org/schema/beans
 http://www.springframework.org/schema/beans/spring-beans.xsd
 http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
 <broker xmlns="http://activemq.apache.org/schema/core" brokerName="edge" dataDirectory="${folder}/data" persistent="false"
  useJmx="false" schedulePeriodForDestinationPurge="0">
  <transportConnectors><transportConnector name="stomp" uri="stomp://127.0.0.1:${port}"/></transportConnectors>
 </broker>
</beans>
`;

/** ActiveMQ in a small heap, with STOMP over TCP and nothing kept on disk. */
export async function startActivemq(stage) {
  const [port, folder] = [await freePort(), stage.dir('activemq')];
  const file = stage.file('activemq.xml', ACTIVEMQ(folder, port));
  const home = '/usr/share/activemq';
  const started = await broker(stage, 'activemq', port, 'java', [
    '-Xmx128m', '-XX:+UseSerialGC', `-Dactivemq.home=${home}`, `-Dactivemq.base=${folder}`, `-Dactivemq.conf=${folder}`,
    `-Dactivemq.data=${folder}/data`, '-jar', `${home}/bin/activemq.jar`, 'start', `xbean:file:${file}`,
  ]);
  return Object.assign(started, { ports: { stomp: port } });
}

/** Mosquitto over TCP and WebSocket, in all its versions. */
export async function startMosquittoForAll(stage, more = []) {
  const mqttWs = await freePort();
  const started = await startMosquitto(stage, [
    'persistence false', ...more, `listener ${mqttWs} 127.0.0.1`, 'protocol websockets', 'sys_interval 1',
  ]);
  await until("Mosquitto's WebSocket listener", () => listening(mqttWs));
  return Object.assign(started, { ports: { mqtt: started.port, mqttWs } });
}
