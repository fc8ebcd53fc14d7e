// Mountebank on a free loopback port. Its own command requires a port number, and a port that is free when chosen may be
// taken when it is bound.
import mountebank from 'mountebank';

const host = '127.0.0.1';
const app = await mountebank.createApp({
  host,
  port: 0,
  localOnly: true,
  ipWhitelist: ['*'],
  log: { level: 'warn', transports: { console: { colorize: false, format: '%level: %message' } } },
});
const server = app.listen(0, host, () => console.log(`listening on http://${host}:${server.address().port}`));
