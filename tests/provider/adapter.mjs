// Where the test provider keeps everything: one Map for the life of the process.
//
// oidc-provider's own quick-start adapter forgets the oldest of 1,000 records; a test with many accounts
// would then see healthy grants answered with invalid_grant.

const records = new Map(); // "Model:id" -> payload
const accountOfRefreshToken = new Map(); // survives the token, so that a refused one can be attributed

const keyOf = (model, id) => `${model}:${id}`;

function removeWhere(unwanted) {
  for (const [key, payload] of records) {
    if (unwanted(key.slice(0, key.indexOf(':')), payload, key)) records.delete(key);
  }
}

export class Adapter {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    records.set(keyOf(this.model, id), payload);
    if (this.model === 'RefreshToken') accountOfRefreshToken.set(id, payload.accountId);
  }

  async find(id) {
    return records.get(keyOf(this.model, id));
  }

  async findByUid(uid) {
    return [...records.values()].find((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return [...records.values()].find((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    records.get(keyOf(this.model, id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    records.delete(keyOf(this.model, id));
  }

  async revokeByGrantId(grantId) {
    removeWhere((model, payload) => payload.grantId === grantId);
  }
}

export function accountOf(refreshToken) {
  return accountOfRefreshToken.get(refreshToken);
}

/** Forget every grant of the account, and with it every token: what a user does on a provider's security page. */
export function revokeAccount(account) {
  removeWhere((model, payload) => payload.accountId === account && model !== 'Session');
}

/** Forget the account's access tokens only; its refresh token goes on working. */
export function expireAccessTokens(account) {
  removeWhere((model, payload) => model === 'AccessToken' && payload.accountId === account);
}
