// The REST interface: one method a route that the page uses. Answers are the envelope's data; refusals are Problems.

import { freshId } from "./ids.js";
import { Problem } from "./problem.js";

export const PAGE_ROWS = 50;
export const LIST_ROWS = 200;
/** Pages of one list fetched in a row; a list beyond that is cut. */
export const LIST_PAGES_MAX = 10;
const CALL_TIMEOUT_MS = 20_000;

const part = encodeURIComponent;

function queryOf(parameters) {
  const given = Object.entries(parameters ?? {}).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

async function envelopeOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    body = null;
  }
  if (response.ok && body !== null) return body;
  throw new Problem({ status: response.status, detail: `The server answered ${response.status}.`, ...body });
}

/** Calls the server as the user of `session`. */
export class Api {
  constructor({ session, fetch = (...all) => globalThis.fetch(...all) }) {
    this.session = session;
    this.fetch = fetch;
  }

  async #once(method, path, { body, token, key }) {
    const headers = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (token) headers.Authorization = `Bearer ${token}`;
    if (key) headers["Idempotency-Key"] = key;
    const init = {
      method,
      headers,
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      cache: "no-store",
      credentials: "omit",
    };
    if (body !== undefined) init.body = JSON.stringify(body);
    let response;
    try {
      response = await this.fetch(`/v1${path}`, init);
    } catch {
      throw new Problem({ code: "unavailable", detail: "The server cannot be reached." });
    }
    return envelopeOf(response);
  }

  /** One call with a good token; a token that the server refuses is renewed once. Changes carry a key. */
  async #call(method, path, { query, body } = {}) {
    const address = path + queryOf(query);
    const key = method === "GET" ? undefined : freshId();
    const token = await this.accessToken();
    try {
      return await this.#once(method, address, { body, token, key });
    } catch (problem) {
      if (problem.code !== "unauthenticated") throw problem;
      const fresh =
        token === this.session.tokens?.access_token
          ? await this.accessToken({ refused: true })
          : await this.accessToken();
      return this.#once(method, address, { body, token: fresh, key });
    }
  }

  async #data(method, path, options) {
    return (await this.#call(method, path, options)).data;
  }

  /** All rows of a list, up to the bound: `{rows, complete}`. */
  async #all(path, query = {}, pages_max = LIST_PAGES_MAX) {
    const rows = [];
    let cursor;
    for (let page = 0; page < pages_max; page += 1) {
      const answer = await this.#call("GET", path, { query: { ...query, limit: LIST_ROWS, cursor } });
      rows.push(...answer.data);
      if (!answer.next) return { rows, complete: true };
      cursor = answer.next;
    }
    return { rows, complete: false };
  }

  accessToken(options) {
    const renew = async (refresh_token) =>
      (await this.#once("POST", "/sessions/refresh", { body: { refresh_token } })).data;
    return this.session.accessToken(renew, options);
  }

  async signUp({ user_id, password, name }) {
    const body = { user_id, password, ...(name && { name }) };
    return (await this.#once("POST", "/users", { body })).data;
  }

  async logIn({ user_id, password, stay }) {
    const body = { user_id, password, device_id: this.session.deviceId, device_kind: "web" };
    const { data } = await this.#once("POST", "/sessions", { body });
    this.session.begin(user_id, data, { stay });
  }

  logOut() {
    return this.#data("DELETE", "/sessions/current");
  }

  me() {
    return this.#data("GET", "/users/me");
  }
  changeMe(changes) {
    return this.#data("PATCH", "/users/me", { body: changes });
  }
  user(id) {
    return this.#data("GET", `/users/${part(id)}`);
  }
  async directory(query) {
    return (await this.#call("GET", "/users", { query: { query, limit: 20 } })).data;
  }

  blocks() {
    return this.#all("/blocks");
  }
  block(user) {
    return this.#data("PUT", `/blocks/${part(user)}`);
  }
  unblock(user) {
    return this.#data("DELETE", `/blocks/${part(user)}`);
  }

  conversations() {
    return this.#all("/conversations");
  }
  conversation(id) {
    return this.#data("GET", `/conversations/${part(id)}`);
  }
  setConversation(id, settings) {
    return this.#data("PATCH", `/conversations/${part(id)}`, { body: settings });
  }
  openDirect(user) {
    return this.#data("PUT", `/direct/${part(user)}`);
  }

  /** One page of messages: `{rows, next}`, ascending. */
  async messages(id, { before, after, around, cursor, limit = PAGE_ROWS } = {}) {
    const answer = await this.#call("GET", `/conversations/${part(id)}/messages`, {
      query: { before, after, around, cursor, limit },
    });
    return { rows: answer.data, next: answer.next ?? null };
  }

  message(id, seq) {
    return this.#data("GET", `/conversations/${part(id)}/messages/${seq}`);
  }
  async edits(id, seq) {
    return (await this.#call("GET", `/conversations/${part(id)}/messages/${seq}/edits`)).data;
  }

  async events(id, { after, limit = LIST_ROWS }) {
    const answer = await this.#call("GET", `/conversations/${part(id)}/events`, { query: { after, limit } });
    return { rows: answer.data, next: answer.next ?? null };
  }

  async search({ query, conversation_id, cursor }) {
    const answer = await this.#call("GET", "/search", {
      query: { query, conversation_id, cursor, limit: 30 },
    });
    return { rows: answer.data, next: answer.next ?? null };
  }

  createGroup(group) {
    return this.#data("POST", "/groups", { body: group });
  }
  group(id) {
    return this.#data("GET", `/groups/${part(id)}`);
  }
  changeGroup(id, changes) {
    return this.#data("PATCH", `/groups/${part(id)}`, { body: changes });
  }
  dissolve(id) {
    return this.#data("DELETE", `/groups/${part(id)}`);
  }
  members(id) {
    return this.#all(`/groups/${part(id)}/members`, {}, 5);
  }
  addMembers(id, user_ids) {
    return this.#data("POST", `/groups/${part(id)}/members`, { body: { user_ids } });
  }
  removeMember(id, user) {
    return this.#data("DELETE", `/groups/${part(id)}/members/${part(user)}`);
  }
  changeMember(id, user, changes) {
    return this.#data("PATCH", `/groups/${part(id)}/members/${part(user)}`, { body: changes });
  }
  join(id, answer = {}) {
    return this.#data("POST", `/groups/${part(id)}/join`, { body: answer });
  }
  leave(id) {
    return this.#data("POST", `/groups/${part(id)}/leave`);
  }
  transfer(id, to) {
    return this.#data("POST", `/groups/${part(id)}/transfer`, { body: { to } });
  }
  muteGroup(id) {
    return this.#data("PUT", `/groups/${part(id)}/mute`);
  }
  unmuteGroup(id) {
    return this.#data("DELETE", `/groups/${part(id)}/mute`);
  }
  invites(id) {
    return this.#all(`/groups/${part(id)}/invites`);
  }
  createInvite(id, limits) {
    return this.#data("POST", `/groups/${part(id)}/invites`, { body: limits });
  }
  revokeInvite(id, invite) {
    return this.#data("DELETE", `/groups/${part(id)}/invites/${part(invite)}`);
  }
  acceptInvite(code) {
    return this.#data("POST", `/invites/${part(code)}/accept`);
  }
}
