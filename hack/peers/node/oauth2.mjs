// An OAuth2 server on a free loopback port: oauth2-mock-server, with what it leaves out.
//
// The package signs tokens and knows the grants, but believes every client, hands out tokens of an hour, and counts
// nothing. So: `PUT /_peer` sets, field by field, what stands in `settings` below; `GET /_peer` tells how often which
// grant was asked for; `GET /resource` is served to a token that is signed by us and not expired, else 401.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { OAuth2Server } from 'oauth2-mock-server';

const settings = {
  // Seconds a token lives.
  expires_in: 3600,
  // What a client must show, by Basic authentication or in the form; null: anything.
  client_id: null,
  client_secret: null,
  // The refresh token that is good now; null: any.
  refresh_token: null,
  // Whether each use of it gives a new one, and ends the old.
  rotate: false,
  // Milliseconds that an answer of the token endpoint is held back.
  delay_ms: 0,
  // A status that the token endpoint answers instead.
  status: null,
};
// Asked: every request to the token endpoint. The others: what came of it.
const counts = { asked: 0, granted: 0, refused: 0, refreshed: 0, resource: 0, unauthorized: 0 };

const oauth = new OAuth2Server();
await oauth.issuer.keys.generate('RS256');
const { service, issuer } = oauth;

function credentials(request) {
  const basic = /^Basic (.+)$/i.exec(request.headers.authorization ?? '');
  if (!basic) return [request.body.client_id, request.body.client_secret];
  const [id, ...secret] = Buffer.from(basic[1], 'base64').toString().split(':');
  return [decodeURIComponent(id), decodeURIComponent(secret.join(':'))];
}

function refusal(request) {
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
service.on('beforeResponse', (answer, request) => {
  const refused = refusal(request);
  if (refused) {
    counts.refused += 1;
    [answer.statusCode, answer.body] = [refused[0], { error: refused[1] }];
    return;
  }
  counts.granted += 1;
  answer.body.expires_in = settings.expires_in;
  if (request.body.grant_type !== 'refresh_token') return;
  counts.refreshed += 1;
  if (settings.rotate) settings.refresh_token = answer.body.refresh_token;
  else delete answer.body.refresh_token;
});

function json(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function control(request, response) {
  if (request.method === 'PUT') {
    let text = '';
    for await (const chunk of request) text += chunk;
    const wanted = JSON.parse(text);
    const unknown = Object.keys(wanted).filter((key) => !(key in settings));
    if (unknown.length) return json(response, 400, { unknown });
    Object.assign(settings, wanted);
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
    counts.asked += 1;
    if (settings.delay_ms > 0) await sleep(settings.delay_ms);
  }
  return service.requestHandler(request, response);
});
server.listen(0, '127.0.0.1', () => {
  issuer.url = `http://127.0.0.1:${server.address().port}`;
  console.log(`listening on ${issuer.url}`);
});
