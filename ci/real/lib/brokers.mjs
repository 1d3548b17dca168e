//! The real back ends, each in a folder of the stage, on free ports of 127.0.0.1.
//!
//! Each `start…` resolves when the broker accepts connections, with `{ port, kill(), restart() }`: `kill` is kill -9 of
//! all of it, `restart` brings it back on the same port.

import { userInfo } from 'node:os';
import path from 'node:path';
import { freePort, listening } from './ports.mjs';
import { start } from './processes.mjs';
import { until } from './until.mjs';

const START_MS = 60_000;

/** Debian puts servers where an ordinary user's PATH does not look. */
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

class Broker {
  constructor(stage, name, port, launch) {
    Object.assign(this, { name, port, launch });
    stage.defer(() => this.process?.end());
  }

  async restart() {
    this.process = this.launch();
    await until(`${this.name} to listen`, () => {
      this.process.mustRun();
      return listening(this.port);
    }, START_MS);
    return this;
  }

  kill() {
    return this.process.kill();
  }

  /** Ends it as an operator would: it may save what it keeps. */
  end() {
    return this.process.end();
  }
}

/** Starts a broker with its log and its folder, both called by its name, on the stage. */
export function broker(stage, name, port, command, args, env = {}) {
  const log = path.join(stage.folder, `${name}.log`);
  const launch = () => start(name, command, args, { cwd: stage.dir(name), log, env: { PATH, ...env } });
  return new Broker(stage, name, port, launch).restart();
}

/** Redis without persistence, unless `more` options say otherwise. */
export async function startRedis(stage, more = {}) {
  const port = await freePort();
  const options = { port, bind: '127.0.0.1', save: '', appendonly: 'no', dir: stage.dir('redis'), ...more };
  return broker(stage, 'redis', port, 'redis-server', Object.entries(options).flatMap(([k, v]) => [`--${k}`, `${v}`]));
}

/** Mosquitto with a plain TCP listener: the WebSocket part is edgehold's. Its queues are unlimited, since a test that sends
 * 10 000 messages at once must not have some dropped. */
export async function startMosquitto(stage, more = ['persistence false', 'max_inflight_messages 0']) {
  const port = await freePort();
  const file = stage.file('mosquitto.conf', [
    `listener ${port} 127.0.0.1`, 'allow_anonymous true', 'log_dest stdout', 'max_queued_messages 0', ...more, '',
  ].join('\n'));
  return broker(stage, 'mosquitto', port, 'mosquitto', ['-c', file]);
}

/** Mosquitto that keeps sessions when it is ended. It stays who it is: the folder is its starter's. */
export function startLastingMosquitto(stage) {
  const folder = stage.dir('mosquitto');
  return startMosquitto(stage, ['persistence true', `persistence_location ${folder}/`, `user ${userInfo().username}`]);
}

/** nats-server with JetStream, for one user, and with `more` lines of configuration. */
export async function startNats(stage, user, password, more = []) {
  const port = await freePort();
  const file = stage.file('nats.conf', [
    'host: 127.0.0.1', `port: ${port}`, 'server_name: real', `jetstream { store_dir: "${stage.dir('nats')}" }`,
    `authorization { user: ${user}, password: ${password} }`, ...more, '',
  ].join('\n'));
  return broker(stage, 'nats', port, 'nats-server', ['-c', file]);
}

/** ngIRCd without penalties, which otherwise slow a client down to about a line a second. */
export async function startNgircd(stage) {
  const port = await freePort();
  const file = stage.file('ngircd.conf', [
    '[Global]', 'Name = irc.edgehold.test', 'Info = edgehold', 'Listen = 127.0.0.1', `Ports = ${port}`,
    '[Limits]', 'MaxConnectionsIP = 0', 'MaxPenaltyTime = 0', 'MaxJoins = 0', 'PingTimeout = 120',
    '[Options]', 'DNS = no', 'Ident = no', 'PAM = no', '',
  ].join('\n'));
  return broker(stage, 'ngircd', port, 'ngircd', ['--nodaemon', '--config', file]);
}

// Erlang's name server would go into the background and stay; started here first, it is a process like the others.
async function startEpmd(stage) {
  const port = await freePort();
  await broker(stage, 'epmd', port, 'epmd', ['-port', `${port}`, '-address', '127.0.0.1']);
  return port;
}

/** RabbitMQ with its STOMP plugin and these `plugins`, a node and a name server of its own, and with `more` lines of
 * configuration; `port` is STOMP's, and `env` is what its command-line tools need. */
export async function startRabbitmq(stage, more = [], plugins = []) {
  const [epmd, amqp, stomp, distribution] = [await startEpmd(stage), await freePort(), await freePort(), await freePort()];
  const home = stage.dir('rabbitmq');
  const config = stage.file('rabbitmq.conf', [
    `listeners.tcp.1 = 127.0.0.1:${amqp}`, `stomp.listeners.tcp.1 = 127.0.0.1:${stomp}`,
    'log.console = true', 'log.file = false', ...more, '',
  ].join('\n'));
  const env = {
    HOME: home,
    LC_ALL: 'C.UTF-8',
    RABBITMQ_CONFIG_FILE: config,
    RABBITMQ_ENABLED_PLUGINS_FILE: stage.file('enabled_plugins', `[${['rabbitmq_stomp', ...plugins]}].\n`),
    RABBITMQ_MNESIA_BASE: stage.dir('rabbitmq/mnesia'),
    RABBITMQ_LOG_BASE: stage.dir('rabbitmq/log'),
    RABBITMQ_PID_FILE: path.join(home, 'pid'),
    RABBITMQ_NODENAME: `edgehold${stomp}@localhost`,
    RABBITMQ_DIST_PORT: `${distribution}`,
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}',
    ERL_EPMD_PORT: `${epmd}`,
    ERL_EPMD_ADDRESS: '127.0.0.1',
  };
  const started = await broker(stage, 'rabbitmq', stomp, '/usr/lib/rabbitmq/bin/rabbitmq-server', [], env);
  return Object.assign(started, { env });
}
