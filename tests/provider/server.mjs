// A real OAuth 2.0 / OpenID Connect provider for the tests: npm oidc-provider, on a loopback port of its own choice.
//
//   node server.mjs '{"accessTokenSeconds": 3600, "rotate": true, "clientId": ..., "clientSecret": ...}'
//
// The first line on stdout is JSON: {"port": ...}. It stops on SIGTERM, or when its standard input ends, so that
// it cannot outlive the tests. Paths under /admin/ stand in for the browser and for the provider's own staff.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { importJWK, jwtVerify } from 'jose';
import Provider from 'oidc-provider';
import { Adapter, accountOf, expireAccessTokens, revokeAccount } from './adapter.mjs';

const options = { accessTokenSeconds: 3600, rotate: true, ...JSON.parse(process.argv[2] ?? '{}') };
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const SCOPE = 'openid email offline_access';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const stats = { token_requests: [], me_requests: 0, me_success: {} };

function client(id, authMethod) {
  return {
    client_id: id,
    ...(authMethod === 'none' ? {} : { client_secret: options.clientSecret }),
    token_endpoint_auth_method: authMethod,
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    grant_types: [
      ...['authorization_code', 'refresh_token', ...(authMethod === 'none' ? [] : ['client_credentials'])],
      ...(options.pages ? [DEVICE_CODE] : []),
      ...(options.exchangeKey && id === options.clientId ? [EXCHANGE] : []),
    ],
  };
}

/** A client that proves itself with signed assertions: by the public half of its key, or (HS256) by its secret. */
function signingClient({ id, alg, jwk }) {
  const method = jwk ? 'private_key_jwt' : 'client_secret_jwt';
  return {
    ...client(id, method),
    token_endpoint_auth_signing_alg: alg,
    ...(jwk ? { client_secret: undefined, jwks: { keys: [jwk] } } : {}),
  };
}

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', kid: 'tests' };
}

function configuration() {
  return {
    adapter: Adapter,
    clients: [
      client(options.clientId, 'client_secret_basic'),
      client(`${options.clientId}-post`, 'client_secret_post'),
      client(`${options.clientId}-public`, 'none'),
      ...(options.signingClients ?? []).map(signingClient),
    ],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
    enabledJWA: {
      clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256', 'ES384', 'ES512', 'Ed25519', 'EdDSA'],
    },
    claims: { openid: ['sub'], email: ['email'] },
    scopes: ['openid', 'email', 'offline_access'],
    cookies: { keys: [randomBytes(16).toString('hex')] },
    jwks: { keys: [signingKey()] },
    features: {
      deviceFlow: { enabled: options.pages === true },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: options.pages === true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: { enabled: false },
      revocation: { enabled: true, allowedPolicy: () => true },
      userinfo: { enabled: true },
    },
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, ...(id.includes('@') ? { email: id } : {}) }),
    }),
    issueRefreshToken: () => true,
    renderError: (ctx, out) => {
      ctx.body = out;
    },
    rotateRefreshToken: () => options.rotate,
    ttl: {
      AccessToken: options.accessTokenSeconds,
      ClientCredentials: options.accessTokenSeconds,
      Grant: 30 * 86400,
      IdToken: 3600,
      RefreshToken: 30 * 86400,
    },
  };
}

/** RFC 8693, for the client that is configured first: the subject token must be signed with `exchangeKey`. */
async function exchange(ctx) {
  const { params, client: asking } = ctx.oidc;
  const fail = (error, description) => Object.assign(ctx, { status: 400, body: { error, error_description: description } });
  if ([].concat(params.audience ?? []).includes('nobody')) return fail('invalid_target', 'no such audience');
  let subject;
  try {
    const verified = await jwtVerify(params.subject_token, await importJWK(options.exchangeKey, 'ES256'));
    subject = verified.payload.sub;
  } catch {
    return fail('invalid_request', 'the subject token is not valid');
  }
  const token = new ctx.oidc.provider.ClientCredentials({ client: asking, scope: params.scope });
  stats.exchanges = [...(stats.exchanges ?? []), { ...params, subject }];
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    expires_in: token.expiration,
  };
}

function addExchange(provider) {
  const names = ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type'];
  provider.registerGrantType(EXCHANGE, exchange, [...names, 'audience', 'resource', 'scope'], ['audience', 'resource']);
}

/** Koa middleware around the provider: what was asked and how it ended. */
async function record(ctx, next) {
  await next();
  const account = ctx.oidc?.entities?.Account?.accountId ?? accountOf(ctx.oidc?.params?.refresh_token);
  if (ctx.oidc?.route === 'token') {
    stats.token_requests.push({
      account,
      client: ctx.oidc.entities.Client?.clientId,
      grant_type: ctx.oidc.params?.grant_type,
      ok: ctx.status === 200,
      error: ctx.body?.error,
    });
  } else if (ctx.oidc?.route === 'userinfo') {
    stats.me_requests += 1;
    if (ctx.status === 200) stats.me_success[account] = (stats.me_success[account] ?? 0) + 1;
  }
}

/** Mint what a sign-in would have: a grant, its refresh token and a first access token. */
async function mint(provider, { account, client: clientId, accessTokenSeconds }) {
  const found = await provider.Client.find(clientId);
  const grant = new provider.Grant({ accountId: account, clientId });
  grant.addOIDCScope(SCOPE);
  const grantId = await grant.save();
  const common = { accountId: account, client: found, grantId, gty: 'authorization_code', scope: SCOPE };
  const expiresIn = accessTokenSeconds ?? options.accessTokenSeconds;
  return {
    access_token: await new provider.AccessToken({ ...common, expiresIn }).save(),
    token_type: 'Bearer',
    expires_in: expiresIn,
    refresh_token: await new provider.RefreshToken(common).save(),
    scope: SCOPE,
  };
}

const admin = {
  'POST /admin/grant': (provider, body) => mint(provider, body),
  'POST /admin/revoke': (provider, { account }) => revokeAccount(account),
  'POST /admin/expire': (provider, { account }) => expireAccessTokens(account),
  'GET /admin/stats': () => stats,
};

async function answerAdmin(provider, request, response) {
  let status = 200;
  let answer;
  try {
    let body = '';
    for await (const chunk of request) body += chunk;
    answer = await admin[`${request.method} ${request.url}`](provider, JSON.parse(body || '{}'));
  } catch (error) {
    status = 500;
    answer = { error: String(error) };
  }
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(answer ?? {}));
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, configuration());
  if (options.exchangeKey) addExchange(provider);
  provider.use(record);
  const answerOAuth = provider.callback();
  server.on('request', (request, response) => {
    if (request.url.startsWith('/admin/')) answerAdmin(provider, request, response);
    else answerOAuth(request, response);
  });
  console.log(JSON.stringify({ port }));
});

process.stdin.on('end', () => process.exit(0)).resume();
process.on('SIGTERM', () => process.exit(0));
