//! Certificates for a stage, made by openssl: authorities, and what they issue for the loopback.

import { execFileSync } from 'node:child_process';
import path from 'node:path';

const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

/** An authority: its certificate is in the file `ca`, and `issue(name)` gives the files `cert` and `key` of a new one, for
 * servers and clients alike. */
export function authority(stage, name) {
  const file = (end) => path.join(stage.dir('tls'), `${name}.${end}`);
  const [ca, caKey] = [file('pem'), file('key')];
  openssl('req', '-x509', ...NEW_KEY, '-subj', `/CN=${name}`, '-keyout', caKey, '-out', ca,
    '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
  const issue = (whose) => {
    const of = (end) => file(`${whose}.${end}`);
    openssl('req', '-new', ...NEW_KEY.slice(0, -2), '-subj', `/CN=${whose}`, '-keyout', of('key'), '-out', of('csr'));
    const extensions = stage.file(`${name}.ext`, 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n');
    openssl('x509', '-req', '-in', of('csr'), '-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-days', '2',
      '-extfile', extensions, '-out', of('pem'));
    return { cert: of('pem'), key: of('key') };
  };
  return { ca, issue };
}
