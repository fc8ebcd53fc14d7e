// An OAuth2 server on a free loopback port: oauth2-mock-server, with additions.
//
// The package signs tokens and implements the grants, but accepts every client, issues tokens for one hour and counts
// nothing. So `PUT /_peer` sets fields of `settings` below, `GET /_peer` returns the counts of requests, and
// `GET /resource` requires a token that this server signed and that has not expired, else it answers 401.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { OAuth2Server } from 'oauth2-mock-server';

const settings = {
  // Lifetime of a token, in seconds.
  expires_in: 3600,
  // Required client credentials, by Basic authentication or in the form; null: any.
  client_id: null,
  client_secret: null,
  // The valid refresh token; null: any.
  refresh_token: null,
  // Whether each use returns a new refresh token and revokes the old one.
  rotate: false,
  // Delay of responses of the token endpoint, in milliseconds.
  delay_ms: 0,
  // A status that the token endpoint returns instead; null: none.
  status: null,
};
// `requests`: every request to the token endpoint. The others: their results.
const counts = { requests: 0, granted: 0, rejected: 0, refreshed: 0, resource: 0, unauthorized: 0 };

const oauth = new OAuth2Server();
await oauth.issuer.keys.generate('RS256');
const { service, issuer } = oauth;

function credentials(request) {
  const basic = /^Basic (.+)$/i.exec(request.headers.authorization ?? '');
  if (!basic) return [request.body.client_id, request.body.client_secret];
  const [id, ...secret] = Buffer.from(basic[1], 'base64').toString().split(':');
  return [decodeURIComponent(id), decodeURIComponent(secret.join(':'))];
}

function rejection(request) {
  const [id, secret] = credentials(request);
  if (settings.status !== null) return [settings.status, 'temporarily_unavailable'];
  if (settings.client_id !== null && settings.client_id !== id) return [401, 'invalid_client'];
  if (settings.client_secret !== null && settings.client_secret !== secret) return [401, 'invalid_client'];
  const stale = settings.refresh_token !== null && settings.refresh_token !== request.body.refresh_token;
  if (request.body.grant_type === 'refresh_token' && stale) return [400, 'invalid_grant'];
  return null;
}

service.on('beforeTokenSigning', (token) => {
  token.payload.exp = token.payload.iat + settings.expires_in;
});
service.on('beforeResponse', (reply, request) => {
  const rejected = rejection(request);
  if (rejected) {
    counts.rejected += 1;
    [reply.statusCode, reply.body] = [rejected[0], { error: rejected[1] }];
    return;
  }
  counts.granted += 1;
  reply.body.expires_in = settings.expires_in;
  if (request.body.grant_type !== 'refresh_token') return;
  counts.refreshed += 1;
  if (settings.rotate) settings.refresh_token = reply.body.refresh_token;
  else delete reply.body.refresh_token;
});

function json(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function control(request, response) {
  if (request.method === 'PUT') {
    let text = '';
    for await (const chunk of request) text += chunk;
    const changes = JSON.parse(text);
    const unknown = Object.keys(changes).filter((key) => !(key in settings));
    if (unknown.length) return json(response, 400, { unknown });
    Object.assign(settings, changes);
  }
  return json(response, 200, counts);
}

async function resource(request, response) {
  counts.resource += 1;
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '');
  try {
    await jwtVerify(token?.[1] ?? '', createLocalJWKSet({ keys: issuer.keys.toJSON() }), { issuer: issuer.url });
  } catch {
    counts.unauthorized += 1;
    return json(response, 401, { error: 'invalid_token' });
  }
  return json(response, 200, { ok: true });
}

const server = http.createServer(async (request, response) => {
  const path = new URL(request.url, 'http://peer').pathname;
  if (path === '/_peer') return control(request, response);
  if (path === '/resource') return resource(request, response);
  if (path === '/token') {
    counts.requests += 1;
    if (settings.delay_ms > 0) await sleep(settings.delay_ms);
  }
  return service.requestHandler(request, response);
});
server.listen(0, '127.0.0.1', () => {
  issuer.url = `http://127.0.0.1:${server.address().port}`;
  console.log(`listening on ${issuer.url}`);
});
