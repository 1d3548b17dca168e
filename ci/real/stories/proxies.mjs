//! nginx and HAProxy in front of edgehold, and behind it: PROXY protocol of both versions, with and without TLS behind it,
//! their health checks, X-Forwarded-For and Forwarded; and HAProxy and nginx as receivers of edgehold's header.
//!
//! A client is told apart by its address: it connects from 127.0.0.5, and each proxy from 127.0.0.1.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { authority, shown } from '../lib/certificates.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { freePort, listening } from '../lib/ports.mjs';
import { start } from '../lib/processes.mjs';
import { exchange, startTold } from '../lib/proxy_protocol.mjs';
import { until, within } from '../lib/until.mjs';
import { connect, send } from '../lib/websocket.mjs';

const CLIENT = '127.0.0.5';
const LOOPBACK = ['127.0.0.0/8'];
const STREAM_MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';

/** What the back end of `/told` was told of a client that comes by this address. */
async function told(url, options = {}) {
  const heard = [];
  const ws = await connect(url, { localAddress: CLIENT, onMessage: (data) => heard.push(data), ...options });
  await within('the back end', ws.closed);
  return Buffer.concat(heard).toString();
}

function configured(stage, name, command, lines, args) {
  const file = stage.file(`${name}.conf`, `${lines.flat().join('\n')}\n`);
  const process = start(name, command, args(file), { log: path.join(stage.folder, `${name}.log`) });
  stage.defer(() => process.kill());
  return process;
}

const ready = (process, ports) => until(`${process.name} to listen`, async () => {
  process.mustRun();
  return (await Promise.all(ports.map(listening))).every(Boolean);
});

/** HAProxy with a frontend for each of `servers`, by name: how its server is written. Resolves with the frontends' ports. */
async function startHaproxy(stage, servers, more = []) {
  const ports = {};
  const sections = [];
  for (const [name, { mode, options = [], server }] of Object.entries(servers)) {
    ports[name] = await freePort();
    sections.push(`listen ${name}`, ` mode ${mode}`, ...options.map((it) => ` ${it}`), ` bind 127.0.0.1:${ports[name]}`,
      ` server e ${server}`);
  }
  const defaults = ['defaults', ' timeout connect 5s', ' timeout client 30s', ' timeout server 30s', ' timeout tunnel 30s'];
  const process = configured(stage, 'haproxy', 'haproxy', [['global'], defaults, sections, more], (file) => ['-db', '-f', file]);
  await ready(process, Object.values(ports));
  return { ports, process };
}

/** nginx: a stream server that sends headers of version 1, HTTP servers that add to their fields, and one that takes ours. */
async function startNginx(stage, edgehold, receiver) {
  const [stream, forwarded, rfc7239] = [await freePort(), await freePort(), await freePort()];
  const websocket = ['proxy_http_version 1.1;', 'proxy_set_header Upgrade $http_upgrade;', 'proxy_set_header Connection upgrade;'];
  const http = (port, to, field) => [
    `server { listen 127.0.0.1:${port}; location / {`, ...websocket, field, `proxy_pass http://127.0.0.1:${to}; } }`,
  ];
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((it) => `${it}_temp_path ${stage.dir('nginx')};`);
  const process = configured(stage, 'nginx', 'nginx', [
    [`load_module ${STREAM_MODULE};`, 'daemon off;', `pid ${stage.folder}/nginx.pid;`, 'error_log stderr notice;', 'events {}'],
    ['stream {', `server { listen 127.0.0.1:${stream}; proxy_pass 127.0.0.1:${edgehold.ports.required}; proxy_protocol on; }`, '}'],
    ['http {', 'access_log off;', ...temporary],
    http(forwarded, edgehold.ports.behind, 'proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;'),
    http(rfc7239, edgehold.ports.rfc7239, 'proxy_set_header Forwarded "$http_forwarded, for=$remote_addr;proto=http";'),
    [`server { listen 127.0.0.1:${receiver} proxy_protocol;`],
    ['location / { return 200 "$proxy_protocol_addr>$proxy_protocol_server_addr:$proxy_protocol_server_port"; } }', '}'],
  ], (file) => ['-e', 'stderr', '-c', file]);
  await ready(process, [stream, forwarded, rfc7239]);
  return { stream, forwarded, rfc7239 };
}

/** By which listener of edgehold a client comes, and that its back end hears of the client and not of the proxy. */
async function mustTell(what, url, expected, options) {
  const line = await told(url, options);
  if (!line.startsWith(expected)) throw new Error(`${what}: "${line}" instead of "${expected}…"`);
}

async function headers(edgehold, nginx, haproxy, ca) {
  const from = (port) => `${CLIENT}>127.0.0.1:${port} `;
  await mustTell('nginx, version 1', `ws://127.0.0.1:${nginx.stream}/told`, from(nginx.stream));
  for (const name of ['v1', 'v2', 'v2tlvs']) {
    const url = `ws://127.0.0.1:${haproxy.ports[name]}/told`;
    await mustTell(`HAProxy, ${name}`, url, `${from(haproxy.ports[name])}host=127.0.0.1:${haproxy.ports[name]} tls=- `);
  }
  const secure = haproxy.ports.secure;
  const tls = { ca, headers: { Host: 'edge.example' } };
  await mustTell('HAProxy, before TLS', `wss://localhost:${secure}/told`, `${from(secure)}host=edge.example tls=TLSv1.3 name=- `, tls);
}

