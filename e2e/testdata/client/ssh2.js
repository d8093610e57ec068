// What the tests do with ssh2: node FILE port user key dir known_hosts
const fs = require('fs');
const { Client } = require('ssh2');
const [port, user, key, far] = process.argv.slice(2);
const client = new Client();
const fail = (e) => { console.log(String(e)); process.exit(1); };

function run(command, input, options = {}) {
  return new Promise((resolve) => client.exec(command, options, (err, stream) => {
    if (err) fail(err);
    let out = Buffer.alloc(0), errors = '';
    stream.on('data', (d) => { out = Buffer.concat([out, d]); });
    stream.stderr.on('data', (d) => { errors += d; });
    stream.on('close', (code, signal) => resolve([out.length > 1000 ? out.length : out.toString(), errors, code, signal]));
    // At once, before there is anybody to read it.
    if (input !== undefined) stream.write(input);
    if (!options.pty) stream.end();
  }));
}

const sftpOf = () => new Promise((resolve) => client.sftp((err, sftp) => { if (err) fail(err); resolve(sftp); }));
const call = (sftp, name, ...args) => new Promise((resolve) => sftp[name](...args, (err, value) => resolve(err ? `${err.code} ${err.message}` : value)));

async function main() {
  console.log(await run('cat; echo err >&2; exit 7', 'in\n'));
  for (const signal of ['TERM', 'KILL', 'SEGV']) console.log(await run(`kill -${signal} $$; sleep 5`));
  console.log(await run('wc -c | tr -d " "; exit 255', Buffer.alloc(1500000, 'x')));
  console.log(await run('cat; echo eof; exit 6', 'abc\n\x04', { pty: { term: 'vt100', cols: 80, rows: 24 } }));
  console.log(await run('stty size; echo $TERM', undefined, { pty: { term: 'vt220', cols: 132, rows: 43 } }));
  console.log(await run('echo "$LC_TEST"', undefined, { env: { LC_TEST: 'a b' } }));
  console.log(await Promise.all([...Array(10).keys()].map((i) => run(`cd ${far}; : >n${i}; until test -e n${(i + 1) % 10}; do sleep 0.05; done; exit ${i}`).then((r) => r[2]))));

  const sftp = await sftpOf();
  console.log(await call(sftp, 'fastPut', 'cargo/sub dir/deeper/noise', `${far}/it's`));
  console.log(await call(sftp, 'fastGet', `${far}/it's`, 'back'));
  console.log(await call(sftp, 'mkdir', `${far}/dir`), await call(sftp, 'rename', `${far}/it's`, `${far}/dir/moved`));
  console.log(await call(sftp, 'chmod', `${far}/dir/moved`, 0o604), (await call(sftp, 'stat', `${far}/dir/moved`)).mode.toString(8));
  console.log(await call(sftp, 'symlink', 'moved', `${far}/dir/sym`), await call(sftp, 'readlink', `${far}/dir/sym`));
  console.log(await call(sftp, 'writeFile', `${far}/text`, 'one\n'), await call(sftp, 'appendFile', `${far}/text`, 'two\n'));
  console.log(String(await call(sftp, 'readFile', `${far}/text`)));
  console.log((await call(sftp, 'readdir', `${far}/dir`)).map((e) => e.filename).sort());
  console.log('missing', await call(sftp, 'readFile', 'nosuchfile'), 'denied', await call(sftp, 'readFile', '/etc/shadow'));
  console.log('not empty', await call(sftp, 'rmdir', `${far}/dir`));
  client.end();
}

client.on('ready', () => main().catch(fail)).on('error', fail);
client.connect({ host: '127.0.0.1', port: Number(port), username: user, privateKey: fs.readFileSync(key), readyTimeout: 30000 });
