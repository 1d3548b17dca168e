//! A conversation over STOMP that is the same under Node and in a page: two clients, `count` messages there, `count` back.
//!
//! The client class is an argument: npm's under Node, the bundle's in a browser.

import { bodies, checklist } from './bodies.mjs';

const VERSION = 'v12.stomp';

/** Connects and resolves with the active client; a STOMP error or an early end rejects. */
export function connectStomp(Client, url, options = {}) {
  return new Promise((resolve, reject) => {
    const client = new Client({
      brokerURL: url,
      connectHeaders: { login: 'guest', passcode: 'guest', host: '/' },
      reconnectDelay: 0,
      onConnect: () => resolve(client),
      onStompError: (frame) => reject(new Error(`STOMP: ${frame.headers.message} ${frame.body}`)),
      onWebSocketClose: (event) => reject(new Error(`closed: ${event.code} ${event.reason}`)),
      ...options,
    });
    client.activate();
  });
}

/** Subscribes and resolves when the broker has confirmed it. */
export function subscribe(client, destination, take) {
  return new Promise((resolve) => {
    const receipt = `subscribed ${destination}`;
    client.watchForReceipt(receipt, resolve);
    client.subscribe(destination, take, { receipt });
  });
}

const publishBytes = (client, destination, binaryBody) => client.publish({ destination, binaryBody });

/**
 * The whole conversation: one client sends `count` bodies to a queue, the other answers each with another body; both compare
 * every one. Resolves with what was seen; rejects at the first difference.
 */
export async function conversation(Client, url, name, count) {
  const [there, back] = [bodies(1, count), bodies(2, count)];
  const [toThere, toBack] = [`/queue/${name}-there`, `/queue/${name}-back`];
  const [arrived, returned] = [checklist('there', there), checklist('back', back)];
  const lost = (event) => [arrived, returned].forEach((list) => list.fail(`closed: ${event.code} ${event.reason}`));

  const one = await connectStomp(Client, url);
  const two = await connectStomp(Client, url);
  for (const client of [one, two]) client.onWebSocketClose = lost;
  const subprotocol = one.webSocket.protocol;
  if (subprotocol !== VERSION) throw new Error(`subprotocol ${subprotocol || '(none)'} instead of ${VERSION}`);
  if (one.connectedVersion !== '1.2') throw new Error(`STOMP ${one.connectedVersion} instead of 1.2`);

  await subscribe(one, toBack, (message) => returned.take(message.binaryBody));
  await subscribe(two, toThere, (message) => {
    const number = arrived.take(message.binaryBody);
    if (number !== undefined) publishBytes(two, toBack, back[number]);
  });
  for (const body of there) publishBytes(one, toThere, body);
  await Promise.all([arrived.done, returned.done]);
  for (const client of [one, two]) client.onWebSocketClose = () => {};
  await Promise.all([one.deactivate(), two.deactivate()]);
  const sum = (list) => list.reduce((total, body) => total + body.length, 0);
  return { subprotocol, there: arrived.count(), back: returned.count(), bytes: sum(there) + sum(back) };
}