/** A health check of HAProxy sends a header that names nobody (LOCAL), and is content. */
async function checks(edgehold, haproxy) {
  const taken = () => edgehold.metric('edgehold_proxy_headers_total', { version: '2' });
  const before = await taken();
  await until('three health checks', async () => (await taken()) >= before + 3);
  if (haproxy.process.log().includes('DOWN')) throw new Error(`HAProxy takes edgehold for dead:\n${haproxy.process.log()}`);
  mustBe('faults so far', await edgehold.metric('edgehold_proxy_header_faults_total'), 0);
}

/** What a client itself has written into the fields is not believed, nor anything of a client that is no proxy. */
async function fields(edgehold, nginx, haproxy) {
  const forged = { headers: { 'X-Forwarded-For': '6.6.6.6', Forwarded: 'for=6.6.6.6' } };
  const ways = { nginx: nginx.forwarded, HAProxy: haproxy.ports.forwarded, 'nginx, Forwarded': nginx.rfc7239 };
  for (const [what, port] of Object.entries(ways)) await mustTell(what, `ws://127.0.0.1:${port}/told`, `${CLIENT}>`, forged);
  for (const listener of ['behind', 'rfc7239', 'public']) {
    await mustTell(`a stranger at ${listener}`, `ws://127.0.0.1:${edgehold.ports[listener]}/told`, `${CLIENT}>`, forged);
  }
  mustBe('requests that named their client', await edgehold.metric('edgehold_forwarded_requests_total'), 3);
}

/** Without a header, with one that is none, and from where none may come: cut, without a word, and counted. */
async function refused(edgehold) {
  const { required, elsewhere } = edgehold.ports;
  const request = 'GET /told HTTP/1.1\r\nHost: h\r\n\r\n';
  for (const [what, port, bytes, reason] of [
    ['no header', required, request, 'absent'],
    ['a bad one', required, `PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n${request}`, 'line'],
    ['one of a stranger', elsewhere, `PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n${request}`, 'stranger'],
  ]) {
    mustBe(`the answer to ${what}`, await within(what, exchange(port, bytes)), '');
    await until(`${what} to be counted`, async () => (await edgehold.metric('edgehold_proxy_header_faults_total', { reason })) === 1);
  }
  mustBe('refusals', await edgehold.metric('edgehold_refusals_total', { reason: 'proxy_header' }), 3);
}

/** HAProxy and nginx read the header that edgehold sends, with TLVs that they do not know. */
async function receivers(edgehold) {
  for (const [path, host] of [['/haproxy', ' h'], ['/nginx', '']]) {
    const heard = [];
    const ws = await connect(edgehold.ws(path), { localAddress: CLIENT, headers: { Host: 'h' }, onMessage: (data) => heard.push(data) });
    await send(ws, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await within(path, ws.closed);
    const body = Buffer.concat(heard).toString().split('\r\n\r\n')[1];
    mustBe(`what ${path} has read`, body, `${CLIENT}>127.0.0.1:${edgehold.port}${host}`);
  }
}

export default async function proxies(stage) {
  const ours = authority(stage, 'edge');
  const back = await startTold(stage);
  const receiver = { haproxy: await freePort(), nginx: await freePort() };
  const required = { proxy_protocol: { mode: 'required', from: LOOPBACK } };
  const tell = (path, port) => ({ path, service: 'proxy', upstream: `tcp://127.0.0.1:${port}`, proxy_protocol: true });
  const edgehold = await startEdgehold(stage, {
    listeners: {
      required,
      secure: { ...required, tls: shown(ours.issue('localhost')) },
      elsewhere: { proxy_protocol: { mode: 'required', from: ['192.0.2.0/24'] } },
      behind: { trusted_proxies: ['127.0.0.1'] },
      rfc7239: { trusted_proxies: ['127.0.0.1'], forwarded_field: 'forwarded' },
    },
    routes: [tell('/told', back), tell('/haproxy', receiver.haproxy), tell('/nginx', receiver.nginx)],
  });
  const to = (listener, how) => ({ mode: 'tcp', server: `127.0.0.1:${edgehold.ports[listener]} ${how}` });
  const haproxy = await startHaproxy(stage, {
    v1: to('required', 'send-proxy'),
    v2: to('required', 'send-proxy-v2 check check-send-proxy inter 100ms'),
    v2tlvs: to('required', 'send-proxy-v2 proxy-v2-options crc32c,unique-id'),
    secure: to('secure', 'send-proxy-v2'),
    forwarded: { ...to('behind', ''), mode: 'http', options: ['option forwardfor'] },
  }, [
    'frontend receiver', ' mode http', ` bind 127.0.0.1:${receiver.haproxy} accept-proxy`,
    ' http-request return status 200 content-type text/plain lf-string "%[src]>%[dst]:%[dst_port] %[fc_pp_authority]"',
  ]);
  const nginx = await startNginx(stage, edgehold, receiver.nginx);
  await headers(edgehold, nginx, haproxy, readFileSync(ours.ca));
  await checks(edgehold, haproxy);
  await fields(edgehold, nginx, haproxy);
  await refused(edgehold);
  await receivers(edgehold);
  const version = await edgehold.metric('edgehold_proxy_headers_total', { version: '2' });
  stage.note(`nginx and HAProxy in front and behind; ${version} headers of version 2, checks among them`);
}
