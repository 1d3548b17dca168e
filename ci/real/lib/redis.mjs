//! Commands for Redis over a plain connection.

import net from 'node:net';
import { command } from '../stories/redis.mjs';

/** The answers to commands, each ended by CRLF, as one text. Rejects where the connection ends before they are there. */
export function ask(port, ...commands) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    let answers = '';
    socket.on('data', (data) => {
      answers += data;
      if (answers.split('\r\n').length > commands.length) {
        resolve(answers);
        socket.destroy();
      }
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`Redis closed the connection behind: ${answers}`)));
    socket.write(Buffer.concat(commands.map((parts) => command(...parts))));
  });
}
