//! RabbitMQ's STOMP plugin behind edgehold, spoken to by @stomp/stompjs: 10 000 messages there, 10 000 back.

import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { startRabbitmq } from '../lib/brokers.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { megabytes } from '../lib/expect.mjs';
import { conversation } from '../lib/stomp.mjs';

export const STOMP_ROUTE = { path: '/stomp', service: 'proxy', subprotocols: ['v12.stomp', 'v11.stomp', 'v10.stomp'], frames: 'binary' };

export default async function stomp(stage) {
  globalThis.WebSocket = WebSocket;
  const broker = await startRabbitmq(stage);
  const edgehold = await startEdgehold(stage, { routes: [{ ...STOMP_ROUTE, upstream: `tcp://127.0.0.1:${broker.port}` }] });
  const seen = await conversation(Client, edgehold.ws('/stomp'), 'node', 10_000);
  stage.note(`${seen.there} there, ${seen.back} back, ${megabytes(seen.bytes)}, ${seen.subprotocol}`);
}
